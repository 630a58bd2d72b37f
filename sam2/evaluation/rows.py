"""What was measured, frame by frame, in arrays: small enough to keep for a video of any length."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sam2.evaluation.boundary import BYTE_IDS, Floats, Ints

VOID = BYTE_IDS  # the id that means "neither this nor that" in ground truths


@dataclass(frozen=True)
class Rows:
    """One row for every object that is in either map of a frame; one that is in none has the value 1 there.

    Attributes:
        frame: number of the frame among those measured.
        object_id: of the object.
        values: (rows, measures), between 0 and 1.
        gt_area: pixels in the ground truth.
        pred_area: pixels in the prediction.
    """

    frame: Ints
    object_id: Ints
    values: Floats
    gt_area: Ints
    pred_area: Ints

    @staticmethod
    def join(parts: Sequence[Rows]) -> Rows:
        """All rows of at least one part."""
        names = ("frame", "object_id", "values", "gt_area", "pred_area")
        return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def true_ids(self) -> list[int]:
        """Objects of the ground truth, ascending."""
        return np.unique(self.object_id[self.gt_area > 0]).tolist()

    def predicted_ids(self) -> list[int]:
        """Objects of the predictions, ascending."""
        return np.unique(self.object_id[self.pred_area > 0]).tolist()

    def series(self, object_id: int, frames: int) -> Series:
        """One object on all frames that were measured."""
        mine = self.object_id == object_id
        at = self.frame[mine]
        values = np.ones((frames, self.values.shape[1]))
        gt_area, pred_area = np.zeros(frames, np.int64), np.zeros(frames, np.int64)
        values[at], gt_area[at], pred_area[at] = self.values[mine], self.gt_area[mine], self.pred_area[mine]
        return Series(values, gt_area, pred_area)


@dataclass(frozen=True)
class Series:
    """One object over frames: values (frames, measures) and areas (frames,) in pixels."""

    values: Floats
    gt_area: Ints
    pred_area: Ints

    def pick(self, frames: Ints) -> Series:
        """The same on some frames."""
        return Series(self.values[frames], self.gt_area[frames], self.pred_area[frames])


@dataclass(frozen=True)
class Measured:
    """A stream after measuring.

    Attributes:
        sequence: its name.
        gt: folder of the ground truth.
        pred: folder of the predictions.
        frames: names of the frames that were measured, in order.
        all_frames: names of all true frames, in order.
        first_ids: objects of the first true frame, without void; empty where the protocol does not ask.
        rows: what was found.
    """

    sequence: str
    gt: Path
    pred: Path
    frames: tuple[str, ...]
    all_frames: tuple[str, ...]
    first_ids: tuple[int, ...]
    rows: Rows

    def series(self, object_id: int) -> Series:
        """One object on all frames that were measured."""
        return self.rows.series(object_id, len(self.frames))

    def after_first(self) -> dict[int, Ints]:
        """Each true object with the frames after the one it is first seen on."""
        kept = {}
        for i in sorted({*self.first_ids, *self.rows.true_ids()} - {VOID}):
            start = 0 if i in self.first_ids else np.flatnonzero(self.series(i).gt_area)[0] + 1
            kept[i] = np.arange(start, len(self.frames))
        return kept

    def not_scored(self, scored: Collection[int]) -> list[str]:
        """A line for each side that has other ids than these; void in the ground truth is none."""
        notes = []
        for what, ids in (("prediction", self.rows.predicted_ids()), ("ground truth", self.rows.true_ids())):
            others = sorted(set(ids) - set(scored) - ({VOID} if what == "ground truth" else set()))
            if others:
                notes.append(f"ids {', '.join(map(str, others))} of the {what} are not scored")
        return notes


@dataclass(frozen=True)
class Choice:
    """Which objects of a stream a protocol scores, on which of its measured frames; and what should be known.

    Attributes:
        kept: per object the numbers of the frames that count.
        notes: what was left out or is unusual.
    """

    kept: dict[int, Ints]
    notes: list[str] = field(default_factory=list)
