"""The measures of MOSEv2: a smoothed J, and F with a tolerance that knows how large the object is.

They are not DAVIS's J and F, although two of them have the same names:

- J is (overlap + 1) / (union + 1), and 1 where both masks are empty.
- The image radius is D = 0.008 of the diagonal, as it is; DAVIS rounds it up. The object radius is
  ceil(0.1 sqrt(true area)), or D if the object is absent or the first is not less than D.
- F_dot matches boundaries within the object radius. F matches them within ceil(D), which is DAVIS's F, where the object
  radius is less than D, and within D elsewhere.
- The disk of a radius that is no whole number is sampled at -r, -r + 1, ... and its middle cell is taken for its
  centre: it lies off centre.

Source: score.py of MOSE-api (commit 241977a). Held by tests/sam2/evaluation/test_protocols.py.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2.evaluation.boundary import (
    BOUNDARY_SHARE,
    BYTE_IDS,
    Floats,
    Grid,
    Ints,
    Reach,
    boundary_keys,
    disk,
    f_measure,
)
from sam2.evaluation.jf import Cut

OBJECT_SHARE = 0.1  # of the square root of the object's area: the tolerance of F_dot, rounded up


def score_mose_frame(cut: Cut) -> tuple[Ints, Floats, Ints, Ints]:
    """One frame by the measures of MOSEv2.

    Returns:
        The ids of either map; (objects, 3) with J, F and F_dot; the true and the predicted areas in pixels.
    """
    gt, pred, frame = cut
    gt_areas, pred_areas = (np.bincount(ids.ravel(), minlength=BYTE_IDS + 1) for ids in (gt, pred))
    overlaps = np.bincount(gt[gt == pred], minlength=BYTE_IDS + 1)
    ids = np.flatnonzero(gt_areas + pred_areas)
    ids = ids[ids > 0]
    gt_area, pred_area, overlap = gt_areas[ids], pred_areas[ids], overlaps[ids]
    j = (overlap + 1) / (gt_area + pred_area - overlap + 1)

    diagonal = BOUNDARY_SHARE * float(np.linalg.norm(frame))
    grid = Grid(gt.shape[0], gt.shape[1], math.ceil(diagonal) + 1)
    sides = [_by_object(boundary_keys(side, ids, grid), len(ids), grid) for side in (gt, pred)]
    f = [
        _both_f(truth, guess, grid, diagonal, int(area))
        for truth, guess, area in zip(*sides, gt_area, strict=True)
    ]
    return ids, np.column_stack([j, np.array(f).reshape(-1, 2)]), gt_area, pred_area


def _by_object(keys: Ints, objects: int, grid: Grid) -> list[Ints]:
    """The keys of each object, as if it were the only one."""
    cuts = np.searchsorted(keys, np.arange(objects + 1) * grid.image)
    return [
        keys[start:end] - o * grid.image for o, (start, end) in enumerate(zip(cuts, cuts[1:], strict=False))
    ]


def _both_f(gt: Ints, pred: Ints, grid: Grid, diagonal: float, gt_area: int) -> tuple[float, float]:
    """F and F_dot of one object; `diagonal` is the image radius D."""
    radius = math.ceil(OBJECT_SHARE * math.sqrt(gt_area)) if gt_area else math.ceil(diagonal)
    if radius < diagonal:
        f = f_measure(gt, pred, 1, grid, disk(math.ceil(diagonal)))
        return float(f[0]), float(f_measure(gt, pred, 1, grid, disk(radius))[0])
    f = f_measure(gt, pred, 1, grid, sampled_disk(diagonal))
    return float(f[0]), float(f[0])


@lru_cache(maxsize=64)
def sampled_disk(radius: float) -> Reach:
    """The cells of a disk sampled from -radius in steps of 1, around its middle cell; nearest rows first."""
    steps = np.arange(-radius, radius + 1)
    inside: NDArray[Any] = steps[:, None] ** 2 + steps[None, :] ** 2 <= radius**2
    if not inside.any():  # images below 100 pixels or so: OpenCV takes the first cell of a kernel without any
        inside[0, 0] = True
    centre = len(steps) // 2
    rows = []
    for y in sorted(range(len(steps)), key=lambda y: abs(y - centre)):
        cells = np.flatnonzero(inside[y])
        if cells.size:
            rows.append((y - centre, int(cells[0]) - centre, int(cells[-1]) - centre))
    return tuple(rows)
