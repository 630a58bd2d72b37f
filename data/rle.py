"""COCO compressed run-length masks, checked before any native code sees them.

pycocotools accepts strings that end inside a number, runs that overshoot the picture and negative runs, and answers
with garbage. Masks come from files that others made, so every string passes through `run_lengths` first.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pycocotools.mask
from numpy.typing import NDArray

from data.clip import DataError

_MAX_DIGITS = 7  # 7 x 5 bits hold any run of a picture of 16384 x 16384


def run_lengths(counts: str, height: int, width: int, where: str) -> NDArray[np.int64]:
    """The runs of a mask, column by column, background first.

    Args:
        counts: COCO compressed string (base 48, 5 bits a character, differences to the run before the last).
        height: pixels.
        width: pixels.
        where: file, clip, frame and object, for the message.

    Returns:
        (R,) runs that sum to height x width.

    Raises:
        DataError: the string is not such a mask.
    """
    remedy = f"{where}: not a COCO RLE of a {height}x{width} mask"
    try:
        digits = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise DataError(f"{remedy} (characters outside ASCII); export the mask again") from None
    if digits.size == 0 or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise DataError(f"{remedy} (empty, cut off, or strange characters); export the mask again")
    last = np.flatnonzero((digits & 32) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if lengths.max() > _MAX_DIGITS:
        raise DataError(f"{remedy} (a run is too long); export the mask again")
    place = np.arange(digits.size) - np.repeat(first, lengths)
    runs = np.add.reduceat((digits & 31) << (5 * place), first)
    runs -= np.where(digits[last] & 16, np.int64(1) << (5 * lengths), 0)  # sign
    # From the fourth number on each is the difference to the run of the same colour before it.
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0 or runs.max() > height * width or runs.sum() != height * width:
        raise DataError(
            f"{remedy} (its runs do not add up to {height * width} pixels); export the mask again"
        )
    return runs


def area(counts: str, height: int, width: int, where: str) -> int:
    """Pixels of a mask; "" is the empty mask. Errors as in `run_lengths`."""
    return int(run_lengths(counts, height, width, where)[1::2].sum()) if counts else 0


def box_of(runs: NDArray[np.int64], height: int) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a mask that is not empty, the last two one beyond it, from its `run_lengths`."""
    ends = np.cumsum(runs)
    first, last = ends[:-1:2], ends[1::2] - 1  # pixels of the object's runs, column by column
    first, last = first[: len(last)][runs[1::2] > 0], last[runs[1::2] > 0]
    columns = first // height, last // height
    crosses = bool((columns[0] != columns[1]).any())
    top, bottom = (0, height) if crosses else (int((first % height).min()), int((last % height).max()) + 1)
    return top, int(columns[0].min()), bottom, int(columns[1].max()) + 1


def decode_columns(runs: NDArray[np.int64], height: int, left: int, right: int) -> NDArray[np.uint8]:
    """Columns `left` to `right` of a mask from its `run_lengths`: (right - left, height), 0 or 1."""
    ends = np.cumsum(runs)
    low, high = left * height, right * height
    inside = np.clip(ends, low, high) - np.clip(ends - runs, low, high)
    return np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, inside).reshape(right - left, height)


def encode_mask(mask: NDArray[Any]) -> str:
    """A mask (H, W), true or not 0 where the object is, as its COCO string; "" if it is empty."""
    if not mask.any():
        return ""
    return pycocotools.mask.encode(np.asfortranarray(mask != 0, np.uint8))["counts"].decode("ascii")


def encode_labels(labels: NDArray[Any], ignore: Collection[int] = ()) -> dict[int, str]:
    """The objects of a map of ids (H, W), by id; 0 and the ids in `ignore` are background."""
    is_small = labels.dtype.kind == "u" and labels.dtype.itemsize <= 2  # counting is faster than sorting
    ids = np.flatnonzero(np.bincount(labels.ravel())) if is_small else np.unique(labels)
    return {i: encode_mask(labels == i) for i in ids.tolist() if i != 0 and i not in ignore}
