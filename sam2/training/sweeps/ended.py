"""The runs of a sweep side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rich.table import Table

from sam2.evaluation.kinds import KINDS
from sam2.evaluation.report import read_results
from sam2.training.pieces import Ended
from sam2.training.rundir import RunDirectory

_MOST = 4  # numbers of an evaluation, the leading ones


@dataclass(frozen=True)
class Finished:
    """What became of a run: where it is, and its scores by name, the leading one first (none if it scored nothing)."""

    path: Path
    scores: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def training(cls, run: RunDirectory) -> Finished:
        """A training, with the scores of what it ended with."""
        if not run.results.is_file():
            return cls(run.path)
        trained = read_results(run.results).main
        return cls(run.path, {"J&F": trained.jf, "J": trained.j, "F": trained.f})

    @classmethod
    def evaluation(cls, ended: Ended) -> Finished:
        """An evaluation of any kind, with its leading numbers."""
        if ended.results is None:
            return cls(ended.folder)
        names = (mean.name for mean in KINDS[ended.results["format"]].means(ended.results))
        shown = islice((name for name in names if name in ended.results), _MOST)
        return cls(ended.folder, {name: ended.results[name] for name in shown})


def table_of_runs(runs: Sequence[tuple[str, Finished]]) -> Table:
    """What was special about each run, its scores, the best first, and where it is.

    Args:
        runs: the settings that differ between them, and what became of them.
    """
    table = Table(title="Runs of the sweep", title_justify="left")
    table.add_column("settings", overflow="fold")
    headings = list(dict.fromkeys(name for _, run in runs for name in run.scores))
    for heading in headings:
        table.add_column(heading, justify="right")
    table.add_column("run directory", overflow="fold")
    for settings, run in sorted(runs, key=lambda row: -next(iter(row[1].scores.values()), -1.0)):
        numbers = (f"{run.scores[name]:.1f}" if name in run.scores else "" for name in headings)
        table.add_row(settings, *numbers, str(run.path))
    return table
