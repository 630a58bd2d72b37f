"""`sam2 eval interactive`: how good masks become under corrections, by a simulated person."""

from __future__ import annotations

from sam2.cli.eval_options import options_of, run_model
from sam2.training.evaluation_config import InteractiveConfig

EPILOG = (
    "Examples:\n\n`sam2 eval interactive sam2.1_hiera_tiny.pt --dataset davis2017 --root DAVIS --out eval/offline`"
    "\n\n`sam2 eval interactive runs/mine/001-3fa9c1 --dataset shards:/data/mine/val --mode online --out eval/online`"
)


@options_of(InteractiveConfig)
def interactive(settings: InteractiveConfig) -> None:
    """Let a simulated person click each object of a benchmark right, frame after frame; J&F after 1 to 8 frames.

    OUT then has interactive/VIDEO.json with every click, and results.json. The same command goes on where a killed one
    stopped. Sharing the videos changes no number. Needs true masks of all frames.
    """
    run_model(settings, "videos")
