"""Masks that come as image files: maps of object ids, or one object a file. Values are taken as they are stored."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from data.checking.finding import notice
from data.clip import DataError
from data.media import MAX_PIXELS
from data.rle import encode_labels, encode_mask
from data.shard import MAX_CELLS

_BROKEN = (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError)
VOID = 255  # of 8-bit maps of ids: "not decided" in some data sets, an object in others
_MODES = ("1", "L", "P", "I;16", "I;16B", "I")


@dataclass(frozen=True)
class MaskTable:
    """The masks of a clip: `rows[object][frame]`, COCO strings of `height` x `width`, "" where the object is absent."""

    object_ids: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...]
    height: int
    width: int


def read_labels(path: Path) -> NDArray[Any]:
    """The values of an image (H, W): palette indices, grey levels of 8 or 16 bits, or 0 and 255.

    Raises:
        DataError: not an image, too large, or colours instead of values.
    """
    with _open(path) as image:
        if image.mode not in _MODES:
            raise DataError(
                f"{path}: is a {image.mode} image, expected object ids (palette, or grey of 8 or 16 bits); save the "
                "ids, not their colours",
                "palette-as-rgb",
            )
        return np.asarray(image.convert("L") if image.mode == "1" else image)


def has_colours(path: Path) -> bool:
    """Whether an image holds colours, which can be no ids. Errors as in `read_labels`, but not for colours."""
    with _open(path) as image:
        return image.mode not in _MODES


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask (H, W) of one object: where the image is not 0, or, if it has colours, not black.

    Raises:
        DataError: not an image, too large, or it has several values beside 0.
    """
    with _open(path) as image:
        is_palette = image.mode == "P"
        values = np.asarray(image if image.mode in _MODES else image.convert("RGB").convert("L"))
    highest = values.max(initial=0)
    mask = values != 0
    if (mask & (values != highest)).any():
        found = np.unique(values).tolist()
        listed = ", ".join(map(str, found[:4])) + (", ..." if len(found) > 4 else "")
        several = (
            "it holds several objects"
            if is_palette
            else "it is blurred (JPEG does that) or holds several objects"
        )
        raise DataError(
            f"{path}: has the values {listed}, expected 0 and one other; {several}",
            "palette-as-rgb" if has_colours(path) else "mask-file",
        )
    return mask


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{path}: {image.height}x{image.width} is too large for a mask; make it smaller",
                    "mask-file",
                )
            yield image
    except DataError:
        raise
    except _BROKEN as error:
        raise DataError(
            f"{path}: not a readable image ({error}); restore or remove it", "mask-file"
        ) from error


def label_table(paths: Sequence[Path], ignore: Collection[int] = ()) -> MaskTable:
    """The masks of a clip from one map of ids for each annotated frame; 0 and ids in `ignore` are background.

    Raises:
        DataError: a file cannot be read, or they differ in size.
    """
    frames: list[dict[int, str]] = []
    size: tuple[int, ...] = ()
    for path in paths:
        labels = read_labels(path)
        size = size or labels.shape
        _expect_size(path, labels.shape, size, paths[0])
        tell_of_void(path, labels, ignore)
        frames.append(encode_labels(labels, ignore))
        if len(frames) * len(frames[-1]) > MAX_CELLS:
            raise DataError(f"{path}: {len(frames[-1])} objects in {len(frames)} frames are too many")
    ids = sorted({i for frame in frames for i in frame})
    rows = tuple(tuple(frame.get(i, "") for frame in frames) for i in ids)
    return MaskTable(tuple(ids), rows, *(int(side) for side in size))


def tell_of_void(path: Path, labels: NDArray[Any], ignore: Collection[int]) -> None:
    """Say that a map of ids has pixels of 255, if they are read as background."""
    if VOID in ignore and labels.dtype == np.uint8 and (pixels := int(np.count_nonzero(labels == VOID))):
        message = f"{pixels} pixels have the value 255, which is read as background"
        notice("note", "void-255", path, message, "right if 255 is void; give objects other ids")


def object_table(paths: Mapping[int, Sequence[Path | None]]) -> MaskTable:
    """The masks of a clip from files of one object each: for each id one path an annotated frame, None where absent.

    Raises:
        DataError: a file cannot be read or holds several objects, they differ in size, or there is none.
    """
    size: tuple[int, ...] = ()
    first: Path | None = None
    rows = []
    for row in paths.values():
        found = []
        for path in row:
            if path is None:
                found.append("")
                continue
            mask = read_mask(path)
            size, first = size or mask.shape, first or path
            _expect_size(path, mask.shape, size, first)
            found.append(encode_mask(mask))
        rows.append(tuple(found))
    if first is None:
        raise DataError("no mask file in any frame; annotate the clip or leave it out", "image-without-mask")
    return MaskTable(tuple(paths), tuple(rows), *(int(side) for side in size))


def _expect_size(path: Path, size: tuple[int, ...], expected: tuple[int, ...], first: Path) -> None:
    if size != expected:
        raise DataError(
            f"{path}: is {size[0]}x{size[1]}, {first.name} is {expected[0]}x{expected[1]}; "
            "a clip's masks have one size",
            "size-mismatch",
        )
