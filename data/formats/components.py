"""Connected parts of a map of labels: pixels of one label that touch, at a side or a corner."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def components(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Number the connected parts.

    Args:
        labels: (H, W), 0 is background. Parts of different labels are different parts.

    Returns:
        (H, W): 0 for background, 1, 2, ... for the parts in the order of their first pixel, row by row.
    """
    starts = np.ones(labels.shape, bool)  # of runs: neighbours in a row with one label
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    run = (np.cumsum(starts.ravel()) - 1).reshape(labels.shape)
    upper, lower = zip(*(_touching(labels, starts, run, shift) for shift in (-1, 0, 1)), strict=True)
    parent = _joined(int(run[-1, -1]) + 1 if run.size else 0, np.concatenate(upper), np.concatenate(lower))
    is_object = labels.ravel()[np.flatnonzero(starts)] != 0
    roots = np.unique(parent[is_object])
    numbers = np.where(is_object, np.searchsorted(roots, parent) + 1, 0)
    return numbers[run]


def _touching(
    labels: NDArray[Any], starts: NDArray[np.bool_], run: NDArray[np.int64], shift: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of runs of one label, the second in the row below the first and `shift` columns to the right."""
    width = labels.shape[1]
    above = (slice(None, -1), slice(max(0, -shift), width - max(0, shift)))
    below = (slice(1, None), slice(max(0, shift), width - max(0, -shift)))
    is_same = (labels[above] == labels[below]) & (labels[above] != 0)
    is_new = starts[above] | starts[below]  # else the pair is that of the column before
    is_new[:, :1] = True
    is_same &= is_new
    return run[above][is_same], run[below][is_same]


def _joined(count: int, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of `count` nodes the least one that edges lead to."""
    parent = np.arange(count)
    while True:
        least = np.minimum(parent[one], parent[other])
        before = parent.copy()
        for ends in (one, other):
            np.minimum.at(parent, before[ends], least)
        while (further := parent[parent]).tobytes() != parent.tobytes():
            parent = further
        if np.array_equal(parent, before):
            return parent
