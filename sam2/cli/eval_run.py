"""`sam2 eval run`: a model on a benchmark, from a checkpoint to scored masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2.cli.eval_options import (
    Checkpoint,
    Dataset,
    Device,
    FramesFolder,
    ModelName,
    Overwrite,
    PolicyName,
    Precision,
    Root,
    Sequences,
    Share,
    Size,
    Unofficial,
    failed,
    one_line_for_mistakes,
)

EPILOG = (
    "Examples:\n\n`sam2 eval run sam2.1_hiera_tiny.pt --dataset davis2017 --root DAVIS`"
    "\n\n`sam2 eval run runs/mine/001-3fa9c1 --dataset shards:/data/mine/val --prompt click3 --out eval`"
    "\n\n`torchrun --nproc-per-node 8 --no-python sam2 eval run sam2.1_hiera_large.pt --dataset sav_val --root SA-V`"
)


def run(
    checkpoint: Checkpoint,
    dataset: Dataset,
    root: Root = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for masks and results; by default in runs/eval."),
    ] = None,
    prompt: Annotated[
        str,
        typer.Option(metavar="KIND", help="mask, box, click1, click3 or click5, on an object's first frame."),
    ] = "mask",
    policy: PolicyName = "reference",
    model: ModelName = None,
    size: Size = None,
    precision: Precision = None,
    device: Device = None,
    max_rows: Annotated[
        int | None,
        typer.Option(metavar="N", help="Objects that go through the model together; bounds memory."),
    ] = None,
    frames: FramesFolder = None,
    sequences: Sequences = None,
    unofficial: Unofficial = False,
    share: Share = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes that score.")] = 1,
    overwrite: Overwrite = False,
) -> None:
    """Follow every object of a benchmark from its first frame, write the masks, score them.

    OUT then has masks/ as the benchmark's own tool or server wants them, results.json, and a zip file where a server
    takes one. The same command goes on where a killed one stopped. Sharing the videos changes no number.
    """
    with one_line_for_mistakes("videos"):
        from rich.console import Console

        from sam2.training.benchmark_job import run_benchmark
        from sam2.training.evaluation_config import BenchmarkConfig
        from sam2.training.typed import from_mapping

        given = {
            "checkpoint": checkpoint,
            "dataset": dataset,
            "root": root,
            "out": out,
            "model": model,
            "prompt": prompt,
            "policy": policy,
            "image_size": size,
            "precision": precision,
            "device": device,
            "max_rows": max_rows,
            "frames": frames,
            "sequences": sequences,
            "unofficial": unofficial,
            "share": share,
            "workers": workers,
            "overwrite": overwrite,
        }
        config = from_mapping(BenchmarkConfig, given)
        run_benchmark(config, Console(highlight=False, markup=False, soft_wrap=True))


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
