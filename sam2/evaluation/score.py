"""The engine: two folders of masks in, the scores of a protocol out.

Frames are read one at a time and forgotten, so that memory does not grow with the length of a video. With several
workers the frames of all sequences are dealt out in small groups and joined in order, so that one long video keeps
them all busy and the numbers are the same for any number of workers.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.folders import Stream, find_streams, some
from sam2.evaluation.label_files import read_cut, read_ids
from sam2.evaluation.protocols import Protocol
from sam2.evaluation.rows import Measured, Rows
from sam2.evaluation.scores import Numbers, ObjectScore
from sam2.evaluation.uncertainty import Bootstrap, Uncertainty, uncertainty

GROUP = 16  # frames a worker takes at a time
Progress = Callable[[int, int], None]  # frames done, frames in all


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        protocol: by which rules.
        totals: the benchmark's numbers, percent; None where it has no value.
        objects: every object that counts, by sequence and id.
        frames: "SEQUENCE/FRAME" (or "SEQUENCE/OBJECT/FRAME") of everything that may count, whatever was predicted.
        notes: what was left out or is unusual.
        how: level, number and seed of the draws that the intervals are made of.
    """

    protocol: Protocol
    totals: Numbers
    objects: tuple[ObjectScore, ...]
    frames: tuple[str, ...]
    notes: tuple[str, ...]
    how: Bootstrap = Bootstrap()

    @property
    def frames_hash(self) -> str:
        """SHA-256 over `frames`, one a line: equal for equal lists."""
        return hashlib.sha256("".join(f"{name}\n" for name in self.frames).encode()).hexdigest()

    @cached_property
    def uncertainty(self) -> Uncertainty:
        """How far the totals would move with other videos."""
        return uncertainty(self.objects, self.protocol.means, self.totals, self.how)


@dataclass(frozen=True)
class _Task:
    """Some frames of a stream for a worker."""

    protocol: Protocol
    stream: Stream
    frames: tuple[str, ...]
    start: int


def evaluate(
    protocol: Protocol,
    gt: Path,
    pred: Path,
    sequences: Collection[str] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    how: Bootstrap | None = None,
) -> Evaluation:
    """Score the masks in `pred` against those in `gt`.

    Args:
        protocol: the rules.
        gt: folder of the ground truth, one folder a sequence.
        pred: folder of the predictions, laid out alike.
        sequences: names of the sequences to score; by default all, which then must be the same in both.
        workers: processes that read and measure; the numbers do not depend on it.
        progress: called with (frames done, frames in all).
        how: level, number and seed of the draws for intervals.

    Raises:
        EvaluationError: naming the file, what was expected and found, and what to do.
    """
    streams = find_streams(gt, pred, sequences)
    plans = [(stream, _frames_to_measure(protocol, stream)) for stream in streams]
    rules = replace(protocol, meta=None, unseen=None)  # large, and measuring does not need them
    tasks = [
        _Task(rules, stream, frames[start : start + GROUP], start)
        for stream, frames in plans
        for start in range(0, len(frames), GROUP)
    ]
    total, done = sum(len(frames) for _, frames in plans), 0
    parts: dict[tuple[str, str | None], list[Rows]] = {}
    for task, rows in zip(tasks, _run(tasks, workers), strict=True):
        parts.setdefault((task.stream.sequence, task.stream.folder), []).append(rows)
        done += len(task.frames)
        if progress:
            progress(done, total)
    objects: list[ObjectScore] = []
    notes: list[str] = []
    for stream, frames in plans:
        found, remarks = _score_stream(
            protocol, stream, frames, Rows.join(parts[stream.sequence, stream.folder])
        )
        objects += found
        notes += remarks
    ignored = [f"{_path(s)}/{frame}" for s in streams for frame in sorted(s.predicted - set(s.frames))]
    if ignored:
        notes.append(f"predicted frames without ground truth are not scored: {some(ignored)}")
    if not objects:
        raise EvaluationError(
            f"{gt}: no object counts by the protocol {protocol.name}: {'; '.join(notes[:3])}"
        )
    names = tuple(f"{_path(stream)}/{frame}" for stream, frames in plans for frame in frames)
    totals = protocol.totals(objects)
    return Evaluation(protocol, totals, tuple(objects), names, tuple(notes), how or Bootstrap())


def _path(stream: Stream) -> str:
    return stream.sequence if stream.folder is None else f"{stream.sequence}/{stream.folder}"


def _frames_to_measure(protocol: Protocol, stream: Stream) -> tuple[str, ...]:
    """The frames that the protocol wants, which must be there."""
    if stream.folder is not None and not protocol.object_folders:
        raise EvaluationError(
            f"{stream.gt.parent}: has a folder an object, {protocol.name} expects one palette PNG a frame; "
            "use --protocol sav for this layout"
        )
    frames = protocol.measured(stream.sequence, stream.frames)
    if not frames:
        raise EvaluationError(
            f"{stream.gt}: has {len(stream.frames)} frames, none of which counts by the protocol {protocol.name}; "
            "add frames or leave the sequence out"
        )
    missing = [frame for frame in frames if frame not in stream.predicted]
    if missing:
        raise EvaluationError(
            f"{stream.pred}: {missing[0]}.png is missing ({len(missing)} of {len(frames)} frames in all); its ground "
            f"truth is {stream.files(missing[0])[0]}; write an empty mask where nothing is seen"
        )
    extra = sorted(stream.predicted - set(stream.frames))
    if extra and not protocol.extra_frames:
        raise EvaluationError(
            f"{stream.pred}: {extra[0]}.png has no ground truth in {stream.gt} ({len(extra)} in all); "
            f"expected the same {len(stream.frames)} frames, remove the others"
        )
    return frames


def _run(tasks: list[_Task], workers: int) -> Iterator[Rows]:
    """The answers in the order of the tasks; few are under way at a time."""
    if workers == 1 or len(tasks) < 2:
        yield from map(_measure, tasks)
        return
    waiting: deque[Future[Rows]] = deque()
    todo = iter(tasks)
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn")) as pool:
        try:
            waiting.extend(pool.submit(_measure, task) for task in islice(todo, 4 * workers))
            while waiting:
                try:
                    rows = waiting.popleft().result()
                except BrokenProcessPool as error:
                    raise EvaluationError(
                        "a worker ended without a word, as when memory runs out; use fewer --workers"
                    ) from error
                waiting.extend(pool.submit(_measure, task) for task in islice(todo, 1))
                yield rows
        finally:
            for future in waiting:
                future.cancel()


def _measure(task: _Task) -> Rows:
    """Read and measure the frames of a task."""
    frames = []
    for t, frame in enumerate(task.frames, task.start):
        cut = read_cut(*task.stream.files(frame), single=task.stream.folder is not None)
        ids, values, gt_area, pred_area = task.protocol.measure(cut)
        frames.append(Rows(np.full(len(ids), t), ids, values, gt_area, pred_area))
    return Rows.join(frames)


def _check_ids(measured: Measured) -> None:
    """Stop at predictions that share no id with the ground truth, such as colours that became grey levels."""
    true_ids = {*measured.rows.true_ids(), *measured.first_ids}
    found = measured.rows.predicted_ids()
    if found and true_ids and not true_ids & set(found):
        shown = ", ".join(map(str, found[:6])) + (", ..." if len(found) > 6 else "")
        raise EvaluationError(
            f"{measured.pred}: has the ids {shown}, none of which is in its ground truth {measured.gt} "
            f"({', '.join(map(str, sorted(true_ids)[:6]))}); write the ids of the ground truth, and convert no palette "
            "image to grey"
        )


def _score_stream(
    protocol: Protocol, stream: Stream, frames: tuple[str, ...], rows: Rows
) -> tuple[list[ObjectScore], list[str]]:
    """The objects of a stream, and notes that begin with its name."""
    first: tuple[int, ...] = ()
    if protocol.reads_first:
        first = tuple(i for i in np.unique(read_ids(stream.files(stream.frames[0])[0])).tolist() if i > 0)
    measured = Measured(stream.sequence, stream.gt, stream.pred, frames, stream.frames, first, rows)
    if not protocol.as_published:
        _check_ids(measured)
    choice = protocol.choose(measured)
    objects = []
    for i, kept in choice.kept.items():
        name: int | str = i if stream.folder is None else stream.folder
        if not len(kept):
            choice.notes.append(f"object {i} has no frame that counts and is not scored")
            continue
        series = measured.series(i).pick(kept)
        j, f = (100 * float(series.values[:, m].mean()) for m in (0, 1))
        objects.append(
            ObjectScore(
                stream.sequence,
                name,
                j,
                f,
                tuple(frames[t] for t in kept),
                protocol.extras(series),
                {measure: series.values[:, m] for m, measure in enumerate(protocol.measures)},
                protocol.part(stream.sequence, name),
                tuple((series.gt_area > 0).tolist()),
            )
        )
    if not objects and stream.folder is not None:
        if protocol.as_published:
            raise EvaluationError(
                f"{stream.gt}: the object is in none of the scored frames, where the published tool stops; "
                "score without --as-published to leave it out"
            )
        choice.notes.append("the object is in none of the scored true frames and is not scored")
    return objects, [f"{_path(stream)}: {note}" for note in choice.notes]
