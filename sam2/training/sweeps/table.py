"""A sweep as a table: a row for each combination of settings, the seeds together, each row against the baseline.

Intervals are of 95 %. With several seeds: Student's t over the seeds, which says how far training repeats itself on
these videos. With one seed: bootstrap over the videos (sam2/evaluation/uncertainty.py), which says how far other videos
would move the score, and nothing of other seeds. A difference is paired: over the seeds that both rows have or, with
one such seed, over the videos of its two runs, which must be the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from sam2.evaluation.report import ObjectResult, Result
from sam2.evaluation.scores import ObjectNumbers
from sam2.evaluation.uncertainty import DIFFERENCE, SCORE, Bootstrap, Kind, intervals, video_sums
from sam2.training.sweeps.factors import Factors, Values, factors, shown
from sam2.training.sweeps.runs import SCORES, Gathered, Run
from sam2.training.sweeps.student import Estimate, over_repetitions
from sam2.training.typed import ConfigError, closest

_ONE = "score"  # the name that a number has among the intervals


@dataclass(frozen=True)
class Row:
    """One combination of settings.

    Attributes:
        values: of the factors.
        score: mean over the finished runs; None without one.
        difference: from the baseline; None where there is none to make.
        finished, asked: runs.
        device_hours: mean of a finished run; None where it was not recorded.
        memory_gb: greatest peak of its runs.
        is_baseline: whether the others are held against it.
    """

    values: Values
    score: Estimate | None
    difference: Estimate | None
    finished: int
    asked: int
    device_hours: float | None
    memory_gb: float | None
    is_baseline: bool


@dataclass(frozen=True)
class SweepTable:
    """What there is to say about a set of runs.

    Attributes:
        factors: what the rows differ in.
        metric: what is compared.
        rows: in the order in which the values came.
        device: what hours are of, "GPU" or "CPU".
        notes: what a reader has to know to read it right.
        unfinished: runs that are not in the scores, each with the reason.
    """

    factors: Factors
    metric: str
    rows: Sequence[Row]
    device: str
    notes: Sequence[str]
    unfinished: Sequence[str]


def tabulate(
    gathered: Gathered, metric: str = "J&F", baseline: Mapping[str, Any] | None = None
) -> SweepTable:
    """Compare the runs.

    Args:
        gathered: all runs, those that failed included.
        metric: J&F, J or F on the held-out videos at the end, or a column of `metrics.csv`, of which the last value
            counts.
        baseline: values that choose the row to hold the others against; by default those of the sweep's recipe, or else
            the first row.

    Raises:
        ConfigError: no run is finished, none has the metric, or no single row is the baseline.
    """
    found = factors(gathered)
    rows = _latest(gathered.runs, found)
    finished = [run for seeds in rows.values() for run in seeds.values()]
    _check(gathered, finished, metric)
    base = _baseline(found, [*rows], gathered, baseline)
    asked: dict[Values, set[int]] = {}
    for run in gathered.runs:
        asked.setdefault(found.of(run), set()).add(run.seed)
    return SweepTable(
        found,
        metric,
        [_row(values, seeds, rows[base], metric, len(asked[values])) for values, seeds in rows.items()],
        finished[0].device,
        [*_notes(found, finished, metric), *_repeated(gathered.runs, found)],
        [_named(run) for run in gathered.runs if run.state != "finished"],
    )


def _latest(runs: Sequence[Run], found: Factors) -> dict[Values, dict[int, Run]]:
    """Runs by row and seed, every row that was asked for; of two finished runs of one seed the later one counts."""
    rows: dict[Values, dict[int, Run]] = {values: {} for values in found.order(map(found.of, runs))}
    for run in runs:
        seeds = rows[found.of(run)]
        before = seeds.get(run.seed)
        if run.state == "finished" and (before is None or _ended(before) <= _ended(run)):
            seeds[run.seed] = run
    return rows


def _ended(run: Run) -> str:
    return str(run.record["finished"].get("time", ""))


def _check(gathered: Gathered, finished: Sequence[Run], metric: str) -> None:
    if not finished:
        reasons = "; ".join(map(_named, gathered.runs[:3]))
        raise ConfigError(f"none of {len(gathered.runs)} runs is finished: {reasons}")
    if all(run.score(metric) is None for run in finished):
        known = [*SCORES, *dict.fromkeys(name for run in finished for name in run.curves)]
        near = closest(metric, known)
        has_no_scores = metric in SCORES and all(run.result is None for run in finished)
        why = "; data.val_root was not set" if has_no_scores else ""
        hint = f"did you mean '{near}'?" if near and near != metric else f"known: {', '.join(known)}"
        raise ConfigError(f"no finished run has a {metric}{why}; {hint}")


def _baseline(
    found: Factors, rows: Sequence[Values], gathered: Gathered, wanted: Mapping[str, Any] | None
) -> Values:
    if wanted:
        matching = found.matching(rows, wanted)
        if len(matching) != 1:
            what = " ".join(f"{key}={shown(value)}" for key, value in wanted.items())
            raise ConfigError(
                f"{len(matching)} rows have {what}, one can be the baseline; the rows are: "
                + ", ".join(map(found.label, rows))
            )
        return matching[0]
    own = {key: value for key, value in gathered.recipe.items() if key in found.names}
    matching = found.matching(rows, own) if len(own) == len(found.names) else []
    return matching[0] if matching else rows[0]


def _row(values: Values, seeds: Mapping[int, Run], base: Mapping[int, Run], metric: str, asked: int) -> Row:
    scored = {seed: run for seed, run in seeds.items() if run.score(metric) is not None}
    hours = [run.device_hours for run in seeds.values() if run.device_hours is not None]
    memory = [run.memory_gb for run in seeds.values() if run.memory_gb is not None]
    return Row(
        values,
        _score(scored, metric),
        None if seeds is base else _difference(scored, base, metric),
        len(seeds),
        asked,
        fmean(hours) if hours else None,
        max(memory, default=None),
        is_baseline=seeds is base,
    )


def _score(seeds: Mapping[int, Run], metric: str) -> Estimate | None:
    if not seeds:
        return None
    bounds = (0.0, 100.0) if metric in SCORES else (-math.inf, math.inf)
    found = over_repetitions([run.score(metric) or 0.0 for run in seeds.values()], "seed", bounds)
    (run, *others) = seeds.values()
    if others or metric not in SCORES or run.result is None:
        return found
    return _over_videos(run.result.objects, _values(run.result, metric), SCORE, found.value)


def _difference(seeds: Mapping[int, Run], base: Mapping[int, Run], metric: str) -> Estimate | None:
    """Less the baseline, seed by seed or video by video."""
    scores = {seed: (seeds[seed].score(metric), base[seed].score(metric)) for seed in seeds if seed in base}
    pairs = {
        seed: own - other for seed, (own, other) in scores.items() if own is not None and other is not None
    }
    if not pairs:
        return None
    found = over_repetitions([*pairs.values()], "seed")
    (seed, *others) = pairs
    one, other = seeds[seed].result, base[seed].result
    if others or metric not in SCORES or one is None or other is None:
        return found
    mine, theirs = (
        dict(zip([(o.sequence, o.object_id) for o in side.objects], _values(side, metric), strict=True))
        for side in (one, other)
    )
    if mine.keys() != theirs.keys():
        return Estimate(found.value, None, "other videos")
    change = np.array([mine[o.sequence, o.object_id] - theirs[o.sequence, o.object_id] for o in one.objects])
    return _over_videos(one.objects, change, DIFFERENCE, found.value)


def _values(result: Result, metric: str) -> np.ndarray:
    return np.array([{"J&F": o.jf, "J": o.j, "F": o.f}[metric] for o in result.objects])


def _over_videos(objects: Sequence[ObjectResult], values: np.ndarray, kind: Kind, value: float) -> Estimate:
    scored = [ObjectNumbers(o.sequence, o.object_id, {}) for o in objects]
    sums = video_sums(scored, values)
    interval = intervals({_ONE: sums}, kind, Bootstrap())[_ONE]
    count = len(sums.values)
    return Estimate(value, interval, f"{count} video{'s' * (count != 1)}")


def _named(run: Run) -> str:
    return f"{run.words + ': ' if run.words else ''}{run.why} ({run.path})"


def _notes(found: Factors, finished: Sequence[Run], metric: str) -> list[str]:
    notes = [f"{', '.join(others)} changes with {name}" for name, others in found.companions.items()]
    if metric not in SCORES:
        notes.append(f"{metric}: the last value in metrics.csv")
    elif len({frozenset(_asked(run)) for run in finished if run.result is not None}) > 1:
        notes.append("not all runs were scored on the same objects")
    versions = {run.record.get("signature", {}).get("code") for run in finished}
    if len(versions) > 1:
        notes.append(f"the runs were made by {len(versions)} versions of the code")
    return notes


def _asked(run: Run) -> set[tuple[str, int]]:
    assert run.result is not None
    return {(o.sequence, o.object_id) for o in run.result.objects}


def _repeated(runs: Sequence[Run], found: Factors) -> list[str]:
    """Seeds that a row has more than once."""
    counts: dict[tuple[Values, int], int] = {}
    for run in runs:
        if run.state == "finished":
            key = found.of(run), run.seed
            counts[key] = counts.get(key, 0) + 1
    return [
        f"{count} finished runs of {found.label(values)} with seed {seed}: the last one counts"
        for (values, seed), count in counts.items()
        if count > 1
    ]
