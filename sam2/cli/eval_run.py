"""`sam2 eval run`: a model on a benchmark, from a checkpoint to scored masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = (
    "Examples:\n\n`sam2 eval run sam2.1_hiera_tiny.pt --dataset davis2017 --root DAVIS`"
    "\n\n`sam2 eval run runs/mine/001-3fa9c1 --dataset shards:/data/mine/val --prompt click3 --out eval`"
    "\n\n`torchrun --nproc-per-node 8 --no-python sam2 eval run sam2.1_hiera_large.pt --dataset sav_val --root SA-V`"
)


def failed(error: Exception, code: int) -> typer.Exit:
    """One line for a mistake, and the exit."""
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(code)


def run(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="Weight file, run directory, id of a released model, or random."
        ),
    ],
    dataset: Annotated[
        str,
        typer.Option(metavar="NAME", help="davis2017, mose, lvos, ytvos, sav_val, sav_test or shards:PATH."),
    ],
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the benchmark's download.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for masks and results; by default in runs/eval."),
    ] = None,
    prompt: Annotated[
        str,
        typer.Option(metavar="KIND", help="mask, box, click1, click3 or click5, on an object's first frame."),
    ] = "mask",
    policy: Annotated[
        str, typer.Option(metavar="NAME", help="Memory policy, by name or YAML file.")
    ] = "reference",
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which model, where the weights do not tell.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Side of the model's input; by default the model's own."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="float32 or bfloat16; by default bfloat16 on a GPU, float32 elsewhere."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="By default a GPU if there is one.")
    ] = None,
    max_rows: Annotated[
        int | None,
        typer.Option(metavar="N", help="Objects that go through the model together; bounds memory."),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Frames from elsewhere, such as the same videos at full rate."),
    ] = None,
    sequences: Annotated[
        str | None, typer.Option(metavar="FILE|A,B", help="These videos alone: a file of names, or names.")
    ] = None,
    unofficial: Annotated[
        bool, typer.Option("--unofficial", help="Take data that are not the benchmark as published.")
    ] = False,
    share: Annotated[
        str | None,
        typer.Option(
            metavar="K/N", help="Do the K-th of N shares; torchrun and srun say so without being asked."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes that score.")] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace predictions that were made in another way.")
    ] = False,
) -> None:
    """Follow every object of a benchmark from its first frame, write the masks, score them.

    OUT then has masks/ as the benchmark's own tool or server wants them, results.json, and a zip file where a server
    takes one. The same command goes on where a killed one stopped. Sharing the videos changes no number.
    """
    try:
        from rich.console import Console

        from sam2.evaluation.errors import EvaluationError
        from sam2.training.benchmark_config import resolve_evaluation
        from sam2.training.benchmark_job import MISTAKES, run_benchmark
        from sam2.training.typed import ConfigError

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
        try:
            config = resolve_evaluation(given)
        except ConfigError as error:
            raise failed(error, 2) from error
        run_benchmark(config, Console(highlight=False, markup=False, soft_wrap=True))
    except (EvaluationError, *MISTAKES) as error:
        raise failed(error, 1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped; the same command goes on with the videos that are missing", err=True)
        raise typer.Exit(130) from error


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
