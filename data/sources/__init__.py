"""Data sets that can be converted to shards.

One file here is one source: a module with a dataclass `Source` whose first field is `root`, the other fields are its
options, and whose `clips()` lists the clips, each with a function that reads it. Its name is the file's name; nothing
else needs an edit.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, cast

from data.clip import DataError, SourceClip


class VideoSource(Protocol):
    """What `data.write.convert` needs of a source: a dataclass with this field and this method."""

    @property
    def root(self) -> Path:
        """The folder or file it reads."""

    def clips(self) -> list[SourceClip]:
        """Every clip in a fixed order.

        Raises:
            DataError: the layout is not this source's; says what was expected and found.
        """


def source_names() -> list[str]:
    """Names of all sources."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def describe(name: str) -> tuple[str, str]:
    """The first line of what a source's file says, and all of it with its options.

    Raises:
        DataError: no such source.
    """
    module = _module(name)
    text, options = inspect.getdoc(module) or "", inspect.getdoc(module.Source) or ""
    return text.partition("\n")[0], f"{text}\n\n{options}"


def load_source(name: str, root: str | Path, **options: Any) -> VideoSource:
    """The source `name` over the files in `root`.

    Raises:
        DataError: no such source, folder or option.
    """
    source_type = _module(name).Source
    known = [f.name for f in fields(source_type) if f.init and f.name != "root"]
    for option in options:
        if option not in known:
            raise DataError(
                f"source {name!r} has no option {option!r}{_hint(option, known)}; known: {', '.join(known)}"
            )
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    return cast(VideoSource, source_type(root, **options))


def _module(name: str) -> Any:
    names = source_names()
    if name not in names:
        raise DataError(f"unknown source {name!r}{_hint(name, names)}; known: {', '.join(names)}")
    return importlib.import_module(f"{__name__}.{name}")


def _hint(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
