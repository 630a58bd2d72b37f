"""Which file an image of a Label Studio task is: the task names where Label Studio had it, not where it is now."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from data.clip import DataError
from data.formats.inside import inside

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # Label Studio puts this before the names of uploaded files


def image_file(folder: Path, name: Any, where: str, is_alone: bool) -> Path:
    """The file in `folder` that a task's image is.

    Looked for in this order: the path that is named (without server, bucket, /data/upload/ or /data/local-files/?d=),
    its last part, and its last part without what Label Studio has put before it.

    Args:
        folder: of the images.
        name: what the task says.
        where: file and task, for the message.
        is_alone: no other task has an image of this `bare_name`; else the path as it is named alone counts.

    Raises:
        DataError: none of these is there; or the path leaves the folder.
    """
    if not isinstance(name, str) or not name:
        raise DataError(
            f"{where}: names no image, got {str(name)[:80]}; which field of `data` does? (field=NAME)"
        )
    path = _path(name, where).lstrip("/")
    last = path.rpartition("/")[2]
    names = [path, last, bare_name(name, where)] if is_alone else [path]
    places = [inside(folder, candidate, where) for candidate in names]
    for place in places:
        if place.is_file():
            return place
    several = "" if is_alone else " (several tasks have images of this name, so only the whole path counts)"
    raise DataError(
        f"{where}: no image {path[:200]} in {folder}{several}; put it there, or name the folder: images=NAME"
    )


def bare_name(name: Any, where: str) -> str:
    """The last part of what a task says, without what Label Studio has put before it; "" if it says nothing."""
    if not isinstance(name, str):
        return ""
    last = _path(name, where).rpartition("/")[2]
    uploaded = _UPLOADED.fullmatch(last)
    return uploaded[1] if uploaded else last


def _path(name: str, where: str) -> str:
    """Of a URL or a path."""
    try:
        url = urlsplit(name)
        local = parse_qs(url.query).get("d", [])
    except ValueError as error:
        raise DataError(f"{where}: names the image {name[:80]!r} ({error})") from error
    if url.path.rstrip("/").endswith("/data/local-files") and local:
        return local[-1]
    if url.scheme or name.startswith("/data/"):
        plain = unquote(url.path)
        return plain.removeprefix("/data/upload/")
    return name
