"""`sam2 sweep`: what came out of many runs, as a table and as curves.

Exit codes: 0 done; 1 the runs cannot be read, compared or written; 2 the command line cannot be meant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2.cli.eval_options import failed, refuse_to_overwrite

app = typer.Typer(
    name="sam2 sweep",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Say what came out of a sweep.",
)
Runs = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUNS...",
        help="Run directories, a sweep (runs/RECIPE/sweeps/ID) or folders of runs (runs/RECIPE).",
    ),
]


@app.callback()
def options() -> None:
    """Say what came out of a sweep."""


@app.command(
    epilog="Examples:\n\n`sam2 sweep table runs/ablate_memory/sweeps/3fa9c1`\n\n"
    "`sam2 sweep table runs/ablate_memory --baseline model.mem_dim=64 --out table.md`"
)
def table(
    runs: Runs,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.{md,csv,html}", help="Write it there instead of here.")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="J&F, J or F at the end, or a column of metrics.csv (its last value).")
    ] = "J&F",
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="The row to compare with; may be repeated. Default: the recipe's values.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
) -> None:
    """Compare settings: mean and interval over seeds, paired difference to the baseline, cost, what failed and why."""
    _refuse(out, overwrite)
    try:
        from rich.console import Console

        from sam2.training.sweeps.factors import words_to_values
        from sam2.training.sweeps.formats import as_terminal, write_table
        from sam2.training.sweeps.runs import gather
        from sam2.training.sweeps.table import tabulate

        made = tabulate(gather(runs), metric, words_to_values(baseline or ()))
        if out:
            write_table(out, made)
    except (ValueError, OSError) as error:
        raise failed(error, 1) from error
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if out is None:
        Console(highlight=False, markup=False).print(as_terminal(made))
    for each in made.unfinished:
        console.print(f"not in the table: {each}")
    if out:
        console.print(f"table      {out}")


@app.command(
    epilog="Examples:\n\n`sam2 sweep plot runs/ablate_memory --out curves.html`\n\n"
    "`sam2 sweep plot runs/ablate_memory --metric train/loss --metric grad_norm --out curves.png`"
)
def plot(
    runs: Runs,
    out: Annotated[Path, typer.Option(metavar="FILE.{html,svg,png}", help="The picture.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A column of metrics.csv; may be repeated. Default: train/loss and val/J&F."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
) -> None:
    """Draw curves: a line for each combination of settings, the mean over its seeds with their range."""
    _refuse(out, overwrite)
    try:
        from sam2.training.sweeps.lines import panels
        from sam2.training.sweeps.plot import write_plot
        from sam2.training.sweeps.runs import gather

        write_plot(out, panels(gather(runs), metric or ()), f"Curves of {' '.join(map(str, runs))}")
    except (ValueError, OSError) as error:
        raise failed(error, 1) from error
    typer.echo(f"curves     {out}")


def _refuse(out: Path | None, overwrite: bool) -> None:
    if out is not None:
        try:
            refuse_to_overwrite([out], overwrite)
        except (ValueError, OSError) as error:
            raise failed(error, 2) from error
