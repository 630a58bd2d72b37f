"""Does the model know how good its masks are: predicted IoU against true IoU.

On frames on which the object is visible: where it is not, the true IoU is 1 or 0 and says nothing about a mask.
Formulas: docs/evaluation.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = dict[str, float | None]

BINS = 10


def calibration(predicted: Floats, true: Floats) -> Numbers:
    """How predicted IoUs fit the true ones, both (N,) between 0 and 1.

    Returns:
        `iou_mae`: mean |predicted - true|; `iou_bias`: mean of predicted - true, above 0 if the model flatters itself;
        `iou_ece`: in ten bins of predicted IoU of equal width, |mean predicted - mean true|, weighted by frames; all in
        points of 100. `iou_rank`: Spearman's rank correlation, -1 to 1, None where either never changes. `frames`: N.
    """
    if predicted.shape != true.shape or predicted.ndim != 1:
        raise ValueError(f"predicted IoUs are {predicted.shape}, true ones {true.shape}; expected equal (N,)")
    if not len(predicted):
        return {"iou_mae": None, "iou_bias": None, "iou_ece": None, "iou_rank": None, "frames": 0.0}
    gap = predicted - true
    bins = np.clip((predicted * BINS).astype(int), 0, BINS - 1)
    sums = np.bincount(bins, weights=gap, minlength=BINS)
    return {
        "iou_mae": 100 * float(np.abs(gap).mean()),
        "iou_bias": 100 * float(gap.mean()),
        "iou_ece": 100 * float(np.abs(sums).sum() / len(gap)),
        "iou_rank": rank_correlation(predicted, true),
        "frames": float(len(gap)),
    }


def rank_correlation(a: Floats, b: Floats) -> float | None:
    """Spearman's: the correlation of the ranks, equal values sharing their mean rank; None if one is constant."""
    ranks = [_ranks(values) for values in (a, b)]
    centred = [rank - rank.mean() for rank in ranks]
    scale = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / scale if scale else None


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[place]
    return ranks
