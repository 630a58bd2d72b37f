"""Curves of the runs of a sweep, those of one combination of settings as one line: mean over seeds, and their range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from sam2.evaluation.curves import Curve
from sam2.training.sweeps.factors import factors
from sam2.training.sweeps.runs import Gathered, Run
from sam2.training.typed import ConfigError, closest

DEFAULT = ("train/loss", "val/J&F")
PIECES = 60  # a longer curve is drawn as means over so many stretches of steps
MOST = 12  # lines that can be told apart


@dataclass(frozen=True)
class SeedLine:
    """One combination of settings in one metric.

    Attributes:
        label: its settings.
        seeds: how many runs it is the mean of.
        steps, means, lows, highs: at each point the mean of the runs, their least and their greatest.
    """

    label: str
    seeds: int
    steps: Sequence[float]
    means: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One metric; `stretch` is how many steps a point is the mean of, 1 where all points are drawn."""

    metric: str
    lines: Sequence[SeedLine]
    stretch: int


def panels(gathered: Gathered, metrics: Sequence[str] = ()) -> list[Panel]:
    """The curves of each metric, lines in the order in which the settings came.

    A line is the mean of the finished runs of its settings; where none is finished, of all that there are. It goes as
    far as all of them go.

    Args:
        gathered: the runs.
        metrics: columns of `metrics.csv`; none: those of DEFAULT that there are.

    Raises:
        ConfigError: a metric that no run has, or too many lines.
    """
    found = factors(gathered)
    drawn = [run for run in gathered.runs if run.curves]
    rows = found.order(map(found.of, drawn))
    groups = {found.label(row): [run for run in drawn if found.of(run) == row] for row in rows}
    known = dict.fromkeys(name for runs in groups.values() for run in runs for name in run.curves)
    if len(groups) > MOST:
        raise ConfigError(
            f"{len(groups)} combinations of {', '.join(found.names)} are too many lines to tell apart, {MOST} can be; "
            "name fewer runs"
        )
    wanted = metrics or [name for name in DEFAULT if name in known]
    if not wanted:
        raise ConfigError(f"no run has {' or '.join(DEFAULT)} in its metrics.csv; there is nothing to draw")
    for metric in wanted:
        if metric not in known:
            near = closest(metric, known)
            hint = f"did you mean '{near}'?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"no run has a column '{metric}' in its metrics.csv; {hint}")
    return [_panel(metric, groups) for metric in wanted]


def _panel(metric: str, groups: Mapping[str, Sequence[Run]]) -> Panel:
    counted = {label: _counted(runs, metric) for label, runs in groups.items()}
    curves = {label: [run.curves[metric] for run in runs] for label, runs in counted.items() if runs}
    longest = max(len(curve.steps) for each in curves.values() for curve in each)
    last = max(curve.steps[-1] for each in curves.values() for curve in each)
    stretch = 1 if longest <= PIECES else -(-int(last) // PIECES)
    return Panel(metric, [_line(label, each, stretch) for label, each in curves.items()], stretch)


def _counted(runs: Sequence[Run], metric: str) -> list[Run]:
    having = [run for run in runs if metric in run.curves]
    return [run for run in having if run.state == "finished"] or having


def _line(label: str, curves: Sequence[Curve], stretch: int) -> SeedLine:
    pieces = [_pieces(curve, stretch) for curve in curves]
    shared = sorted(set.intersection(*(set(piece) for piece in pieces)))
    steps = [fmean(piece[place][0] for piece in pieces) for place in shared]
    values = [[piece[place][1] for piece in pieces] for place in shared]
    return SeedLine(
        label, len(curves), steps, [*map(fmean, values)], [*map(min, values)], [*map(max, values)]
    )


def _pieces(curve: Curve, stretch: int) -> dict[int, tuple[float, float]]:
    """Mean step and value of each stretch of steps, by its number."""
    points = zip(curve.steps, curve.values, strict=True)
    numbered = groupby(points, lambda point: int((point[0] - 1) // stretch) if stretch > 1 else int(point[0]))
    found = {}
    for number, group in numbered:
        steps, values = zip(*group, strict=True)
        found[number] = fmean(steps), fmean(values)
    return found
