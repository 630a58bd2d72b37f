"""Interactive evaluation of a model on a benchmark: settings in, J&F after each number of interacted frames out.

`sam2 eval interactive` is this.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from sam2.counted import counted
from sam2.evaluation.benchmark import Video
from sam2.evaluation.benchmark_run import RESULTS, SETTINGS, Follower, Predictions, share
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.files import write_atomically
from sam2.evaluation.interactive_run import FOLDER, Way, join, path_of, play, table
from sam2.lock import locked
from sam2.training.benchmark_config import BenchmarkConfig
from sam2.training.benchmark_job import Opened, open_evaluation

log = logging.getLogger(__name__)


def run_interactive(config: BenchmarkConfig, way: Way, console: Console) -> dict[str, Any] | None:
    """Play this process's videos; give the results if none is left to the others.

    Raises:
        EvaluationError: the data are not as they should be, or the folder holds something else.
        CheckpointError, PolicyError, ...: see `find_weights` and `find_policy`.
    """
    if config.out is None:
        raise EvaluationError("no folder for the results is named")
    out, opened = config.out, open_evaluation(config)
    videos = opened.data.videos
    if not opened.data.is_scorable:
        raise EvaluationError(
            f"{opened.data.truth}: has not the true masks of all frames, which clicks are made of; use a benchmark "
            "whose masks are public, or shards:PATH"
        )
    if config.overwrite and opened.world > 1:
        raise EvaluationError(f"several processes cannot overwrite {out} together; remove it first")
    settings = {**opened.settings, "prompt": "clicks", **way.settings()}
    if config.overwrite and (out / SETTINGS).is_file():
        shutil.rmtree(out / FOLDER, ignore_errors=True)
    Predictions(out, videos).begin(settings, config.overwrite)
    todo = [v for v in share(videos, opened.rank, opened.world) if not path_of(out, v).is_file()]
    console.print(
        f"{out}: {len(videos)} videos, {len(todo)} to do here; {opened.weights} on {opened.device}, "
        f"{settings['precision']}"
    )
    if todo:
        _play(config, opened, opened.follower(config), way, todo)
    missing = [v for v in videos if not path_of(out, v).is_file()]
    if missing:
        console.print(
            f"{len(missing)} videos are left to others; the last to finish joins, or this command again"
        )
        return None
    with locked(out, wait=True):
        results = join(out, videos, way)
        speed = results.pop("speed")
        results["run"] = {**settings, "speed": speed}
        write_atomically(out / RESULTS, json.dumps(results, indent=1, allow_nan=False) + "\n")
    console.print(table(results, 10))
    console.print(f"results    {out / RESULTS}")
    return results


def _play(
    config: BenchmarkConfig, opened: Opened, follower: Follower, way: Way, todo: Sequence[Video]
) -> None:
    assert config.out is not None
    frames, done = sum(video.weight for video in todo), 0
    with counted("playing", "frames") as progress:
        for video in todo:

            def one(objects: int, total: int, before: int = done, weight: int = video.weight) -> None:
                progress(before + weight * objects // total, frames)

            play(video, opened.data.truth, follower, way, config.out, one)
            done += video.weight
            progress(done, frames)
            log.info("%s: %d frames", video.name, video.weight)
