"""The runs of a sweep side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from sam2.evaluation.report import read_results
from sam2.training.rundir import RunDirectory


def table_of_runs(runs: Sequence[tuple[str, RunDirectory]]) -> Table:
    """What was special about each run, its J&F on the held-out videos, best first, and where it is.

    Args:
        runs: the settings that differ between them, and their directories.
    """
    table = Table(title="Runs of the sweep", title_justify="left")
    table.add_column("settings")
    for heading in ("J&F", "J", "F"):
        table.add_column(heading, justify="right")
    table.add_column("run directory", overflow="fold")
    scored = [(settings, run, _scores(run)) for settings, run in runs]
    for settings, run, scores in sorted(scored, key=lambda row: row[2] or (-1.0,), reverse=True):
        numbers = [f"{score:.1f}" for score in scores] or ["", "", ""]
        table.add_row(settings, *numbers, str(run.path))
    return table


def _scores(run: RunDirectory) -> tuple[float, ...]:
    """J&F, J and F of the trained model; nothing for a run that scored none."""
    if not run.results.is_file():
        return ()
    trained = read_results(run.results).main
    return trained.jf, trained.j, trained.f
