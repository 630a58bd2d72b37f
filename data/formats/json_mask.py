"""A mask in a JSON file of others as COCO's run lengths: {"size": [height, width], "counts": a string or a list}."""

from __future__ import annotations

from typing import Any

import pycocotools.mask

from data.clip import DataError
from data.rle import area


def rle_mask(found: Any, height: int, width: int, where: str) -> str:
    """The COCO string of a mask, "" if it is empty.

    Args:
        found: the value in the JSON; its counts compressed (a string) or not (a list, background first).
        height: that the mask must have.
        width: that the mask must have.
        where: file, image and object, for the message.

    Raises:
        DataError: not such a mask, or one of another size.
    """
    if not isinstance(found, dict) or not isinstance(found.get("counts"), str | list):
        raise DataError(f"{where}: expected {{'size': [h, w], 'counts': ...}}, got {str(found)[:80]}")
    if found.get("size") != [height, width]:
        raise DataError(
            f"{where}: the mask's size is {str(found.get('size'))[:40]}, the picture's [{height}, {width}]; export "
            "masks at the size of the picture"
        )
    counts = found["counts"]
    if isinstance(counts, list):
        counts = compress_runs(counts, height, width, where)
    return counts if area(counts, height, width, where) else ""


def compress_runs(runs: list[Any], height: int, width: int, where: str) -> str:
    """The COCO string of runs column by column, background first.

    Raises:
        DataError: not whole numbers from 0, or they do not add up to the picture.
    """
    if (
        not all(type(run) is int and 0 <= run <= height * width for run in runs)
        or sum(runs) != height * width
    ):
        raise DataError(
            f"{where}: the run lengths are not whole numbers that add up to {height * width} pixels; export the mask "
            "again"
        )
    rle = pycocotools.mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return str(rle["counts"].decode("ascii"))
