"""Boundaries of masks as sorted integer keys: found with one window test, matched with binary searches.

A pixel is on the boundary when the 2x2 window that starts at it is not constant; beyond the last row and column the
image repeats itself. Two boundary pixels match when they are within `tolerance_px` of each other (Euclidean); the
neighbourhood is a disk, so no square or two-pass filter gives the same answer.

A boundary pixel of object o at (y, x) becomes one integer; "is there a pixel within r" is then a binary search in
each of the 2r+1 rows of the disk, and no dilated image is ever made.
Source: Pont-Tuset et al., arXiv 1704.00675. Held by tests/sam2/evaluation/test_jf.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Reach = tuple[tuple[int, int, int], ...]  # a neighbourhood by rows: (dy, first dx, last dx)

BOUNDARY_SHARE = 0.008  # of the image diagonal: the tolerance of F, rounded up to whole pixels
BYTE_IDS = 255  # ids a uint8 map can hold beside the background


def tolerance_px(height: int, width: int) -> int:
    """How far apart two boundary pixels may lie and still match, in pixels."""
    return math.ceil(BOUNDARY_SHARE * math.sqrt(height * height + width * width))


def boundary_map(ids: NDArray[Any]) -> Bools:
    """The boundary pixels of all objects in an id map or mask (H, W), as (H, W) bool."""
    height, width = ids.shape
    if not ids.size:
        return np.zeros((height, width), bool)
    padded = _repeat_edges(ids)
    found = np.zeros(height * (width + 1), bool)
    found[:-1] = _window_differs(padded.ravel(), width + 1)
    return found.reshape(height, width + 1)[:, :width]


@dataclass(frozen=True)
class Grid:
    """How (object, row, column) becomes one integer whose order is theirs.

    Every object's image is framed by `radius` empty pixels, so that a row of the disk never reaches into another
    row or another object.
    """

    height: int
    width: int
    radius: int

    @property
    def row(self) -> int:
        """Keys from one row to the next."""
        return self.width + 2 * self.radius

    @property
    def image(self) -> int:
        """Keys from one object to the next."""
        return self.row * (self.height + 2 * self.radius)

    def keys(self, owner: Ints, y: Ints, x: Ints) -> Ints:
        """One key a point."""
        return owner * self.image + (y + self.radius) * self.row + x + self.radius


def _repeat_edges(ids: NDArray[Any]) -> NDArray[Any]:
    """The map with its last row and column once more, (H + 1, W + 1)."""
    height, width = ids.shape
    padded = np.empty((height + 1, width + 1), ids.dtype)
    padded[:height, :width] = ids
    padded[height, :width] = ids[-1]
    padded[:, width] = padded[:, width - 1]
    return padded


def _window_differs(flat: NDArray[Any], row: int) -> Bools:
    """Whether the 2x2 window at each place of a padded map (flattened, `row` a line) is not constant.

    The padding column itself gets a meaningless answer.
    """
    across = flat[:-1] != flat[1:]
    found = across[:-row] | across[row:]
    found |= flat[: len(found)] != flat[row : row + len(found)]
    return found


def boundary_keys(ids: NDArray[np.uint8], wanted: Ints, grid: Grid) -> Ints:
    """Ascending keys of the boundary pixels of the objects `wanted`, the first of them numbered 0."""
    if not ids.size or not len(wanted):
        return np.zeros(0, np.int64)
    row = grid.width + 1
    flat = _repeat_edges(ids).ravel()
    places = np.flatnonzero(_window_differs(flat, row))
    y, x = np.divmod(places, row)
    inside = x < grid.width
    places, y, x = places[inside], y[inside], x[inside]
    cells = [flat[places + step] for step in (0, 1, row, row + 1)]
    number = np.full(BYTE_IDS + 1, -1)
    number[wanted] = np.arange(len(wanted))
    keys = []
    for n, cell in enumerate(cells):  # an id that is in a mixed window has a boundary there, once
        owner = number[cell]
        new = owner >= 0
        for earlier in cells[:n]:
            new &= cell != earlier
        keys.append(grid.keys(owner[new], y[new], x[new]))
    return np.sort(np.concatenate(keys))


def disk(radius: int) -> Reach:
    """All offsets within `radius`, nearest rows first: most points match in their own row."""
    rows = sorted(range(-radius, radius + 1), key=abs)
    return tuple((dy, -half, half) for dy in rows for half in [math.isqrt(radius**2 - dy**2)])


def f_measure(gt: Ints, pred: Ints, objects: int, grid: Grid, reach: Reach | None = None) -> Floats:
    """F of every object from the boundary keys of both sides.

    Two points match within `reach`, by default the disk of the grid's radius; it must not reach further than that.
    """
    reach = disk(grid.radius) if reach is None else reach
    gt_hits, gt_count = _count_matches(gt, pred, objects, grid, reach)
    pred_hits, pred_count = _count_matches(pred, gt, objects, grid, reach)
    precision = pred_hits / np.maximum(pred_count, 1)
    recall = gt_hits / np.maximum(gt_count, 1)
    both = precision + recall
    f = 2 * precision * recall / np.where(both > 0, both, 1.0)
    return np.where(gt_count + pred_count == 0, 1.0, f)


def _count_matches(points: Ints, others: Ints, objects: int, grid: Grid, reach: Reach) -> tuple[Ints, Ints]:
    """How many points of each object have another point of it within reach, and how many there are."""
    fence = np.append(others, np.iinfo(np.int64).max)
    left = points
    for dy, first, last in reach:
        if not left.size:
            break
        start = left + (dy * grid.row + first)
        left = left[fence[np.searchsorted(others, start)] > start + (last - first)]  # no match in this row
    count = np.bincount(points // grid.image, minlength=objects)
    return count - np.bincount(left // grid.image, minlength=objects), count
