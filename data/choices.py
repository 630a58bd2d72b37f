"""Options that are one of a few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from data.clip import DataError


def check_choices(source: object, choices: Mapping[str, Sequence[str]]) -> None:
    """See that each option of a source, by its name, is one of its words.

    Raises:
        DataError: one is not.
    """
    for option, known in choices.items():
        found = getattr(source, option)
        if found not in known:
            raise DataError(f"{option} must be {' or '.join(known)}, got {found!r}")
