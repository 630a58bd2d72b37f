"""Masks of one frame in and out of files: prompts drawn by hand, run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco


class MaskFileError(ValueError):
    """A mask file that cannot be read, or does not say which pixels are meant."""


def read_mask(path: Path, object_id: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of an object in an image file, (H, W).

    One value beside 0 is the object, whatever it is. Of a palette image with several, which is how data sets store the
    objects of a frame, the value `object_id` is.

    Args:
        path: palette, grey or black-and-white image.
        object_id: of the object.
        size: height and width that the image must have.

    Raises:
        MaskFileError: naming the file.
    """
    values, is_palette = _read(path, size)
    ids = np.unique(values[values != 0]).tolist()
    if not ids:
        raise MaskFileError(f"mask {path} is empty: all its pixels are 0")
    if len(ids) == 1:
        return values != 0
    if is_palette and object_id in ids:
        return values == object_id
    listed = ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
    remedy = f"choose one with --object, now {object_id}" if is_palette else "expected one beside 0"
    raise MaskFileError(f"mask {path} has the values {listed}; {remedy}")


def _read(path: Path, size: tuple[int, int]) -> tuple[NDArray[Any], bool]:
    """The values of a single-channel image, and whether they are places in a palette."""
    if not path.is_file():
        raise MaskFileError(f"mask {path} {'is no file' if path.exists() else 'does not exist'}")
    try:
        with Image.open(path) as image:
            # before its pixels are decoded: a header can promise any number of them
            if (image.height, image.width) != size:
                raise MaskFileError(
                    f"mask {path} is {image.width}x{image.height}, the frames are {size[1]}x{size[0]} (width x height)"
                )
            if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
                raise MaskFileError(
                    f"mask {path} is a {image.mode} image; save it as grey, black and white or palette"
                )
            return np.array(image), image.mode == "P"
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise MaskFileError(f"mask {path} is no image that can be read ({error})") from error


def run_lengths(masks: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Masks (O, H, W) as COCO's compressed run lengths, `{"size": [H, W], "counts": text}` each."""
    packed = coco.encode(np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8))
    return [{"size": list(map(int, one["size"])), "counts": one["counts"].decode("ascii")} for one in packed]


def from_run_lengths(packed: Sequence[dict[str, Any]]) -> NDArray[np.bool_]:
    """What `run_lengths` was given."""
    return np.ascontiguousarray(coco.decode(list(packed)).transpose(2, 0, 1)).astype(bool)


def areas(packed: Sequence[dict[str, Any]]) -> list[int]:
    """Pixels of each mask."""
    return [int(area) for area in coco.area(list(packed))]
