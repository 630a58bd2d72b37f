"""The `sam2` command. What a verb needs is imported when the verb runs, so that `sam2 --help` answers at once."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from sam2.closed_output import flushed
from sam2.training.exit_codes import FAILED

app = typer.Typer(
    name="sam2",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    epilog="Every verb explains itself: `sam2 VERB --help`.",
)
# everything after the verb goes to it unread
_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def _examples(*lines: str) -> str:
    return "Examples:\n\n" + "\n\n".join(f"`{line}`" for line in lines)


def main() -> None:
    """Run `sam2 VERB ...`."""
    try:
        app()
    except SystemExit as leaving:  # as every verb ends
        sys.exit(leaving.code if flushed() else leaving.code or FAILED)


def _tell_version(asked: bool) -> None:
    if not asked:
        return
    found = {name: metadata.version(name) for name in ("sam2-train", "torch")}
    python = ".".join(map(str, sys.version_info[:3]))
    typer.echo(f"sam2-train {found['sam2-train']} (torch {found['torch']}, Python {python})")
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which version this is."),
    ] = False,
) -> None:
    """Train, fine-tune and use Segment Anything 2 on your own videos and images."""


@app.command(
    context_settings=_THROUGH,
    add_help_option=False,
    epilog=_examples(
        "sam2 train recipes/smoke.yaml",
        "sam2 train finetune_video data.root=/path/to/shards model.checkpoint=/path/to/sam2.1_hiera_tiny.pt",
    ),
)
def train(context: typer.Context) -> None:
    """Train a recipe; the same as `python train.py`."""
    from sam2.training.run import as_program as run

    raise typer.Exit(run(context.args, program="sam2 train"))


@app.command(
    context_settings=_THROUGH,
    add_help_option=False,
    epilog=_examples(
        "sam2 data convert --from sav /path/to/sa-v /path/to/shards", "sam2 data check /path/to/shards"
    ),
)
def data(context: typer.Context) -> None:
    """Convert videos with masks to shards, check and look at data, make videos up."""
    from sam2.cli.data import app as data_app

    data_app(args=context.args, prog_name="sam2 data")


@app.command(
    "eval",
    context_settings=_THROUGH,
    add_help_option=False,
    epilog=_examples(
        "sam2 eval score --protocol davis2017 --gt /path/to/Annotations/480p --sequences val.txt --pred masks",
        "sam2 eval score --protocol sav --gt /path/to/Annotations_6fps --pred masks --out results.json",
    ),
)
def evaluate(context: typer.Context) -> None:
    """Run models on DAVIS 2017, SA-V, MOSE, LVOS, YouTube-VOS or images, score masks."""
    from sam2.cli.eval import app as eval_app

    eval_app(args=context.args, prog_name="sam2 eval")


@app.command(
    epilog=_examples(
        "sam2 compare base/results.json tuned/results.json",
        "sam2 compare base.json tuned.json other.json --out comparison.json --rows 10",
    )
)
def compare(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="A.json B.json [C.json ...]",
            help="Results of sam2 eval score, run, interactive, image or volumes; all of one verb.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all numbers as JSON.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Another seed, other draws of the videos (images, volumes).")
    ] = 0,
    resamples: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="How often the videos are drawn for an interval.")
    ] = 2000,
    rows: Annotated[
        int,
        typer.Option(
            min=0, help="How many videos (images, volumes) to show at most that gained, and that lost."
        ),
    ] = 5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
) -> None:
    """Say how results differ from the first ones: with interval, p-value, and the videos won and lost.

    All must be of the same verb, protocol, frames, objects and prompts; the model, its weights and its settings may
    differ.
    """
    from sam2.cli.compare import compare_files

    compare_files(files, out, seed, resamples, rows, overwrite)


@app.command(
    context_settings=_THROUGH,
    add_help_option=False,
    epilog=_examples(
        "sam2 sweep table runs/ablate_memory --out table.md",
        "sam2 sweep plot runs/ablate_memory --out curves.html",
    ),
)
def sweep(context: typer.Context) -> None:
    """Say what came out of many runs: a table with intervals and costs, and their curves."""
    from sam2.cli.sweep import app as sweep_app

    sweep_app(args=context.args, prog_name="sam2 sweep")


@app.command(
    context_settings=_THROUGH,
    add_help_option=False,
    epilog=_examples(
        "sam2 predict clip.mp4 --point 210,350 --out masks --checkpoint facebook/sam2.1-hiera-tiny",
        "sam2 predict photo.jpg --box 300,0,500,400 --out masks --checkpoint sam2.1_hiera_tiny.pt",
    ),
)
def predict(context: typer.Context) -> None:
    """Point at objects in a video, a folder of images or an image; get their masks on every frame."""
    from sam2.cli.predict import main as run

    raise typer.Exit(run(context.args))


@app.command(
    epilog=_examples(
        "sam2 export runs/finetune_video/001-3fa9c1/checkpoints/best.ckpt tuned.pt",
        "sam2 export sam2_hf.safetensors sam2.1_t.pt --model sam2.1_t",
    )
)
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="Weights of any layout that training can start from.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The file to write, not CKPT; missing folders are made.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="The model's name, or the run's config.yaml, where CKPT does not tell."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write weights in the official layout, which `build_sam2` and the reference implementation read.

    The model and its image size are those of the run that CKPT lies in, else the model is recognised by its tensors.
    """
    from sam2.cli.export import export_file

    raise typer.Exit(export_file(checkpoint, out, model, overwrite))


@app.command(
    context_settings=_THROUGH,
    add_help_option=False,
    epilog=_examples(
        "sam2 slurm submit finetune_video data.root=/path/to/shards trainer.nodes=2 cluster=mine",
        "sam2 slurm status",
    ),
)
def slurm(context: typer.Context) -> None:
    """Submit runs to a SLURM cluster, see how they are doing, cancel them or take them up again."""
    from sam2.cli.slurm import app as slurm_app

    slurm_app(args=context.args, prog_name="sam2 slurm")


@app.command(epilog=_examples("sam2 doctor", "CUDA_VISIBLE_DEVICES=1 sam2 doctor"))
def doctor() -> None:
    """Say what this machine offers and what will not work, and why."""
    from sam2.cli.doctor import examine

    raise typer.Exit(examine())


@app.command(epilog=_examples("sam2 recipes", "sam2 train smoke --cfg"))
def recipes() -> None:
    """List the recipes that come with the project: their goal and what they need."""
    from sam2.cli.recipes import show

    show()


@app.command(
    epilog=_examples(
        "sam2 replay runs/finetune_video/001-3fa9c1/bad/step-000123",
        "sam2 replay runs/finetune_video/001-3fa9c1 --rank 3 --anomaly",
        "sam2 replay runs/finetune_video/001-3fa9c1 --step 500 --device cpu",
    )
)
def replay(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory, or the folder of a step in its bad/.")
    ],
    step: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Which optimiser step; by default the last that went wrong."),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(min=0, metavar="R", help="Whose part; by default of the rank that went wrong."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto is what the step ran on.")] = "auto",
    backward: Annotated[bool, typer.Option(help="Compute the gradients, too.")] = True,
    anomaly: Annotated[
        bool, typer.Option("--anomaly", help="Name the operation whose gradient is not a number; slow.")
    ] = False,
) -> None:
    """Play a step of a training run again on one process, exactly as one rank played it, and say where it goes wrong.

    Steps without finite gradients and steps that ended in an exception are kept in RUN/bad with their weights: same
    clips, prompts and dropout and, on a CPU, the same loss bit for bit. Any other step is played with the weights of
    the nearest checkpoint. Exit code 0: it came out as in the run; 1: it did not.
    """
    from sam2.cli.replay import replay_step

    raise typer.Exit(replay_step(run, step, rank, device, backward, anomaly))
