"""Paths that files of others name: they stay inside the folder they are meant for."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath
from typing import Any, TypeGuard

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
    if _is_name(name) and not name.startswith("/") and "\\" not in name and not PureWindowsPath(name).drive:
        path = Path(os.path.normpath((base or root) / name))
        # absolute: ".", too, counts as a parent of "../x"
        if Path(os.path.abspath(root)) in Path(os.path.abspath(path)).parents:
            return path
    raise DataError(f"{where}: {str(name)[:80]!r} is not a relative path inside {root}; correct it")


def _is_name(name: Any) -> TypeGuard[str]:
    """Whether a file may be called so: text without control characters that the file system can express."""
    if not isinstance(name, str) or not 0 < len(name) < _MOST_LETTERS:
        return False
    try:
        return min(os.fsencode(name)) >= ord(" ")
    except UnicodeEncodeError:  # half a character
        return False
