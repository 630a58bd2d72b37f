"""Data sets that can be converted to shards.

One file here is one source: a module with a dataclass `Source` whose first field is `root`, the other fields are its
options, and whose `clips()` yields the annotated videos. Its name is the file's name; nothing else needs an edit.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, cast

from data.clip import AnnotatedVideo, DataError


class VideoSource(Protocol):
    """What `data.write.convert` needs of a source: a dataclass with this field, this length and this method."""

    @property
    def root(self) -> Path:
        """The folder it reads."""

    def __len__(self) -> int:
        """Number of clips that `clips` will yield, for the progress display."""

    def clips(self) -> Iterator[AnnotatedVideo | DataError]:
        """Every clip in a fixed order; one that cannot be read comes as the error that says why."""


def source_names() -> list[str]:
    """Names of all sources."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_source(name: str, root: str | Path, **options: Any) -> VideoSource:
    """The source `name` over the files in `root`.

    Raises:
        DataError: no such source, folder or option.
    """
    names = source_names()
    if name not in names:
        raise DataError(f"unknown source {name!r}{_hint(name, names)}; known: {', '.join(names)}")
    source_type = importlib.import_module(f"{__name__}.{name}").Source
    known = [f.name for f in fields(source_type) if f.init and f.name != "root"]
    for option in options:
        if option not in known:
            raise DataError(
                f"source {name!r} has no option {option!r}{_hint(option, known)}; known: {', '.join(known)}"
            )
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    return cast(VideoSource, source_type(root, **options))


def _hint(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
