"""Interactive evaluation of a model on a benchmark: settings in, J&F after each number of interacted frames out.

`sam2 eval interactive` and recipes with `task: evaluate_interactive` are this.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group

from sam2.counted import counted
from sam2.evaluation.benchmark import Video
from sam2.evaluation.benchmark_run import share
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.interactive_run import FOLDER, join, play, table
from sam2.slurm import done
from sam2.training.benchmark_job import Opened, open_evaluation
from sam2.training.evaluation_config import InteractiveConfig
from sam2.training.pieces import Ended, Pieces, run_pieces

log = logging.getLogger(__name__)


def open_interactive(config: InteractiveConfig) -> tuple[Opened, dict[str, Any]]:
    """Data, weights and device; and what results depend on, for the record.

    Raises:
        EvaluationError, CheckpointError, ...: see `run_interactive`.
    """
    opened = open_evaluation(config, "clicks")
    if not opened.data.is_scorable:
        raise EvaluationError(
            f"{opened.data.truth}: has not the true masks of all frames, which clicks are made of; use a benchmark "
            "whose masks are public, or shards:PATH"
        )
    return opened, {**opened.settings, **config.way.settings()}


def run_interactive(config: InteractiveConfig, console: Console) -> Ended:
    """Play this process's videos; join the results if none is left to the others.

    Raises:
        EvaluationError: the data are not as they should be, or the folder holds something else.
        CheckpointError, PolicyError, ...: see `find_weights` and `find_policy`.
    """
    (opened, settings), way = open_interactive(config), config.way
    videos = opened.data.videos
    mine = share(videos, opened.rank, opened.world)
    pieces = Pieces(config.out, FOLDER, videos, mine, lambda video: video.name, "videos")
    pieces.begin(settings, config.overwrite, opened.world)

    def work(todo: Sequence[Video]) -> None:
        follower = opened.follower()
        frames, passed = sum(video.weight for video in todo), 0
        with counted("playing", "frames") as progress:
            for video in todo:

                def one(objects: int, total: int, before: int = passed, weight: int = video.weight) -> None:
                    progress(before + weight * objects // total, frames)

                play(video, opened.data.truth, follower, way, pieces.path(video), one)
                done.note(video.name)
                passed += video.weight
                progress(passed, frames)
                log.info("%s: %d frames", video.name, video.weight)

    def joined() -> tuple[dict[str, Any], Group]:
        results = join({video.name: pieces.path(video) for video in videos}, way, config.how)
        results["run"] = {**settings, "speed": results.pop("speed")}
        return results, table(results, 10)

    where = f"{opened.weights} on {opened.device}, {settings['precision']}"
    return run_pieces(pieces, work, joined, console, where)
