"""What is said about one object's values over the frames, beside their mean."""

from __future__ import annotations

import math
import warnings
from itertools import groupby

import numpy as np

from sam2.evaluation.boundary import Bools, Floats

BINS = 4


def recall(values: Floats) -> float:
    """Share of frames above one half, strictly."""
    return float(np.mean(values > 0.5))


def decay(values: Floats) -> float:
    """Mean of the first quarter less mean of the last; neighbouring quarters share a frame."""
    edges = _edges(len(values)).astype(np.int64)
    return float(values[: edges[1] + 1].mean() - values[edges[3] : edges[4] + 1].mean())


def decay_as_published(values: Floats) -> float:
    """The same with edges that wrap at 256, as DAVIS's tool has it: NaN or another number from 256 frames on."""
    edges = _edges(len(values)).astype(np.int64) % 256
    ends = (edges + 1) % 256
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing
        first, last = values[edges[0] : ends[1]], values[edges[3] : ends[4]]
        return float(np.mean(first)) - float(np.mean(last))


def _edges(frames: int) -> Floats:
    return np.round(np.linspace(1, frames, BINS + 1) + 1e-10) - 1


def spread(j: Floats, f: Floats) -> float:
    """LVOS's V: standard deviation of (J + F) / 2 over frames, the variance rounded to 4 decimals first."""
    both = (j + f) / 2
    deviation = both.mean() - both
    return math.sqrt(round(float(np.sum(deviation**2) / len(both)), 4))


def runs(empty: Bools) -> tuple[list[slice], list[slice]]:
    """The stretches in which an object is away after it was there, and those in which it is there again.

    Args:
        empty: per frame, whether the object is absent.

    Returns:
        Absent stretches without one at the start; visible stretches without one at the start.
    """
    away: list[slice] = []
    back: list[slice] = []
    start = 0
    for is_empty, group in groupby(empty.tolist()):
        end = start + len(list(group))
        if start > 0:
            (away if is_empty else back).append(slice(start, end))
        start = end
    return away, back


def mean_of_runs(values: Floats, stretches: list[slice]) -> float | None:
    """Mean over stretches of their means; None without a stretch."""
    if not stretches:
        return None
    return float(np.mean([values[stretch].mean() for stretch in stretches]))
