"""Clips that are folders of images, one a frame, with masks as images of the same names beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data.checking.finding import notice
from data.clip import AnnotatedVideo, DataError, ImageFiles
from data.formats.label_images import MaskTable
from data.media import IMAGE_SUFFIXES


def natural(path: Path) -> tuple[Any, ...]:
    """Sorts `frame_2` before `frame_10`."""
    parts = re.split(r"(\d+)", path.name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def folders_in(root: Path) -> list[Path]:
    """The folders of `root`, sorted; hidden ones are left out."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def images_in(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> list[Path]:
    """The images of a folder in the order of the numbers in their names; hidden files are left out."""
    wanted = tuple(suffixes)
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in wanted and not path.name.startswith(".") and path.is_file()
    ]
    found.sort(key=natural)
    _tell_of_order(folder, found)
    return found


def _tell_of_order(folder: Path, paths: Sequence[Path]) -> None:
    """Say where tools that sort by letters would take files in another order."""
    names = [path.name for path in paths]
    for first, second in zip(names, names[1:], strict=False):
        if first > second:
            message = f"{first} is read before {second}; tools that sort by letters take {second} first"
            remedy = "write all numbers with as many digits"
            return notice("warning", "name-order", folder, message, remedy)


def by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    """The files by their names without ending.

    Raises:
        DataError: two have the same.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise DataError(
                f"{path}: and {found[path.stem].name} are one frame twice; remove one of them",
                "duplicate-frame",
            )
        found[path.stem] = path
    return found


def frame_numbers(frames: Sequence[Path]) -> list[int]:
    """The numbers of all frames of a folder: what their names say where all are numbers and rise, else 0, 1, 2, ..."""
    numbers = [int(path.stem) for path in frames if path.stem.isdecimal()]
    rises = all(a < b for a, b in zip(numbers, numbers[1:], strict=False))
    is_usable = len(numbers) == len(frames) and rises and max(numbers, default=0) < 2**31
    return numbers if is_usable else list(range(len(frames)))


def pair(frames: Sequence[Path], masks: Sequence[Path]) -> list[tuple[int, Path, Path]]:
    """Number, frame and mask of every annotated frame.

    Raises:
        DataError: a mask without its frame, or no mask at all.
    """
    places = {stem: k for k, stem in enumerate(by_stem(frames))}
    numbers = frame_numbers(frames)
    by_stem(masks)
    lost = [mask for mask in masks if mask.stem not in places]
    if lost:
        beside = frames[0].parent if frames else "no folder of frames"
        raise DataError(
            f"{lost[0]}: no frame {lost[0].stem} in {beside}; restore the frame or remove the mask"
            + (f" ({len(lost)} masks have none)" if len(lost) > 1 else ""),
            "mask-without-image",
        )
    return [(numbers[places[mask.stem]], frames[places[mask.stem]], mask) for mask in masks]


def image_clip(
    key: str, frames: Sequence[tuple[int, Path]], table: MaskTable, fps: float, meta: dict[str, Any]
) -> AnnotatedVideo:
    """A clip of image files.

    Args:
        key: of the clip.
        frames: number and file of each annotated frame.
        table: their masks.
        fps: of the numbering; 0 for a single image.
        meta: see `AnnotatedVideo`.
    """
    return AnnotatedVideo(
        key=key,
        media=ImageFiles(tuple(path for _, path in frames)),
        height=table.height,
        width=table.width,
        fps=fps,
        frame_index=tuple(number for number, _ in frames),
        object_ids=table.object_ids,
        masks=table.rows,
        meta=meta,
    )
