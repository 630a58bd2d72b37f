"""Volumes as folders of slices: Dice, HD95, NSD and Boundary IoU of every object, two folders in.

The layout is that of `sam2 eval score`; the frames of a sequence are its slices, in order. Slices are read one at a
time and three are kept, because a surface voxel is known by its neighbours; of each object its surface voxels stay
until the sequence ends. Definitions: sam2/evaluation/surfaces.py, docs/evaluation.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sam2.evaluation.boundary import Bools
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.folders import Stream, find_streams
from sam2.evaluation.kinds import VOLUME_MEANS
from sam2.evaluation.label_files import Labels, read_pair
from sam2.evaluation.scores import ObjectNumbers
from sam2.evaluation.surfaces import (
    Voxels,
    as_voxels,
    boundary_iou,
    dice_of_counts,
    distances,
    edges_in_slice,
    hd95,
    nsd,
)
from sam2.evaluation.uncertainty import Bootstrap

MAX_SURFACE = 1 << 25  # surface voxels of a sequence, all objects, truth and prediction: 12 bytes each
NUMBERS = tuple(mean.name for mean in VOLUME_MEANS)
Pair = tuple[Labels, Labels]  # truth and prediction of a slice
Progress = Callable[[int, int], None]  # slices done, slices in all


@dataclass(frozen=True)
class VolumeRules:
    """What a volume's numbers depend on beside its masks.

    Attributes:
        spacing: mm from voxel to voxel as z, y, x.
        tolerance: how far apart two surfaces may lie for NSD, in mm.
    """

    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    tolerance: float = 1.0


@dataclass(frozen=True)
class VolumeScore(ObjectNumbers):
    """One object of one sequence, with its numbers by the names of NUMBERS.

    They are percent, HD95 is in mm and None where the object was not found at all.

    Attributes:
        slices: on how many slices it is in the truth or the prediction.
    """

    slices: int = 0


@dataclass(frozen=True)
class VolumeEvaluation:
    """What came out.

    Attributes:
        rules: spacing and tolerance.
        objects: every true object, by sequence and id.
        slices: "SEQUENCE/FRAME" (or "SEQUENCE/OBJECT/FRAME") of all true slices.
        notes: what is unusual.
        how: level, number and seed of the draws that the intervals are made of.
    """

    rules: VolumeRules
    objects: tuple[VolumeScore, ...]
    slices: tuple[str, ...]
    notes: tuple[str, ...]
    how: Bootstrap = Bootstrap()

    @property
    def totals(self) -> dict[str, float | None]:
        """Means over the objects that have the number; None if none has."""
        found: dict[str, float | None] = {}
        for name in NUMBERS:
            values = [value for o in self.objects if (value := o.values[name]) is not None]
            found[name] = float(np.mean(values)) if values else None
        return found

    @property
    def without_hd95(self) -> int:
        """How many objects have no HD95, and are not in its mean."""
        return sum(o.values["HD95"] is None for o in self.objects)

    @property
    def slices_hash(self) -> str:
        """SHA-256 over `slices`, one a line."""
        return hashlib.sha256("".join(f"{name}\n" for name in self.slices).encode()).hexdigest()


@dataclass
class _Tally:
    """What is known of an object while its slices pass."""

    overlap: int = 0
    gt: int = 0
    pred: int = 0
    boundary_ious: list[float] = field(default_factory=list)
    gt_surface: list[Voxels] = field(default_factory=list)
    pred_surface: list[Voxels] = field(default_factory=list)

    def add(self, gt: Bools, pred: Bools) -> None:
        self.overlap += int(np.count_nonzero(gt & pred))
        self.gt += int(np.count_nonzero(gt))
        self.pred += int(np.count_nonzero(pred))
        self.boundary_ious.append(boundary_iou(gt, pred))

    def numbers(self, rules: VolumeRules) -> dict[str, float | None]:
        gt, pred = (_joined(parts) for parts in (self.gt_surface, self.pred_surface))
        found = distances(gt, pred, rules.spacing)
        return {
            "Dice": 100 * dice_of_counts(self.overlap, self.gt, self.pred),
            "HD95": hd95(found),
            "NSD": 100 * nsd(found, rules.tolerance),
            "Boundary_IoU": 100 * float(np.mean(self.boundary_ious)),
        }


def _joined(parts: list[Voxels]) -> Voxels:
    return np.concatenate(parts) if parts else np.empty((0, 3), np.int32)


def evaluate_volumes(
    rules: VolumeRules,
    gt: Path,
    pred: Path,
    sequences: Collection[str] | None = None,
    progress: Progress | None = None,
    how: Bootstrap | None = None,
) -> VolumeEvaluation:
    """Score the volumes in `pred` against those in `gt`; memory is bounded by one sequence's surfaces.

    Args:
        rules: spacing and tolerance, the same for all sequences.
        gt: folder of the ground truth, one folder a sequence, its frames the slices in order.
        pred: folder of the predictions, laid out alike.
        sequences: names of the sequences to score; by default all, which then must be the same in both.
        progress: called with (slices done, slices in all).
        how: level, number and seed of the draws for intervals.

    Raises:
        EvaluationError: naming the file, what was expected and found, and what to do.
    """
    streams = find_streams(gt, pred, sequences)
    for stream in streams:
        _check_slices(stream)
    total, done = sum(len(stream.frames) for stream in streams), 0
    objects: list[VolumeScore] = []
    notes: list[str] = []
    for stream in streams:
        tallies: dict[int, _Tally] = {}
        for z in _sweep(stream, tallies):
            if progress:
                progress(done + z, total)
        done += len(stream.frames)
        found, remarks = _score(stream, tallies, rules)
        objects += found
        notes += remarks
    if not objects:
        raise EvaluationError(
            f"{gt}: no slice has an object; expected object ids above 0, is this the truth?"
        )
    names = tuple(f"{_path(stream)}/{frame}" for stream in streams for frame in stream.frames)
    return VolumeEvaluation(rules, tuple(objects), names, tuple(notes), how or Bootstrap())


def _path(stream: Stream) -> str:
    return stream.sequence if stream.folder is None else f"{stream.sequence}/{stream.folder}"


def _check_slices(stream: Stream) -> None:
    """A volume has all of its slices and no other."""
    missing = [frame for frame in stream.frames if frame not in stream.predicted]
    if missing:
        raise EvaluationError(
            f"{stream.pred}: {missing[0]}.png is missing ({len(missing)} of {len(stream.frames)} slices in all); its "
            f"ground truth is {stream.files(missing[0])[0]}; write an empty mask where nothing is seen"
        )
    extra = sorted(stream.predicted - set(stream.frames))
    if extra:
        raise EvaluationError(
            f"{stream.pred}: {extra[0]}.png has no ground truth in {stream.gt} ({len(extra)} in all); "
            f"expected the same {len(stream.frames)} slices, remove the others"
        )


def _sweep(stream: Stream, tallies: dict[int, _Tally]) -> Iterator[int]:
    """Pass through the slices, filling the tallies by id; yields how many slices are done."""
    kept = 0
    for z, (below, here, above) in enumerate(_with_neighbours(_read(stream))):
        gt, pred = here
        is_image = len(stream.frames) == 1
        gt_edges, pred_edges = (
            edges_in_slice(
                here[side], () if is_image else [s if s is None else s[side] for s in (below, above)]
            )
            for side in (0, 1)
        )
        for i in _ids(gt, pred):
            tally = tallies.setdefault(i, _Tally())
            truth, guess = gt == i, pred == i
            tally.add(truth, guess)
            tally.gt_surface.append(as_voxels(z, truth & gt_edges))
            tally.pred_surface.append(as_voxels(z, guess & pred_edges))
            kept += len(tally.gt_surface[-1]) + len(tally.pred_surface[-1])
        if kept > MAX_SURFACE:
            raise EvaluationError(
                f"{stream.files(stream.frames[z])[1]}: up to this slice {_path(stream)} has more than {MAX_SURFACE} "
                "surface voxels in truth and prediction together; look for noise in the masks, or split the volume"
            )
        yield z + 1


def _ids(gt: Labels, pred: Labels) -> list[int]:
    """Ids of the objects of a slice, on either side."""
    counts = np.bincount(gt.ravel(), minlength=256) + np.bincount(pred.ravel(), minlength=256)
    return [i for i in np.flatnonzero(counts).tolist() if i > 0]


def _read(stream: Stream) -> Iterator[Pair]:
    """Truth and prediction of each slice, all of one size."""
    size: tuple[int, ...] | None = None
    for frame in stream.frames:
        gt, pred = read_pair(*stream.files(frame), single=stream.folder is not None)
        size = size or gt.shape
        if gt.shape != size:
            first = stream.files(stream.frames[0])[0]
            (height, width), (wanted_height, wanted_width) = gt.shape, size
            raise EvaluationError(
                f"{stream.files(frame)[0]}: is {width}x{height}, the first slice {first} is "
                f"{wanted_width}x{wanted_height}; the slices of a volume must be of one size"
            )
        yield gt, pred


def _with_neighbours(slices: Iterator[Pair]) -> Iterator[tuple[Pair | None, Pair, Pair | None]]:
    """Each slice between the one below and the one above; None beyond the volume."""
    below: Pair | None = None
    here = next(slices)
    for above in slices:
        yield below, here, above
        below, here = here, above
    yield below, here, None


def _score(
    stream: Stream, tallies: dict[int, _Tally], rules: VolumeRules
) -> tuple[list[VolumeScore], list[str]]:
    """The true objects of a sequence, and notes that begin with its name."""
    true_ids = sorted(i for i, tally in tallies.items() if tally.gt)
    extra = sorted(i for i, tally in tallies.items() if not tally.gt)
    if true_ids and extra and not any(tallies[i].pred for i in true_ids):
        raise EvaluationError(
            f"{stream.pred}: has the ids {_list(extra)}, none of which is in its ground truth {stream.gt} "
            f"({_list(true_ids)}); write the ids of the ground truth, and convert no palette image to grey"
        )
    notes = []
    if not true_ids:
        notes.append(f"{_path(stream)}: no true slice has an object, nothing is scored")
    if extra:
        notes.append(f"{_path(stream)}: predicted ids {_list(extra)} are not in the truth and are not scored")
    return [
        VolumeScore(
            stream.sequence,
            i if stream.folder is None else stream.folder,
            tallies[i].numbers(rules),
            slices=len(tallies[i].boundary_ious),
        )
        for i in true_ids
    ], notes


def _list(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:6])) + (", ..." if len(ids) > 6 else "")
