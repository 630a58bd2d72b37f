"""Where the folders of videos are in a tree: patterns such as VIDEO/frames or frames/VIDEO, found or given."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from data.clip import DataError
from data.formats.frame_folder import folders_in, images_in
from data.formats.inside import inside

VIDEO = "VIDEO"
FRAMES = ("frames", "images", "imgs", "img", "rgb", "jpegimages")
MASKS = ("masks", "mask", "labels", "annotations", "gt", "segmentations")

Pattern = tuple[str, ...]
"""The parts of a path; one is VIDEO and stands for every video's name, or none is: the tree holds one video."""


def parse(text: str, option: str, root: Path) -> Pattern:
    """The pattern that an option gives.

    Raises:
        DataError: VIDEO comes twice, or the path leaves the tree.
    """
    inside(root, text, option)
    parts = PurePosixPath(text).parts
    if parts.count(VIDEO) > 1 or any(VIDEO in part and part != VIDEO for part in parts):
        raise DataError(f"{option}={text}: {VIDEO} stands for one whole folder name, as in frames/{VIDEO}")
    return parts


def complete(parts: Pattern, root: Path) -> Pattern:
    """A plain folder name as a pattern: NAME/VIDEO if ROOT has NAME, NAME if that has only images, else VIDEO/NAME."""
    if VIDEO in parts:
        return parts
    folder = root.joinpath(*parts)
    if not folder.is_dir():
        return (VIDEO, *parts)
    return parts if images_in(folder) and not folders_in(folder) else (*parts, VIDEO)


def alike(parts: Pattern, pattern: Pattern) -> Pattern:
    """A plain folder name as a pattern with VIDEO where `pattern` has it."""
    if VIDEO in parts or VIDEO not in pattern:
        return parts
    return (VIDEO, *parts) if pattern[0] == VIDEO else (*parts, VIDEO)


def find(root: Path, pattern: Pattern) -> dict[str, Path]:
    """By name, the folder of every video, in the order of the names; of a pattern without VIDEO the root's name."""
    if VIDEO not in pattern:
        folder = root.joinpath(*pattern)
        return {root.resolve().name: folder} if folder.is_dir() else {}
    at = pattern.index(VIDEO)
    above = root.joinpath(*pattern[:at])
    found = {place.name: place.joinpath(*pattern[at + 1 :]) for place in _folders(above)}
    return {name: folder for name, folder in found.items() if folder.is_dir()}


def recognise(root: Path) -> tuple[Pattern, Pattern] | None:
    """Patterns of frames and masks that fit a tree whose folders have usual names; None if there are none.

    Raises:
        DataError: several fit.
    """
    found = _pair(root)
    if found:
        frames = complete((found[0],), root)
        return frames, alike((found[1],), frames)
    for place in _folders(root):
        found = _pair(place)
        if found:
            return (VIDEO, found[0]), (VIDEO, found[1])
    return None


def _pair(folder: Path) -> tuple[str, str] | None:
    """The names of the folders of frames and masks in a folder."""
    names = [place.name for place in _folders(folder)]
    frames, masks = _called(names, FRAMES), _called(names, MASKS)
    if not frames or not masks:
        return None
    if len(frames) > 1 or len(masks) > 1:
        raise DataError(
            f"{folder}: has the folders {', '.join([*frames, *masks])}; say which to read with frames= and masks="
        )
    return frames[0], masks[0]


def _called(names: Sequence[str], known: Collection[str]) -> list[str]:
    return [name for name in names if name.lower() in known]


def _folders(place: Path) -> list[Path]:
    return folders_in(place) if place.is_dir() else []
