"""The runs of a sweep side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from sam2.evaluation.report import read_results
from sam2.training.rundir import RunDirectory


@dataclass(frozen=True)
class Finished:
    """What became of a run: where it is, and its J&F, J and F (none if it scored nothing)."""

    path: Path
    scores: tuple[float, ...] = ()

    @classmethod
    def training(cls, run: RunDirectory) -> Finished:
        """A training, with the scores of what it ended with."""
        if not run.results.is_file():
            return cls(run.path)
        trained = read_results(run.results).main
        return cls(run.path, (trained.jf, trained.j, trained.f))


def table_of_runs(runs: Sequence[tuple[str, Finished]]) -> Table:
    """What was special about each run, its J&F on the held-out videos, best first, and where it is.

    Args:
        runs: the settings that differ between them, and what became of them.
    """
    table = Table(title="Runs of the sweep", title_justify="left")
    table.add_column("settings")
    for heading in ("J&F", "J", "F"):
        table.add_column(heading, justify="right")
    table.add_column("run directory", overflow="fold")
    for settings, run in sorted(runs, key=lambda row: row[1].scores or (-1.0,), reverse=True):
        numbers = [f"{score:.1f}" for score in run.scores] or ["", "", ""]
        table.add_row(settings, *numbers, str(run.path))
    return table
