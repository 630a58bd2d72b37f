"""Overlap of masks and distances between their surfaces: Dice, Boundary IoU, HD95 and NSD, exact, in numpy alone.

A surface voxel belongs to the mask and has a neighbour across one of its faces (6 in a volume, 4 in an image) that does
not; beyond the edges nothing belongs to it. Distances between surfaces are Euclidean between the middles of voxels, in
the unit of the spacing. No field of distances is ever made for a volume: the slices of one surface pass one at a time,
so that memory is a slice and the list of surface voxels.

Boundary IoU: Cheng et al., CVPR 2021 (arXiv 2103.16562). HD95 as in MONAI, NSD with counted surface voxels.
Held by tests/sam2/evaluation/test_surfaces.py to values that MedPy and MONAI gave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sam2.evaluation.boundary import Bools, Floats

Voxels = NDArray[np.int32]

BAND_SHARE = 0.02  # of the image diagonal: how wide the band of Boundary IoU is
HD_PERCENT = 95
_ROUNDING = 1e-9  # relative: three steps of 0.1 mm are within 0.3 mm
_SAMPLES = 512  # surface voxels that bound the distances before they are searched
_AT_ONCE = 1 << 12  # voxels held against the samples at a time


class Distances(NamedTuple):
    """From every surface voxel of one mask to the nearest of the other; infinite where the other has none."""

    gt_to_pred: Floats
    pred_to_gt: Floats


# ------------------------------------------------------------------------------------------------------------- overlap


def dice(gt: Bools, pred: Bools) -> float:
    """2 |G and P| / (|G| + |P|) of masks of any shape; 1 if both are empty.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(gt, pred)
    return dice_of_counts(int((gt & pred).sum()), int(gt.sum()), int(pred.sum()))


def dice_of_counts(overlap: int, gt: int, pred: int) -> float:
    """Dice of numbers of voxels."""
    return 2 * overlap / (gt + pred) if gt + pred else 1.0


def band_px(height: int, width: int) -> int:
    """How wide the band of Boundary IoU is, in pixels: 2 % of the diagonal, rounded half to even, at least 1."""
    return max(1, round(BAND_SHARE * math.sqrt(height * height + width * width)))


def boundary_iou(gt: Bools, pred: Bools) -> float:
    """IoU of the pixels of each mask that lie within `band_px` of its own contour; 1 if both are empty.

    The band is what `band_px` erosions with a 3x3 square take away, beyond the image's edges nothing belongs to a mask.

    Args:
        gt: true mask, (H, W).
        pred: predicted mask, (H, W).

    Raises:
        ValueError: the shapes differ or are not those of images.
    """
    _check_shapes(gt, pred)
    if gt.ndim != 2:
        raise ValueError(f"Boundary IoU is of masks (H, W), got {gt.shape}; take a volume slice by slice")
    band = band_px(*gt.shape)
    either = gt | pred
    if not either.any():
        return 1.0
    box = _box(either)  # all around it is background, as beyond the edges
    true_band, predicted_band = (_band(mask[box], band) for mask in (gt, pred))
    return float((true_band & predicted_band).sum() / (true_band | predicted_band).sum())


def _band(mask: Bools, px: int) -> Bools:
    return mask & ~_eroded(_eroded(mask, px).T, px).T


def _eroded(mask: Bools, px: int) -> Bools:
    """True where the mask holds from `px` rows above to `px` rows below."""
    found = np.zeros_like(mask)
    window = 2 * px + 1
    if len(mask) >= window:
        sums = np.zeros((len(mask) + 1, mask.shape[1]), np.int32)
        np.cumsum(mask, axis=0, out=sums[1:])
        found[px : len(mask) - px] = sums[window:] - sums[:-window] == window
    return found


# ------------------------------------------------------------------------------------------------------------ surfaces


def edges_in_slice(here: NDArray[Any], neighbours: Sequence[NDArray[Any] | None]) -> Bools:
    """Where a slice of ids (H, W) has another id across a face: the surfaces of all its objects at once.

    Args:
        here: the slice.
        neighbours: the slices below and above, None beyond the volume; nothing for an image.
    """
    edges = np.zeros(here.shape, bool)
    for line in (edges[:1], edges[-1:], edges[:, :1], edges[:, -1:]):
        line[...] = True
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = here[one] != here[other]
        edges[one] |= differs
        edges[other] |= differs
    for slab in neighbours:
        edges |= True if slab is None else slab != here
    return edges


def surface_voxels(mask: Bools) -> Voxels:
    """The surface voxels of a mask (Z, Y, X) or (Y, X): (N, 3) as z, y, x in rising order, z = 0 in an image."""
    if mask.ndim not in (2, 3):
        raise ValueError(f"surfaces are of masks (Z, Y, X) or (Y, X), got {mask.shape}")
    if mask.ndim == 2:
        return as_voxels(0, mask & edges_in_slice(mask, ()))
    slices = [None, *mask, None]
    found = [
        as_voxels(z, here & edges_in_slice(here, (slices[z], slices[z + 2]))) for z, here in enumerate(mask)
    ]
    return np.concatenate(found) if found else np.empty((0, 3), np.int32)


def as_voxels(z: int, cells: Bools) -> Voxels:
    """The cells (Y, X) of slice z that are True, as (N, 3) z, y, x."""
    y, x = np.nonzero(cells)
    return np.stack((np.full_like(y, z), y, x), axis=1).astype(np.int32)


def surface_distances(gt: Bools, pred: Bools, spacing: Sequence[float]) -> Distances:
    """Distances between the surfaces of two masks.

    Args:
        gt: true mask, (Z, Y, X) or (Y, X).
        pred: predicted mask of the same shape.
        spacing: mm from voxel to voxel along each axis of the masks.

    Raises:
        ValueError: shapes differ, or the spacing does not fit them.
    """
    _check_shapes(gt, pred)
    if len(spacing) != gt.ndim:
        raise ValueError(
            f"spacing {tuple(spacing)} has {len(spacing)} numbers, masks {gt.shape} need {gt.ndim}"
        )
    if gt.ndim == 2:
        spacing = (1.0, *spacing)
    return distances(surface_voxels(gt), surface_voxels(pred), spacing)


def distances(gt: Voxels, pred: Voxels, spacing: Sequence[float]) -> Distances:
    """`surface_distances` of surface voxels (N, 3), (M, 3) in rising order; `spacing` in mm as z, y, x.

    Raises:
        ValueError: the spacing is not three positive numbers.
    """
    if len(spacing) != 3 or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"spacing {tuple(spacing)} must be positive and finite, in mm")
    steps = np.asarray(spacing, float)
    return Distances(_nearest(gt, pred, steps), _nearest(pred, gt, steps))


def hd95(found: Distances) -> float | None:
    """The greater of the 95th percentiles (linear between values) of both directions, in mm.

    0 if both masks are empty, None if one is.
    """
    if not len(found.gt_to_pred) and not len(found.pred_to_gt):
        return 0.0
    if not len(found.gt_to_pred) or not len(found.pred_to_gt):
        return None
    return max(float(np.percentile(values, HD_PERCENT)) for values in found)


def nsd(found: Distances, tolerance: float) -> float:
    """Share of the surface voxels of both masks that lie within `tolerance` mm of the other's surface.

    1 if both masks are empty, 0 if one is. Every surface voxel counts once, as in MONAI; DeepMind's surface-distance
    weighs by the area of the surface instead.

    Raises:
        ValueError: the tolerance is negative or not finite.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance {tolerance} must be finite and not below 0, in mm")
    both = np.concatenate(found)
    return float(np.mean(both <= tolerance * (1 + _ROUNDING))) if len(both) else 1.0


# ----------------------------------------------------------------------------------------------------------- the search


def _nearest(start: Voxels, goal: Voxels, steps: Floats) -> Floats:
    """Distance (N,) from every voxel of `start` to the nearest of `goal`, whose slices pass one at a time."""
    if not len(start) or not len(goal):
        return np.full(len(start), np.inf)
    origin = np.minimum(start.min(0), goal.min(0))
    height, width = (np.maximum(start.max(0), goal.max(0)) - origin + 1)[1:].tolist()
    start, goal = start - origin, goal - origin
    best = _bound(start, goal, steps)
    first = np.flatnonzero(np.diff(goal[:, 0], prepend=-1))
    for cells in np.split(goal, first[1:]):
        across = ((start[:, 0] - cells[0, 0]) * steps[0]) ** 2
        open_ = np.flatnonzero(across < best)
        if not len(open_):
            continue
        across = across[open_]
        limit = float((best[open_] - across).max())
        grid = np.zeros((height, width), bool)
        grid[cells[:, 1], cells[:, 2]] = True
        within = _squares_in_slice(grid, steps[1], steps[2], limit)[start[open_, 1], start[open_, 2]]
        best[open_] = np.minimum(best[open_], within + across)
    return np.sqrt(best)


def _bound(start: Voxels, goal: Voxels, steps: Floats) -> Floats:
    """Squared distance from every voxel of `start` to the nearest of a few of `goal`."""
    few = goal[:: -(-len(goal) // _SAMPLES)]
    found = np.empty(len(start))
    for i in range(0, len(start), _AT_ONCE):
        some = start[i : i + _AT_ONCE]
        squares = np.zeros((len(some), len(few)))
        for axis in (1, 2, 0):  # the order in which the search adds them up
            squares += ((some[:, None, axis] - few[None, :, axis]) * steps[axis]) ** 2
        squares.min(axis=1, out=found[i : i + _AT_ONCE])
    return found


def _squares_in_slice(grid: Bools, step_y: float, step_x: float, limit: float) -> Floats:
    """Squared distance (H, W) of every cell to the nearest one of a grid, exact below `limit`."""
    height, width = grid.shape
    x = np.arange(width, dtype=float)
    left = np.maximum.accumulate(np.where(grid, x, -np.inf), axis=1)
    right = np.minimum.accumulate(np.where(grid, x, np.inf)[:, ::-1], axis=1)[:, ::-1]
    along = (np.minimum(x - left, right - x) * step_x) ** 2
    found = along.copy()
    for offset in range(1, height):
        further = (offset * step_y) ** 2
        if further >= limit:
            break
        np.minimum(found[offset:], along[:-offset] + further, out=found[offset:])
        np.minimum(found[:-offset], along[offset:] + further, out=found[:-offset])
    return found


def _box(mask: Bools) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _check_shapes(gt: Bools, pred: Bools) -> None:
    for name, mask in (("gt", gt), ("pred", pred)):
        if mask.dtype != bool:
            raise TypeError(f"{name} must be a mask of bool, got {mask.dtype}")
    if gt.shape != pred.shape:
        raise ValueError(f"gt {gt.shape} and pred {pred.shape} must be of one size")
