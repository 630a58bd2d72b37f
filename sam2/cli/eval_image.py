"""`sam2 eval image`: how well objects of still images are found by clicks and boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2.cli.eval_run import failed

EPILOG = (
    "Examples:\n\n`sam2 eval image sam2.1_hiera_tiny.pt --data instances_val2017.json --images val2017 --out eval/coco`"
    "\n\n`sam2 eval image runs/mine/001-3fa9c1 --data masks --images images --out eval/mine`"
)


def image(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="Weight file, run directory, id of a released model, or random."
        ),
    ],
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
    """Click on every object of every image and draw a box around it: mean IoU, and clicks until 85 and 90 % IoU.

    OUT then has images/NAME.json with every click, and results.json. The same command goes on where a killed one
    stopped. Sharing the images changes no number.
    """
    try:
        from rich.console import Console

        from sam2.evaluation.errors import EvaluationError
        from sam2.training.benchmark_job import MISTAKES
        from sam2.training.image_job import ImageConfig, run_images
        from sam2.training.typed import ConfigError, from_mapping

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
        try:
            config = from_mapping(ImageConfig, given)
        except ConfigError as error:
            raise failed(error, 2) from error
        run_images(config, Console(highlight=False, markup=False, soft_wrap=True))
    except (EvaluationError, *MISTAKES) as error:
        raise failed(error, 1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped; the same command goes on with the images that are missing", err=True)
        raise typer.Exit(130) from error
