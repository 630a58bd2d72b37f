"""`sam2 eval image`: how well objects of still images are found by clicks and boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2.cli.eval_options import (
    Checkpoint,
    Device,
    ModelName,
    Overwrite,
    Precision,
    Share,
    Size,
    one_line_for_mistakes,
)

EPILOG = (
    "Examples:\n\n`sam2 eval image sam2.1_hiera_tiny.pt --data instances_val2017.json --images val2017 --out eval/coco`"
    "\n\n`sam2 eval image runs/mine/001-3fa9c1 --data masks --images images --out eval/mine`"
)


def image(
    checkpoint: Checkpoint,
    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE|DIR",
            help="A COCO file, or a folder with NAME.png of object ids (palette, 8 or 16 bits) or NAME/ with a PNG "
            "an object.",
        ),
    ],
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the images.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results.")],
    clicks: Annotated[int, typer.Option(metavar="N", help="Clicks on each object, at most.")] = 20,
    void: Annotated[
        int | None, typer.Option(metavar="ID", help="With a folder of masks: an id that is no object.")
    ] = None,
    model: ModelName = None,
    size: Size = None,
    precision: Precision = None,
    device: Device = None,
    share: Share = None,
    overwrite: Overwrite = False,
) -> None:
    """Click on every object of every image and draw a box around it: mean IoU, and clicks until 85 and 90 % IoU.

    OUT then has images/NAME.json with every click, and results.json. The same command goes on where a killed one
    stopped. Sharing the images changes no number.
    """
    with one_line_for_mistakes("images"):
        from rich.console import Console

        from sam2.training.evaluation_config import ImageConfig
        from sam2.training.image_job import run_images
        from sam2.training.typed import from_mapping

        given = {
            "checkpoint": checkpoint,
            "data": data,
            "images": images,
            "out": out,
            "clicks": clicks,
            "void": void,
            "model": model,
            "image_size": size,
            "precision": precision,
            "device": device,
            "share": share,
            "overwrite": overwrite,
        }
        config = from_mapping(ImageConfig, given)
        run_images(config, Console(highlight=False, markup=False, soft_wrap=True))
