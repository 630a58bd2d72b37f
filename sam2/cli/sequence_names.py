"""The option `--sequences`: names out of a file or a list with commas."""

from __future__ import annotations

from pathlib import Path


def sequence_names(given: str | None) -> frozenset[str] | None:
    """The names that are meant; None for all.

    Raises:
        ValueError: it is neither a file nor a list of names.
        EvaluationError: the file is not a list of names.
    """
    if given is None:
        return None
    from sam2.evaluation.meta import read_names

    path = Path(given)
    if path.is_file():
        return read_names(path)
    names = frozenset(name.strip() for name in given.split(",") if name.strip())
    if not names or path.suffix == ".txt":
        raise ValueError(f"--sequences {given}: is no file, and no list of names with commas")
    return names
