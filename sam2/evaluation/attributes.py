"""J&F by what kind of object it is, told from the true masks alone: size, length, absence, returns, motion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2.evaluation.label_files import read_ids, read_mask
from sam2.evaluation.scores import ObjectScore, mean_scores
from sam2.evaluation.visibility import returns

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Trace:
    """An object's true masks on its counted frames: area in pixels, centre (NaN where absent), (T,) each."""

    area: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    @property
    def side(self) -> float:
        """Side of a square of the mean area where it is visible, pixels."""
        seen = self.area[self.area > 0]
        return float(np.sqrt(seen.mean())) if len(seen) else 0.0

    @property
    def absence(self) -> float:
        """Share of the frames on which it is absent."""
        return float((self.area == 0).mean())

    @property
    def returns(self) -> int:
        """How often it is visible again after it was absent."""
        return len(returns(self.area > 0))

    @property
    def motion(self) -> float | None:
        """Mean way of the centre from one counted frame to the next on which both show it, in its own sides."""
        way = np.hypot(np.diff(self.x), np.diff(self.y))
        way = way[np.isfinite(way)]
        return float(way.mean()) / self.side if len(way) else None


@dataclass(frozen=True)
class Kind:
    """A way to tell objects apart: `of` gives a number, groups begin at 0 and end before each limit but the last."""

    name: str
    unit: str
    of: Callable[[Trace], float | None]
    groups: tuple[tuple[str, float], ...]

    def group(self, trace: Trace) -> str | None:
        """The group of an object, None where it has no number."""
        value = self.of(trace)
        if value is None:
            return None
        return next(name for name, limit in self.groups if value < limit)


_ENDLESS = float("inf")
KINDS = (
    Kind(
        "size",
        "side of the mean area, px",
        lambda t: t.side,
        (("small", 32), ("medium", 96), ("large", _ENDLESS)),
    ),
    Kind(
        "length",
        "counted frames",
        lambda t: float(len(t.area)),
        (("short", 100), ("medium", 500), ("long", _ENDLESS)),
    ),
    Kind(
        "absence",
        "share of frames",
        lambda t: t.absence,
        (("never", 1e-12), ("at times", 0.25), ("often", _ENDLESS)),
    ),
    Kind("returns", "times", lambda t: float(t.returns), (("none", 1), ("one", 2), ("several", _ENDLESS))),
    Kind(
        "motion",
        "own sides a frame",
        lambda t: t.motion,
        (("slow", 0.05), ("medium", 0.2), ("fast", _ENDLESS)),
    ),
)


def _place(mask: NDArray[np.bool_]) -> tuple[int, float, float]:
    """Area and centre of a mask."""
    columns, rows = mask.sum(0), mask.sum(1)
    area = int(rows.sum())
    if not area:
        return 0, float("nan"), float("nan")
    return area, float(columns @ np.arange(len(columns))) / area, float(rows @ np.arange(len(rows))) / area


def traces(gt: Path, objects: Sequence[ObjectScore], progress: Progress | None = None) -> list[Trace]:
    """The true masks of scored objects on the frames that count; each file is read once for all its objects.

    Args:
        gt: folder of the ground truth, as it was scored.
        objects: what was scored.
        progress: called with (files read, files in all).

    Raises:
        EvaluationError: a file has changed since and cannot be read.
    """
    wanted: dict[Path, list[tuple[int, int]]] = {}
    for k, o in enumerate(objects):
        folder = gt / o.sequence if isinstance(o.object_id, int) else gt / o.sequence / o.object_id
        for t, frame in enumerate(o.frames):
            wanted.setdefault(folder / f"{frame}.png", []).append((k, t))
    found = [np.zeros((3, len(o.frames))) for o in objects]
    for done, (path, places) in enumerate(wanted.items(), 1):
        alone = not isinstance(objects[places[0][0]].object_id, int)
        labels = read_mask(path) if alone else read_ids(path)
        for k, t in places:
            object_id = objects[k].object_id
            found[k][:, t] = _place(labels == (object_id if isinstance(object_id, int) else 1))
        if progress:
            progress(done, len(wanted))
    return [Trace(area.astype(np.int64), x, y) for area, x, y in found]


def by_kind(objects: Sequence[ObjectScore], known: Sequence[Trace]) -> dict[str, dict[str, Any]]:
    """J&F, J and F, and the number of objects, of every group that has any.

    Args:
        objects: as scored.
        known: their true masks, in the same order.
    """
    table: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        members: dict[str, list[ObjectScore]] = {name: [] for name, _ in kind.groups}
        for o, one in zip(objects, known, strict=True):
            group = kind.group(one)
            if group is not None:
                members[group].append(o)
        groups = {name: {**mean_scores(own), "objects": len(own)} for name, own in members.items() if own}
        table[kind.name] = {"unit": kind.unit, "limits": _limits(kind), "groups": groups}
    return table


def _limits(kind: Kind) -> Mapping[str, float | None]:
    """Where each group ends; None for the last."""
    return {name: None if limit == _ENDLESS else limit for name, limit in kind.groups}
