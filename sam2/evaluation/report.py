"""What an evaluation found: results per object, sequence and data set; as JSON and as a table.

All numbers are percent. A data set's J is the mean over its objects (of all sequences together), F likewise, and J&F
is the mean of the two; an object's numbers are means over the frames that count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.table import Table

from sam2.evaluation.files import write_atomically
from sam2.evaluation.jf import Scores

FORMAT = "sam2-train/results/1"
INNER_FRAMES = slice(1, -1)  # DAVIS: the first frame is the prompt, the last is left out


class ReportError(ValueError):
    """Scores or a results file that make no report; the message says which and why."""


@dataclass(frozen=True)
class ObjectResult:
    """One object of one sequence: `j` and `f` in percent, means over `frames` frames."""

    sequence: str
    object_id: int
    j: float
    f: float
    frames: int

    @property
    def jf(self) -> float:
        """The mean of J and F."""
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class Result:
    """One way of making masks, scored: a model, or a baseline that any model must beat.

    `seconds` is the time it took to make the masks, None when nobody measured it.
    """

    name: str
    objects: tuple[ObjectResult, ...]
    is_baseline: bool = False
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.objects:
            raise ReportError(f"result {self.name!r} has no objects, so it has no mean")

    @property
    def j(self) -> float:
        """Mean J of all objects, percent."""
        return fmean(o.j for o in self.objects)

    @property
    def f(self) -> float:
        """Mean F of all objects, percent."""
        return fmean(o.f for o in self.objects)

    @property
    def jf(self) -> float:
        """The mean of J and F."""
        return (self.j + self.f) / 2

    def by_sequence(self) -> dict[str, Result]:
        """The same per sequence, worst J&F first."""
        names = dict.fromkeys(o.sequence for o in self.objects)
        parts = [
            Result(n, tuple(o for o in self.objects if o.sequence == n), self.is_baseline) for n in names
        ]
        return {part.name: part for part in sorted(parts, key=lambda part: part.jf)}


@dataclass(frozen=True)
class Report:
    """Results on the same sequences, in the order in which they are shown; `protocol` says what was counted."""

    results: tuple[Result, ...]
    protocol: str = "J&F over the objects' frames without the first and the last"

    @property
    def best_baseline(self) -> Result | None:
        """The baseline with the highest J&F."""
        return max((r for r in self.results if r.is_baseline), key=lambda r: r.jf, default=None)

    @property
    def main(self) -> Result:
        """The result the report is about: the last one that is no baseline."""
        models = [r for r in self.results if not r.is_baseline] or list(self.results)
        if not models:
            raise ReportError("the report has no results")
        return models[-1]


def summarise(
    name: str,
    scores: Mapping[str, Mapping[int, Scores]],
    counted: slice = INNER_FRAMES,
    is_baseline: bool = False,
    seconds: float | None = None,
) -> Result:
    """Mean over frames of every object.

    Args:
        name: what was scored ("trained", "copy first mask").
        scores: per sequence what `score_sequence` returned: {sequence: {object id: Scores}}, between 0 and 1.
        counted: the frames that count.
        is_baseline: whether this is a floor to beat.
        seconds: time it took to make the masks.

    Raises:
        ReportError: a sequence has no frame that counts, or there is no object at all.
    """
    objects = []
    for sequence, by_object in scores.items():
        for object_id, (j, f) in by_object.items():
            kept_j, kept_f = np.asarray(j)[counted], np.asarray(f)[counted]
            if not len(kept_j):
                raise ReportError(f"sequence {sequence!r} has {len(j)} frames, none of which counts")
            means = 100 * float(kept_j.mean()), 100 * float(kept_f.mean())
            objects.append(ObjectResult(sequence, int(object_id), *means, len(kept_j)))
    return Result(name, tuple(objects), is_baseline, seconds)


def write_results(path: Path, report: Report) -> None:
    """Write `report` as JSON, atomically; `read_results` gives it back unchanged."""
    content = {
        "format": FORMAT,
        "protocol": report.protocol,
        "results": [
            {
                "name": result.name,
                **_percents(result),
                "baseline": result.is_baseline,
                "seconds": result.seconds,
                "sequences": {name: _percents(part) for name, part in result.by_sequence().items()},
                "objects": [
                    {"sequence": o.sequence, "id": o.object_id, **_percents(o), "frames": o.frames}
                    for o in result.objects
                ],
            }
            for result in report.results
        ],
    }
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _percents(result: Result | ObjectResult) -> dict[str, float]:
    return {"J&F": result.jf, "J": result.j, "F": result.f}


def read_results(path: Path) -> Report:
    """Read what `write_results` wrote.

    Raises:
        ReportError: naming the file and what is wrong with it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ReportError(f"{path}: cannot be read as results: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ReportError(
            f"{path}: format is {found!r}, expected {FORMAT!r}; evaluate again to write a new file"
        )
    try:
        return Report(tuple(_result(entry) for entry in content["results"]), str(content["protocol"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportError(f"{path}: incomplete results ({type(error).__name__}: {error})") from error


def _result(entry: dict[str, Any]) -> Result:
    objects = tuple(
        ObjectResult(str(o["sequence"]), int(o["id"]), _percent(o["J"]), _percent(o["F"]), int(o["frames"]))
        for o in entry["objects"]
    )
    seconds = entry["seconds"]
    return Result(
        str(entry["name"]), objects, bool(entry["baseline"]), None if seconds is None else float(seconds)
    )


def _percent(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or not 0 <= number <= 100:
        raise ReportError(f"{value} is not a percentage")
    return number


def table(report: Report, title: str = "Held-out videos") -> Table:
    """The results as a table for the terminal: a row each, with the distance to the best baseline."""
    best = report.best_baseline
    shown = Table(title=title, caption=report.protocol, title_justify="left", caption_justify="left")
    shown.add_column("masks from")
    for heading in ("J&F", "J", "F", "over best baseline", "objects", "seconds"):
        shown.add_column(heading, justify="right")
    for result in report.results:
        is_main = result is report.main
        shown.add_row(
            *_cells(result, best), style="bold" if is_main else "dim" if result.is_baseline else None
        )
    return shown


def _cells(result: Result, best: Result | None) -> Sequence[str]:
    margin = "" if best is None or result.is_baseline else f"{result.jf - best.jf:+.1f}"
    seconds = "" if result.seconds is None else f"{result.seconds:.1f}"
    numbers = [f"{value:.1f}" for value in (result.jf, result.j, result.f)]
    return [result.name, *numbers, margin, str(len(result.objects)), seconds]
