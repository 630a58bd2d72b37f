"""`sam2 eval image`: how well objects of still images are found by clicks and boxes."""

from __future__ import annotations

from sam2.cli.eval_options import options_of, run_model
from sam2.training.evaluation_config import ImageConfig

EPILOG = (
    "Examples:\n\n`sam2 eval image sam2.1_hiera_tiny.pt --data instances_val2017.json --images val2017 --out eval/coco`"
    "\n\n`sam2 eval image runs/mine/001-3fa9c1 --data masks --images images --out eval/mine`"
)


@options_of(ImageConfig)
def image(settings: ImageConfig) -> None:
    """Click on every object of every image and draw a box around it: mean IoU, and clicks until 85 and 90 % IoU.

    OUT then has images/NAME.json with every click, and results.json. The same command goes on where a killed one
    stopped. Sharing the images changes no number.
    """
    run_model(settings, "images")
