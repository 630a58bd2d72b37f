"""J and F of video object segmentation: region overlap and boundary accuracy, exact and without a dilation image.

The definition is DAVIS 2017's, which every benchmark of the field shares; nothing here is approximate, a test holds
every value equal to the published tools' with `==`.

- J is intersection over union of two masks; 1 when both are empty.
- A pixel is on the boundary when the 2x2 window that starts at it is not constant; beyond the last row and column
  the image repeats itself. Boundary pixels match within `tolerance_px` (Euclidean). F is the harmonic mean of the
  matched shares of both boundaries; 1 when neither mask has a boundary, 0 when one has none. A mask that covers the
  whole image has no boundary.

How it is fast: what is around all objects is left out first; areas and overlaps are counted, those of many objects
by one joint histogram of (ground truth id, predicted id); one window test over the id map finds the boundary pixels
of all objects; each becomes a sorted integer key, and "is there a pixel within r" is a binary search in the 2r+1 rows
of the disk. Memory does not grow with the number of frames.

Source: Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv 1704.00675. Held by tests/sam2/evaluation/test_jf.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sam2.evaluation.boundary import BYTE_IDS, Floats, Grid, Ints, boundary_keys, f_measure, tolerance_px

Maps = NDArray[Any] | Iterable[NDArray[Any]]

FEW_IDS = 5  # up to so many are counted one by one faster than by a joint histogram


class Scores(NamedTuple):
    """J and F, both between 0 and 1; one entry a frame, or one row a frame and one column an object."""

    j: Floats
    f: Floats


class FrameScores(NamedTuple):
    """One frame, one entry an object: `ids`, `j`, `f` and the areas in pixels that J is made of."""

    ids: Ints
    j: Floats
    f: Floats
    gt_area: Ints
    pred_area: Ints
    overlap: Ints


class Cut(NamedTuple):
    """Both maps of a frame around all that is in either, with a pixel of margin where the frame has one.

    `gt` and `pred` hold object ids, uint8 and of one size, 0 is background; `frame` is the (height, width) that they
    are cut from, which decides how far apart boundaries may lie.
    """

    gt: NDArray[np.uint8]
    pred: NDArray[np.uint8]
    frame: tuple[int, int]


def score_sequence(gt: Maps, pred: Maps, ids: Sequence[int] | None = None) -> dict[int, Scores]:
    """Score every object of a sequence on every frame.

    Nothing is skipped: protocols that leave out frames (the first, the last, those before an object appears) slice
    the answer. Frames are read one at a time, so `gt` and `pred` may be generators.

    Args:
        gt: true object ids, (T, H, W) integers or T frames (H, W); 0 is background.
        pred: predicted ids, of the same size.
        ids: objects to score; by default all that occur anywhere in `gt`. Pixels of any other id, in `gt` or
            `pred`, count as background: an id that only the prediction knows is not an object.

    Returns:
        {object id: Scores of shape (T,)}, ids ascending (or in the order of `ids`). An object that is in neither map
        of a frame has J = F = 1 there.

    Raises:
        ValueError: sizes disagree, a map is not two-dimensional, an id is negative.
        TypeError: a map does not hold integers.
    """
    frames = [
        score_frame(g, p, ids, where=f"frame {t}") for t, (g, p) in enumerate(_pairs(gt, pred, dimensions=3))
    ]
    seen = {int(i) for frame in frames for i in frame.ids[frame.gt_area > 0]}
    wanted = sorted(seen) if ids is None else [int(i) for i in ids]
    scores = {i: Scores(np.ones(len(frames)), np.ones(len(frames))) for i in wanted}
    for t, frame in enumerate(frames):
        for i, j, f in zip(frame.ids.tolist(), frame.j, frame.f, strict=True):
            if i in scores:
                scores[i].j[t], scores[i].f[t] = j, f
    return scores


def score_frame(
    gt: NDArray[Any], pred: NDArray[Any], ids: Sequence[int] | None = None, where: str = "frame"
) -> FrameScores:
    """Score the objects of one frame.

    Args:
        gt: true object ids, (H, W) integers; 0 is background.
        pred: predicted ids, (H, W).
        ids: objects to score, in this order; by default every id of either map, ascending.
        where: how to call this frame in an error.

    Raises:
        ValueError, TypeError: as `score_sequence`.
    """
    _check_maps(gt, pred, where)
    wanted = None if ids is None else _check_ids(ids)
    radius = tolerance_px(*gt.shape)
    gt, pred = _crop(gt, pred)
    if _fits_bytes(gt, pred, wanted):
        return _score_bytes(
            gt.astype(np.uint8, copy=False), pred.astype(np.uint8, copy=False), wanted, radius
        )
    if wanted is None:
        wanted = np.union1d(np.unique(gt), np.unique(pred)).astype(np.int64)
        wanted = wanted[wanted > 0]
    return _score_relabelled(gt, pred, wanted, radius)


def score_cut(cut: Cut) -> FrameScores:
    """Score every object of a frame of which only the part that matters is there: as `score_frame` of the whole."""
    return _score_bytes(cut.gt, cut.pred, None, tolerance_px(*cut.frame))


def score_masks(gt: Maps, pred: Maps) -> Scores:
    """Score objects that have a mask each and may overlap.

    Args:
        gt: true masks, (T, O, H, W) bool or T frames (O, H, W).
        pred: predicted masks of the same objects.

    Returns:
        Scores of shape (T, O).

    Raises:
        ValueError: sizes disagree.
        TypeError: a mask is not bool.
    """
    rows = [
        _score_mask_frame(g, p, where=f"frame {t}") for t, (g, p) in enumerate(_pairs(gt, pred, dimensions=4))
    ]
    if not rows:
        objects = gt.shape[1] if isinstance(gt, np.ndarray) else 0
        return Scores(np.ones((0, objects)), np.ones((0, objects)))
    return Scores(np.stack([j for j, _ in rows]), np.stack([f for _, f in rows]))


# ---------------------------------------------------------------------------------------------- checks


def _pairs(gt: Maps, pred: Maps, dimensions: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Frames of both, side by side."""
    if isinstance(gt, np.ndarray) and isinstance(pred, np.ndarray):
        layout = "(T, H, W)" if dimensions == 3 else "(T, O, H, W)"
        if gt.ndim != dimensions or gt.shape != pred.shape:
            raise ValueError(f"gt {gt.shape} and pred {pred.shape} must both be {layout} and of one size")
    truth, guess = iter(gt), iter(pred)
    missing = object()
    for t in count():
        g, p = next(truth, missing), next(guess, missing)
        if g is missing and p is missing:
            return
        if g is missing or p is missing:
            name = "gt" if g is missing else "pred"
            raise ValueError(f"{name} ends after {t} frames, the other goes on; every frame needs both")
        yield g, p  # type: ignore[misc]


def _check_maps(gt: NDArray[Any], pred: NDArray[Any], where: str) -> None:
    for name, ids in (("gt", gt), ("pred", pred)):
        if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu":
            kind = ids.dtype if isinstance(ids, np.ndarray) else type(ids).__name__
            raise TypeError(
                f"{where}: {name} must be a numpy array of integer ids, got {kind} (for bool use score_masks)"
            )
        if ids.dtype.kind == "i" and ids.size and ids.min() < 0:
            raise ValueError(f"{where}: {name} holds the id {ids.min()}; ids are 0 (background) or positive")
    if gt.ndim != 2 or gt.shape != pred.shape:
        raise ValueError(f"{where}: gt {gt.shape} and pred {pred.shape} must both be (H, W) and of one size")


def _check_ids(ids: Sequence[int]) -> Ints:
    wanted = np.asarray(ids, np.int64).reshape(-1)
    if (wanted <= 0).any() or len(np.unique(wanted)) < len(wanted):
        raise ValueError(
            f"object ids start at 1 (0 is background) and occur once, asked for {wanted.tolist()}"
        )
    return wanted


# ---------------------------------------------------------------------------------------------- one frame of ids


def _crop(gt: NDArray[Any], pred: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both maps around all their objects.

    One pixel of margin on each side, where the image has one: boundaries reach a pixel up and left, and the edge
    rule must see background beyond an object that does not touch the edge.
    """
    box = []
    for axis in (1, 0):
        hit = np.flatnonzero(gt.any(axis) | pred.any(axis))
        box.append(slice(max(hit[0] - 1, 0), hit[-1] + 2) if hit.size else slice(0, 0))
    return gt[box[0], box[1]], pred[box[0], box[1]]


def _fits_bytes(gt: NDArray[Any], pred: NDArray[Any], wanted: Ints | None) -> bool:
    if wanted is not None and not wanted.size:
        return True  # nothing is looked up
    largest = max((int(a.max()) for a in (gt, pred, wanted) if a is not None and a.size), default=0)
    return largest <= BYTE_IDS


def _score_relabelled(gt: NDArray[Any], pred: NDArray[Any], wanted: Ints, radius: int) -> FrameScores:
    """The same for ids that do not fit a byte: renumbered, 255 at a time."""
    order = np.argsort(wanted)
    parts = []
    for start in range(0, len(wanted), BYTE_IDS):
        group = wanted[order[start : start + BYTE_IDS]]
        small = [_renumber(ids, group) for ids in (gt, pred)]
        parts.append(_score_bytes(small[0], small[1], np.arange(1, len(group) + 1), radius))
    joined = FrameScores(*(np.concatenate(column)[np.argsort(order)] for column in zip(*parts, strict=True)))
    return joined._replace(ids=wanted)


def _renumber(ids: NDArray[Any], group: Ints) -> NDArray[np.uint8]:
    """1 + the place of each id in the ascending `group`, 0 for any other id."""
    place = np.minimum(np.searchsorted(group, ids), len(group) - 1)
    return np.where(group[place] == ids, place + 1, 0).astype(np.uint8)


def _score_bytes(
    gt: NDArray[np.uint8], pred: NDArray[np.uint8], wanted: Ints | None, radius: int
) -> FrameScores:
    largest = [int(a.max()) for a in (gt, pred, wanted) if a is not None and a.size]
    gt_area, pred_area, overlap = _areas(gt, pred, max(largest, default=0) + 1)
    if wanted is None:
        wanted = np.flatnonzero(gt_area + pred_area)
        wanted = wanted[wanted > 0]
    gt_area, pred_area, overlap = gt_area[wanted], pred_area[wanted], overlap[wanted]
    grid = Grid(gt.shape[0], gt.shape[1], radius)
    f = f_measure(boundary_keys(gt, wanted, grid), boundary_keys(pred, wanted, grid), len(wanted), grid)
    return FrameScores(wanted, _jaccard(overlap, gt_area, pred_area), f, gt_area, pred_area, overlap)


def _areas(gt: NDArray[np.uint8], pred: NDArray[np.uint8], size: int) -> tuple[Ints, Ints, Ints]:
    """How many pixels each object below `size` has in the truth, in the prediction, and in both at once."""
    if size <= FEW_IDS + 1:
        counts = np.zeros((3, size), np.int64)  # of the background: left 0
        for i in range(1, size):
            true, predicted = gt == i, pred == i
            counts[:, i] = [np.count_nonzero(mask) for mask in (true, predicted, true & predicted)]
        return counts[0], counts[1], counts[2]
    code = gt.astype(np.uint16)
    code *= np.uint16(size)  # 256 ids at most: the largest code is 65535
    code += pred
    joint = np.bincount(code.ravel(), minlength=size * size).reshape(size, size)
    return joint.sum(1), joint.sum(0), joint.diagonal()


def _jaccard(overlap: Ints, gt_area: Ints, pred_area: Ints) -> Floats:
    union = gt_area + pred_area - overlap
    return np.where(union > 0, overlap / np.maximum(union, 1), 1.0)


# ---------------------------------------------------------------------------------------------- one frame of masks


def _score_mask_frame(gt: NDArray[Any], pred: NDArray[Any], where: str) -> tuple[Floats, Floats]:
    """J and F of the objects of one frame, masks (O, H, W)."""
    for name, masks in (("gt", gt), ("pred", pred)):
        if not isinstance(masks, np.ndarray) or masks.dtype != bool:
            kind = masks.dtype if isinstance(masks, np.ndarray) else type(masks).__name__
            raise TypeError(f"{where}: {name} must be a numpy array of bool masks, got {kind}")
    if gt.ndim != 3 or gt.shape != pred.shape:
        raise ValueError(
            f"{where}: gt {gt.shape} and pred {pred.shape} must both be (O, H, W) and of one size"
        )
    radius = tolerance_px(*gt.shape[1:])
    one = np.ones(1, np.int64)
    j, f = np.ones(len(gt)), np.ones(len(gt))
    for o, (g, p) in enumerate(zip(gt, pred, strict=True)):
        g, p = _crop(g, p)
        score = _score_bytes(g.view(np.uint8), p.view(np.uint8), one, radius)
        j[o], f[o] = score.j[0], score.f[0]
    return j, f
