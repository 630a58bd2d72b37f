"""The protocols: which frames and objects of a benchmark count, and how its numbers are made of J and F.

One class each, over one engine (`sam2.evaluation.score`). A new protocol is a subclass of `Protocol` in `PROTOCOLS`:
it says which frames are measured, which objects are kept on which of them, and what is reported.
What the published tools do, what is done otherwise and why: docs/evaluation.md. Held by
tests/sam2/evaluation/test_protocols.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sam2.evaluation.boundary import Floats, Ints
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.jf import Cut, score_cut
from sam2.evaluation.meta import Meta
from sam2.evaluation.mose import score_mose_frame
from sam2.evaluation.rows import VOID, Choice, Measured, Series
from sam2.evaluation.scores import Mean, Numbers, ObjectScore, mean_scores, part_of, seen_and_unseen
from sam2.evaluation.statistics import decay, decay_as_published, mean_of_runs, recall, runs, spread

Frame = tuple[Ints, Floats, Ints, Ints]  # ids, (objects, measures), true and predicted areas


@dataclass(frozen=True)
class Protocol(ABC):
    """The rules that most benchmarks share: the inner frames, J and F, means over objects.

    Attributes:
        as_published: give the faulty numbers of the published tool where it has any.
        keep_ends: score the first and the last frame, too.
        meta: what the benchmark says about its objects; None where it is not needed or not wanted.
        unseen: names of unseen sequences or categories; None where they are not needed or not wanted.
    """

    as_published: bool = False
    keep_ends: bool = False
    meta: Meta | None = None
    unseen: frozenset[str] | None = None

    name: ClassVar[str]
    version: ClassVar[int] = 1  # goes up whenever a number can change
    source: ClassVar[str]
    measures: ClassVar[tuple[str, ...]] = ("J", "F")
    object_folders: ClassVar[bool] = False  # whether each object may have its own folder
    extra_frames: ClassVar[bool] = True  # whether predictions without ground truth are no mistake
    reads_first: ClassVar[bool] = False  # whether the objects of the first frame must be known
    can_keep_ends: ClassVar[bool] = False
    uses_meta: ClassVar[bool] = False
    uses_unseen: ClassVar[bool] = False
    means: ClassVar[tuple[Mean, ...]] = (
        Mean("J&F", "J&F"),
        Mean("J", "J"),
        Mean("F", "F"),
    )  # the first one leads

    def measured(self, sequence: str, frames: Sequence[str]) -> tuple[str, ...]:
        """The frames to look at, of all true frames in their order."""
        return tuple(frames if self.keep_ends else frames[1:-1])

    def measure(self, cut: Cut) -> Frame:
        """One frame: every id of either map."""
        found = score_cut(cut)
        return found.ids, np.column_stack([found.j, found.f]), found.gt_area, found.pred_area

    @abstractmethod
    def choose(self, measured: Measured) -> Choice:
        """The objects and frames that count."""

    def extras(self, series: Series) -> Numbers:
        """Further numbers of one object, in percent."""
        return {}

    def part(self, sequence: str, object_id: int | str) -> str | None:
        """Whether an object is "seen" or "unseen"; None where the benchmark does not tell these apart."""
        return None

    def totals(self, objects: Sequence[ObjectScore]) -> Numbers:
        """The benchmark's numbers, in percent."""
        return mean_scores(objects)


def _all(measured: Measured) -> Ints:
    return np.arange(len(measured.frames))


@dataclass(frozen=True)
class Davis2017(Protocol):
    """Objects of the first frame on the inner frames; an id that the first frame has not is a mistake."""

    name = "davis2017"
    source = "davis2017-evaluation ac7c43f, semi-supervised"
    extra_frames = False
    reads_first = True

    def choose(self, measured: Measured) -> Choice:
        first = [i for i in measured.first_ids if i != VOID]
        if not first:
            raise EvaluationError(
                f"{measured.gt}: its first frame {measured.all_frames[0]}.png has no object; DAVIS 2017 scores the "
                "objects of the first frame, use --protocol vos for objects that appear later"
            )
        # the published tool counts from 1 to the highest id and scores ids that do not exist, perfectly as a rule
        scored = list(range(1, max(first) + 1)) if self.as_published else first
        rows = measured.rows
        strange = sorted(set(rows.predicted_ids()) - set(scored))
        if strange:
            at = rows.frame[np.isin(rows.object_id, strange) & (rows.pred_area > 0)][0]
            raise EvaluationError(
                f"{measured.pred / measured.frames[at]}.png: has id {strange[0]}, the first frame of its ground truth "
                f"has {', '.join(map(str, first))}; remove what is no object of the first frame, leave the sequence "
                "out by --sequences, or use --protocol vos for objects that appear later"
            )
        late = sorted(set(rows.true_ids()) - set(first) - {VOID})
        notes = [f"object {i} is not in the first frame and is not scored" for i in late]
        return Choice({i: _all(measured) for i in scored}, notes)

    def extras(self, series: Series) -> Numbers:
        decrease = decay_as_published if self.as_published else decay
        return {
            f"{name}_{what}": 100 * statistic(series.values[:, m])
            for m, name in enumerate(self.measures)
            for what, statistic in (("recall", recall), ("decay", decrease))
        }

    def totals(self, objects: Sequence[ObjectScore]) -> Numbers:
        return mean_scores(objects, ("J_recall", "J_decay", "F_recall", "F_decay"))


@dataclass(frozen=True)
class Vos(Protocol):
    """Every object of the inner true frames, from where it is first seen, in the ground truth or by mistake."""

    name = "vos"
    source = "vos-benchmark acb4733"
    can_keep_ends = True

    def choose(self, measured: Measured) -> Choice:
        rows = measured.rows
        kept = {}
        for i in rows.true_ids():
            kept[i] = np.arange(rows.frame[rows.object_id == i].min(), len(measured.frames))
        return Choice(kept, measured.not_scored(kept))


@dataclass(frozen=True)
class SaV(Vos):
    """As `Vos`; every object may have its own folder, and one that is in none of the scored frames is left out."""

    name = "sav"
    source = "sav_evaluator of facebookresearch/sam2 2b90b9f"
    object_folders = True


@dataclass(frozen=True)
class MoseV2(Protocol):
    """The measures of MOSEv2 on the inner frames; absence and return are reported by themselves."""

    name = "mosev2"
    source = "MOSE-api 241977a, score.py"
    measures = ("J", "F", "F_dot")
    extra_frames = False
    reads_first = True
    uses_meta = True
    means = (Mean("J&F_dot", "J&F_dot"), Mean("F_dot", "F_dot"), *Protocol.means)

    PARTS: ClassVar = ("disappear_J", "disappear_F_dot", "reappear_J", "reappear_F_dot")

    def measure(self, cut: Cut) -> Frame:
        return score_mose_frame(cut)

    def choose(self, measured: Measured) -> Choice:
        if self.meta is None:
            ids = sorted({*measured.first_ids, *measured.rows.true_ids()} - {VOID})
        else:
            ids = sorted(set(self.meta.of(measured.sequence)) - {VOID})
            length = self.meta.lengths.get(measured.sequence, len(measured.all_frames))
            if length != len(measured.all_frames):
                raise EvaluationError(
                    f"{self.meta.path}: sequence {measured.sequence} has length {length}, its ground truth has "
                    f"{len(measured.all_frames)} frames; the two do not belong together"
                )
        return Choice({i: _all(measured) for i in ids}, measured.not_scored(ids))

    def extras(self, series: Series) -> Numbers:
        away, back = runs(series.gt_area == 0)
        f_dot = 100 * float(series.values[:, 2].mean())
        numbers: Numbers = {"F_dot": f_dot, "J&F_dot": (100 * float(series.values[:, 0].mean()) + f_dot) / 2}
        for part, stretches in (("disappear", away), ("reappear", back)):
            for name, m in (("J", 0), ("F_dot", 2)):
                mean = mean_of_runs(series.values[:, m], stretches)
                numbers[f"{part}_{name}"] = None if mean is None else 100 * mean
        return numbers

    def totals(self, objects: Sequence[ObjectScore]) -> Numbers:
        return mean_scores(objects, ("F_dot", "J&F_dot", *self.PARTS))


@dataclass(frozen=True)
class Lvos(Protocol):
    """Each object inside its own range, without the range's ends; J&F is the mean over seen and unseen videos."""

    name = "lvos"
    source = "lvos-evaluation 25cb02d, the path without compiled code"
    reads_first = True
    uses_meta = True
    uses_unseen = True
    means = (Mean("J&F", "J&F", by_part=True), *Protocol.means[1:], Mean("J&F_objects", "J&F"))

    STRIDE: ClassVar = 5  # numbers of frames rise by it

    def measured(self, sequence: str, frames: Sequence[str]) -> tuple[str, ...]:
        if self.meta is None:
            return tuple(frames[1:-1])
        by_number = {int(name): name for name in frames if name.isdecimal()}
        wanted: set[int] = set()
        for span in self._ranges(sequence).values():
            missing = next((number for number in span[1:-1] if number not in by_number), None)
            if missing is not None:
                raise EvaluationError(
                    f"{self.meta.path}: sequence {sequence} has frame {missing}, the ground truth has {frames[0]} to "
                    f"{frames[-1]} without it; complete it, or name the right file with --meta"
                )
            wanted.update(span[1:-1])
        return tuple(by_number[number] for number in sorted(wanted))

    def choose(self, measured: Measured) -> Choice:
        if self.meta is None:
            kept = measured.after_first()
        else:
            place = {int(name): t for t, name in enumerate(measured.frames)}
            kept = {
                i: np.array([place[number] for number in span[1:-1]], np.int64)
                for i, span in self._ranges(measured.sequence).items()
            }
        return Choice(kept, measured.not_scored(kept))

    def _ranges(self, sequence: str) -> dict[int, range]:
        assert self.meta is not None
        spans = {}
        for i, about in self.meta.of(sequence).items():
            where = f"{self.meta.path}: sequence {sequence}, object {i}"
            if about.start is None or about.end is None:
                raise EvaluationError(f"{where} has no frame_range; LVOS scores objects inside theirs")
            span = range(about.start, about.end + 1, self.STRIDE)
            if about.frames is not None and about.frames != len(span):
                raise EvaluationError(
                    f"{where} has frame_nums {about.frames}, its range {about.start} to {about.end} in steps of "
                    f"{self.STRIDE} has {len(span)}; correct the file"
                )
            spans[i] = span
        return spans

    def extras(self, series: Series) -> Numbers:
        return {"V": 100 * spread(series.values[:, 0], series.values[:, 1])}

    def part(self, sequence: str, object_id: int | str) -> str | None:
        return None if self.unseen is None else part_of(sequence, object_id, self.unseen, None)

    def totals(self, objects: Sequence[ObjectScore]) -> Numbers:
        numbers = mean_scores(objects, ("V",))
        if self.as_published:  # the published tool keeps one value, that of the last object
            numbers["V"] = objects[-1].extras["V"]
        if self.unseen is None:
            return numbers
        parts = seen_and_unseen(objects, self.unseen, ("J", "F", "V"))
        four = float(np.mean([parts[name] for name in ("J_seen", "F_seen", "J_unseen", "F_unseen")]))
        return {**numbers, "J&F": four, "J&F_objects": numbers["J&F"], **parts}


@dataclass(frozen=True)
class YtVos(Protocol):
    """Each object after the frame it first appears on, to the end; G is the mean over seen and unseen categories."""

    name = "ytvos"
    source = "YouTube-VOS as its papers describe it; its server's code is not published"
    reads_first = True
    uses_meta = True
    uses_unseen = True
    means = (Mean("G", "J&F", by_part=True), *Protocol.means)

    def measured(self, sequence: str, frames: Sequence[str]) -> tuple[str, ...]:
        return tuple(frames[1:])

    def part(self, sequence: str, object_id: int | str) -> str | None:
        return None if self.unseen is None else part_of(sequence, object_id, self.unseen, self.meta)

    def choose(self, measured: Measured) -> Choice:
        kept = measured.after_first()
        if self.meta is not None:
            kept = {i: kept[i] for i in self.meta.of(measured.sequence) if i in kept}
        return Choice(kept, measured.not_scored(kept))

    def totals(self, objects: Sequence[ObjectScore]) -> Numbers:
        numbers = mean_scores(objects)
        if self.unseen is None:
            return numbers
        parts = seen_and_unseen(objects, self.unseen, ("J", "F"))
        return {
            **numbers,
            "G": float(np.mean([value for value in parts.values() if value is not None])),
            **parts,
        }


PROTOCOLS: dict[str, type[Protocol]] = {
    kind.name: kind for kind in (Davis2017, SaV, Vos, Lvos, MoseV2, YtVos)
}
