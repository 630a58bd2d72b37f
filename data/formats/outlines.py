"""Outlines drawn by people as masks: polygons and boxes, rasterised as COCO's own tools do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask
from numpy.typing import NDArray

from data.clip import DataError
from data.rle import area
from data.shard import MAX_SIDE

# What native code allocates is proportional to the length of the outline, not to the picture.
_MOST_LENGTH = 1 << 22  # pixels


class NoOutline(DataError):
    """What should be an outline surrounds nothing: fewer than three points, or not one pixel."""


def polygon_mask(parts: Sequence[Any], height: int, width: int, where: str) -> str:
    """The union of polygons.

    Args:
        parts: each x1, y1, x2, y2, ... in pixels, 0 at the outer edge of the first one; closed by itself.
        height: of the picture; what is outside is cut off.
        width: of the picture.
        where: file, image and object, for the message.

    Returns:
        A COCO string.

    Raises:
        NoOutline: see there.
        DataError: not numbers, an odd number of them, or far outside the picture.
    """
    if not isinstance(parts, list | tuple) or not parts:
        raise NoOutline(f"{where}: has no polygon")
    points = [
        _points(part, f"{where}, polygon {k}" if len(parts) > 1 else where) for k, part in enumerate(parts)
    ]
    if sum(_length(part) for part in points) > _MOST_LENGTH:
        raise DataError(f"{where}: the outline is longer than {_MOST_LENGTH} pixels; simplify it")
    found = pycocotools.mask.frPyObjects([part.ravel().tolist() for part in points], height, width)
    counts = pycocotools.mask.merge(found)["counts"].decode("ascii")
    if not area(counts, height, width, where):
        raise NoOutline(f"{where}: the polygon covers no pixel of the {height}x{width} picture")
    return str(counts)


def box_mask(box: Sequence[Any], height: int, width: int, where: str) -> str:
    """The rectangle with the corners x1, y1 and x2, y2, as the polygon of its corners; see `polygon_mask`."""
    if len(box) != 4:
        raise DataError(f"{where}: a box is x1, y1, x2, y2, got {str(list(box))[:80]}")
    x1, y1, x2, y2 = box
    return polygon_mask([[x1, y1, x2, y1, x2, y2, x1, y2]], height, width, where)


def union(masks: Sequence[str], height: int, width: int) -> str:
    """The union of masks that were checked, each a COCO string or "" for an empty one."""
    found = [mask for mask in masks if mask]
    if len(found) < 2:
        return found[0] if found else ""
    both = [{"size": [height, width], "counts": mask.encode("ascii")} for mask in found]
    return str(pycocotools.mask.merge(both)["counts"].decode("ascii"))


def _points(part: Any, where: str) -> NDArray[np.float64]:
    """(P, 2) x and y."""
    if not isinstance(part, list | tuple) or not all(type(value) in (int, float) for value in part):
        raise DataError(f"{where}: a polygon is a list of numbers x1, y1, x2, y2, ..., got {str(part)[:80]}")
    if len(part) % 2:
        raise DataError(f"{where}: {len(part)} numbers are not points x, y; the polygon is cut off")
    if len(part) < 6:
        raise NoOutline(f"{where}: a polygon of {len(part) // 2} points, at least 3 are needed")
    if not all(-MAX_SIDE <= value <= 2 * MAX_SIDE for value in part):  # false for nan, too
        raise DataError(f"{where}: a point of the polygon is far outside any picture, or not a number")
    return np.array(part, np.float64).reshape(-1, 2)


def _length(points: NDArray[np.float64]) -> float:
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
