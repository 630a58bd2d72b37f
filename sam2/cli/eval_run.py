"""`sam2 eval run`: a model on a benchmark, from a checkpoint to scored masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2.cli.eval_options import failed, options_of, run_model
from sam2.training.evaluation_config import BenchmarkConfig

EPILOG = (
    "Examples:\n\n`sam2 eval run sam2.1_hiera_tiny.pt --dataset davis2017 --root DAVIS`"
    "\n\n`sam2 eval run runs/mine/001-3fa9c1 --dataset shards:/data/mine/val --prompt click3 --out eval`"
    "\n\n`torchrun --nproc-per-node 8 --no-python sam2 eval run sam2.1_hiera_large.pt --dataset sav_val --root SA-V`"
)


@options_of(BenchmarkConfig)
def run(settings: BenchmarkConfig) -> None:
    """Follow every object of a benchmark from its first frame, write the masks, score them.

    OUT then has masks/ as the benchmark's own tool or server wants them, results.json, and a zip file where a server
    takes one. The same command goes on where a killed one stopped. Sharing the videos changes no number.
    """
    run_model(settings, "videos")


def make(
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="davis2017, mose, lvos, ytvos, sav_val or sav_test.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    videos: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    preset: Annotated[str, typer.Option(help="What they look like: easy, medium, hard or demo.")] = "demo",
    seed: Annotated[int, typer.Option(help="Another seed, other videos.")] = 0,
    full: Annotated[
        bool, typer.Option("--full", help="Also the masks that the benchmark keeps to itself.")
    ] = False,
) -> None:
    """Make up videos in a benchmark's own layout, to try things out before the download is there.

    `sam2 eval run CHECKPOINT --dataset NAME --root OUT --unofficial` runs on them.
    """
    from sam2.evaluation.benchmark import manifest
    from sam2.evaluation.errors import EvaluationError
    from sam2.training.made_up import make as made

    try:
        typer.echo(f"{made(manifest(dataset), out, videos, preset, seed, full)}: {videos} videos")
    except (EvaluationError, OSError) as error:
        raise failed(error, 1) from error
