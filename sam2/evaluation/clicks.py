"""Where a person would click next: in the middle of the largest error, which is the pixel farthest from right ones.

A function of (truth, answer) alone, exact: distances are squared and whole. The rule is the released evaluation's
("center"), but that no click is made where there is no error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sam2.evaluation.boundary import Bools


class Click(NamedTuple):
    """A point in pixels of the mask it was made for, on the object (positive) or beside it."""

    x: int
    y: int
    is_positive: bool


def squared_distance(mask: Bools) -> NDArray[np.int64]:
    """Squared distance (H, W) of every pixel to the nearest one outside the mask; beyond the edges all is outside."""
    height, width = mask.shape
    found = np.zeros((height, width), np.int64)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return found
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = mask[box]
    down, up = np.zeros(inside.shape, np.int64), np.zeros(inside.shape, np.int64)
    run = np.zeros(inside.shape[1], np.int64)
    for y in range(len(inside)):
        run = down[y] = (run + 1) * inside[y]
    run = np.zeros(inside.shape[1], np.int64)
    for y in reversed(range(len(inside))):
        run = up[y] = (run + 1) * inside[y]
    vertical = np.minimum(down, up) ** 2
    padded = np.pad(vertical, ((0, 0), (1, 1)))
    nearest, offset = padded.copy(), 0
    while (offset := offset + 1) ** 2 < nearest.max():
        if offset >= padded.shape[1]:
            break
        further = offset**2
        np.minimum(nearest[:, offset:], padded[:, :-offset] + further, out=nearest[:, offset:])
        np.minimum(nearest[:, :-offset], padded[:, offset:] + further, out=nearest[:, :-offset])
    found[box] = nearest[:, 1:-1]
    return found


def next_click(truth: Bools, answer: Bools) -> Click | None:
    """The click that corrects an answer, or None if there is nothing to correct.

    What is missing from the object is clicked positively if its middle lies farther inside than that of what is too
    much, which is clicked negatively otherwise. Of several middles the first in reading order is taken.

    Args:
        truth: the object, (H, W).
        answer: what is shown of it, (H, W); all False before the first click.
    """
    missing, surplus = squared_distance(truth & ~answer), squared_distance(answer & ~truth)
    is_positive = bool(missing.max() > surplus.max())
    wrong = missing if is_positive else surplus
    place = int(wrong.argmax())
    if wrong.flat[place] == 0:
        return None
    y, x = divmod(place, truth.shape[1])
    return Click(x, y, is_positive)
