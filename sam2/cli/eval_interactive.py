"""`sam2 eval interactive`: how good masks become under corrections, by a simulated person."""

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
    one_line_for_mistakes,
)

EPILOG = (
    "Examples:\n\n`sam2 eval interactive sam2.1_hiera_tiny.pt --dataset davis2017 --root DAVIS --out eval/offline`"
    "\n\n`sam2 eval interactive runs/mine/001-3fa9c1 --dataset shards:/data/mine/val --mode online --out eval/online`"
)


def interactive(
    checkpoint: Checkpoint,
    dataset: Dataset,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results.")],
    root: Root = None,
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
    policy: PolicyName = "reference",
    model: ModelName = None,
    size: Size = None,
    precision: Precision = None,
    device: Device = None,
    frames: FramesFolder = None,
    sequences: Sequences = None,
    unofficial: Unofficial = False,
    share: Share = None,
    overwrite: Overwrite = False,
) -> None:
    """Let a simulated person click each object of a benchmark right, frame after frame; J&F after 1 to 8 frames.

    OUT then has interactive/VIDEO.json with every click, and results.json. The same command goes on where a killed one
    stopped. Sharing the videos changes no number. Needs true masks of all frames.
    """
    with one_line_for_mistakes("videos"):
        from rich.console import Console

        from sam2.training.evaluation_config import InteractiveConfig
        from sam2.training.interactive_job import run_interactive
        from sam2.training.typed import from_mapping

        given = {
            "checkpoint": checkpoint,
            "dataset": dataset,
            "root": root,
            "out": out,
            "mode": mode,
            "frames_budget": frames_budget,
            "clicks": clicks,
            "threshold": threshold,
            "corrections": corrections,
            "cached_frames": cached_frames,
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
        config = from_mapping(InteractiveConfig, given)
        run_interactive(config, Console(highlight=False, markup=False, soft_wrap=True))
