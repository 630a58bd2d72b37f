"""What a folder holds, in a few words, for messages about a folder that is not what was expected."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

_MOST_ENTRIES = 1000  # looked at; a folder may hold millions
_FRAMES, _MASKS = "JPEGImages", "Annotations"


def look(folder: Path) -> str:
    """What is in `folder`: "nothing", or videos, or frames with masks, or the names of the first entries."""
    names = _names(folder)
    if not names:
        return "nothing"
    inside = [folder, *(folder / name for name in names[:20] if (folder / name).is_dir())]
    for place in inside:
        if (place / _FRAMES).is_dir() and (place / _MASKS).is_dir():
            where = "" if place == folder else f" in {place.name}/"
            return (
                f"{_FRAMES}/ and {_MASKS}/{where} (frames and masks as pictures, as DAVIS and MOSE have them)"
            )
    for place in inside:
        videos = [name for name in (names if place == folder else _names(place)) if name.endswith(".mp4")]
        if videos:
            where = "" if place == folder else f"{place.name}/"
            return f"videos ({where}{videos[0]}{', ...' if len(videos) > 1 else ''})"
    shown = [f"{name}/" if (folder / name).is_dir() else name for name in names[:3]]
    return ", ".join(shown) + (", ..." if len(names) > 3 else "")


def _names(folder: Path) -> list[str]:
    """The first entries, sorted; those that are hidden are left out."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_ENTRIES)]
    except OSError:  # a folder that may not be read has nothing to show
        return []
    return sorted(name for name in names if not name.startswith("."))
