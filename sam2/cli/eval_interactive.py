"""`sam2 eval interactive`: how good masks become under corrections, by a simulated person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2.cli.eval_run import failed

EPILOG = (
    "Examples:\n\n`sam2 eval interactive sam2.1_hiera_tiny.pt --dataset davis2017 --root DAVIS --out eval/offline`"
    "\n\n`sam2 eval interactive runs/mine/001-3fa9c1 --dataset shards:/data/mine/val --mode online --out eval/online`"
)


def interactive(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="Weight file, run directory, id of a released model, or random."
        ),
    ],
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="davis2017, lvos, sav_val, sav_test, mose or shards:PATH.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results.")],
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the benchmark's download.")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="offline: watch all, correct the worst frame; online: stop below the threshold, go on.",
        ),
    ] = "offline",
    frames_budget: Annotated[int, typer.Option(metavar="N", help="Frames to click on, at most.")] = 8,
    clicks: Annotated[int, typer.Option(metavar="N", help="Clicks on each of them, at most.")] = 3,
    threshold: Annotated[
        float, typer.Option(metavar="IOU", help="Online: stop at the first frame below it.")
    ] = 0.75,
    corrections: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="What corrected frames become in the memory: prompted, as in training, or (online) tracked, as in "
            "the released predictor.",
        ),
    ] = "prompted",
    cached_frames: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Videos of at most N frames go through the trunk once; 17 MB a frame at 1024 px.",
        ),
    ] = 100,
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
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that were made in another way.")
    ] = False,
) -> None:
    """Let a simulated person click each object of a benchmark right, frame after frame; J&F after 1 to 8 frames.

    OUT then has interactive/VIDEO.json with every click, and results.json. The same command goes on where a killed one
    stopped. Sharing the videos changes no number. Needs true masks of all frames.
    """
    try:
        from rich.console import Console

        from sam2.evaluation.errors import EvaluationError
        from sam2.evaluation.interactive import Rules
        from sam2.evaluation.interactive_run import Way
        from sam2.training.benchmark_config import resolve_evaluation
        from sam2.training.benchmark_job import MISTAKES
        from sam2.training.interactive_job import run_interactive

        given = {
            "checkpoint": checkpoint,
            "dataset": dataset,
            "root": root,
            "out": out,
            "model": model,
            "policy": policy,
            "image_size": size,
            "precision": precision,
            "device": device,
            "frames": frames,
            "sequences": sequences,
            "unofficial": unofficial,
            "share": share,
            "overwrite": overwrite,
        }
        try:
            config = resolve_evaluation(given)
            way = Way(mode, Rules(frames_budget, clicks, threshold), corrections, cached_frames)
        except ValueError as error:
            raise failed(error, 2) from error
        run_interactive(config, way, Console(highlight=False, markup=False, soft_wrap=True))
    except (EvaluationError, *MISTAKES) as error:
        raise failed(error, 1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped; the same command goes on with the videos that are missing", err=True)
        raise typer.Exit(130) from error
