"""Does the model know whether an object is there: its object score against the true masks.

Frames before an object is pointed at and the frame itself say nothing and are left out by the caller. Formulas:
docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sam2.evaluation.boundary import Bools

Numbers = dict[str, float | None]


@dataclass(frozen=True)
class Sightings:
    """One object on its frames, in order: whether it is `there`, and whether the model `says` so, (T,) each."""

    there: Bools
    says: Bools


def visibility(objects: Iterable[Sightings]) -> Numbers:
    """Rates over all frames of all objects, percent, and how soon an object that comes back is noticed, frames.

    Returns:
        `balanced_accuracy`: mean of the shares of visible and of absent frames that are told right; `ghost_rate`: share
        of absent frames on which the object is said to be there; `miss_rate`: share of visible ones on which it is not;
        `reentries`: how often an object came back; `noticed`: share of those that were noticed before it left again;
        `frames_to_notice`: mean over these, 0 if on the first frame. None where there is nothing to take a mean over.
    """
    seen, absent, missed, ghosts = 0, 0, 0, 0
    delays: list[int | None] = []
    for one in objects:
        seen += int(one.there.sum())
        absent += int((~one.there).sum())
        missed += int((one.there & ~one.says).sum())
        ghosts += int((~one.there & one.says).sum())
        delays += _delays(one)
    noticed = [delay for delay in delays if delay is not None]
    right = None if not (seen and absent) else 100 - 50 * (missed / seen + ghosts / absent)
    return {
        "balanced_accuracy": right,
        "ghost_rate": 100 * ghosts / absent if absent else None,
        "miss_rate": 100 * missed / seen if seen else None,
        "reentries": float(len(delays)),
        "noticed": 100 * len(noticed) / len(delays) if delays else None,
        "frames_to_notice": float(np.mean(noticed)) if noticed else None,
    }


def returns(there: Bools) -> list[tuple[int, int]]:
    """First frame of every stretch on which an object is there after it was absent, and the frame after it ends."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2) if start > 0]


def _delays(one: Sightings) -> list[int | None]:
    """For every time that the object comes back: frames until it is noticed, None if it leaves before."""
    delays: list[int | None] = []
    for start, end in returns(one.there):
        noticed = np.flatnonzero(one.says[start:end])
        delays.append(int(noticed[0]) if len(noticed) else None)
    return delays
