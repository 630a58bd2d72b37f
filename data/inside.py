"""Paths that files of others name: they stay inside the folder they are meant for."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath
from typing import Any

from data.clip import DataError

_MOST_LETTERS = 4096


def inside(root: Path, name: Any, where: str, base: Path | None = None) -> Path:
    """The file or folder `name` somewhere in `root`; links that the user has set are followed.

    Args:
        root: what it must stay in.
        name: a relative path with "/", from a file that is not trusted.
        where: that file, and the place in it, for the message.
        base: the folder in `root` that the path begins at; None: `root`.

    Raises:
        DataError: no text, empty, absolute, or it leaves `root`.
    """
    good = isinstance(name, str) and name.isprintable() and 0 < len(name) < _MOST_LETTERS
    if good and not name.startswith("/") and "\\" not in name and not PureWindowsPath(name).drive:
        path = Path(os.path.normpath((base or root) / name))
        if Path(os.path.normpath(root)) in path.parents:
            return path
    raise DataError(f"{where}: {str(name)[:80]!r} is not a relative path inside {root}; correct it")
