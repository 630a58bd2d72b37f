"""`sam2 slurm ...`: jobs on a cluster. `submit` and `render` are `python train.py RECIPE launcher=slurm`.

Exit codes: 0 done; 1 SLURM refuses or is not here; 2 the command line or the settings make no sense.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from sam2.slurm.errors import BatchError

app = typer.Typer(
    name="slurm",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Submit runs to a SLURM cluster, see how they are doing, cancel them or take them up again.",
)
_Kind = Literal["waiting", "running", "failed", "finished"]
_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}
_Name = Annotated[str, typer.Argument(metavar="RUN_DIR|JOBID", help="A run directory, or the id of a job.")]


def _examples(*lines: str) -> str:
    return "Examples:\n\n" + "\n\n".join(f"`{line}`" for line in lines)


@contextmanager
def _told() -> Iterator[None]:
    """One line for what SLURM refuses."""
    try:
        yield
    except BatchError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@app.command(
    context_settings=_THROUGH,
    epilog=_examples(
        "sam2 slurm render smoke cluster=gpus",
        "sam2 slurm render finetune_video data.root=/path/to/shards cluster=mine | less",
    ),
)
def render(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE [key=value ...] [-m]", help="As for train.py.")],
) -> None:
    """Print the batch file that `submit` would submit; nothing is written.

    It is for looking at: given to sbatch by hand it fails, as only `submit` makes its run directory.
    """
    _train([recipe, *context.args], "launcher.dry_run=true")


@app.command(
    context_settings=_THROUGH,
    epilog=_examples(
        "sam2 slurm submit finetune_video data.root=/path/to/shards trainer.nodes=2 cluster=mine",
        "sam2 slurm submit -m smoke seed=1,2,3 cluster=mine launcher.parallel=2",
    ),
)
def submit(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE [key=value ...] [-m]", help="As for train.py.")],
) -> None:
    """Submit a training, a sweep (-m) or an evaluation; the same as `python train.py RECIPE launcher=slurm`."""
    _train([recipe, *context.args])


@app.command(
    epilog=_examples(
        "sam2 slurm status",
        "sam2 slurm status --state failed",
        "sam2 slurm status 123 runs/finetune_video/001-3fa9c1",
    )
)
def status(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN_DIR|JOBID]...", help="Run directories or ids of jobs; by default all in --runs."
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Where run directories are.")] = Path("runs"),
    state: Annotated[
        _Kind | None,
        typer.Option(help="Only those in this state; failed are also those that were cancelled or are gone."),
    ] = None,
) -> None:
    """Say of each run whether it waits (why), runs (where) or has ended (how), its step, and the line of its log that
    tells most: what it said last, or why it ended.
    """
    from sam2.slurm.status import standings

    with _told():
        found = standings(names or [], runs)
    if not found:
        typer.echo(f"nothing was submitted from {runs.absolute()}")
    chosen = [one for one in found if state is None or one.kind == state]
    if found and not chosen:
        typer.echo(f"none of {len(found)} is {state}")
    for one in chosen:
        typer.echo(
            "  ".join(filter(None, [f"{one.job:<10} {one.word:<10} {one.about}".rstrip(), one.progress]))
        )
        for text in (one.path, one.said):
            if text:
                typer.echo(f"{'':<10} {text}")


@app.command(epilog=_examples("sam2 slurm cancel 123", "sam2 slurm cancel runs/finetune_video/001-3fa9c1"))
def cancel(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN_DIR|JOBID...", help="Run directories or ids of jobs.")
    ],
) -> None:
    """Stop jobs; they are not taken up again by themselves, and continue from what they saved when submitted again."""
    from sam2.slurm import jobs
    from sam2.slurm.status import job_of

    refused = False
    for name in names:
        try:
            job = job_of(name)
            jobs.cancel(job)
            typer.echo(f"job {job} is cancelled")
        except BatchError as error:  # the others are still to be stopped
            typer.echo(f"error: {error}", err=True)
            refused = True
    if refused:
        raise typer.Exit(1)


@app.command(epilog=_examples("sam2 slurm requeue runs/finetune_video/001-3fa9c1"))
def requeue(name: _Name) -> None:
    """Take a job up again that has failed or ended; one that SLURM has forgotten is submitted again as it was."""
    from sam2.slurm.again import take_up

    with _told():
        typer.echo(take_up(name))


def _train(words: list[str], *more: str) -> None:
    from sam2.training.run import main

    raise typer.Exit(main([*words, "launcher=slurm", *more], program="sam2 train"))
