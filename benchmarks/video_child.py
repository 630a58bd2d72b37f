"""One side of benchmarks/video.py, in a process of its own: python video_child.py SIDE SETTINGS_JSON.

Both sides run the same lines: their predictors have the same methods. The last line printed is a JSON object.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from harness import hardware, tensor_bytes
from video_sides import Build, Clip, Side, Weights, clip

HEIGHT, WIDTH = 360, 640
LOOP = 24  # frames of a stream, shown over and over


@dataclass(frozen=True)
class Settings:
    """What a side is asked to do.

    `kind` is "image" (embed and ask), "video" (prompts on the first frame, then all frames) or "stream" (ours only:
    state at frame `warm_up` and at the last). `frames` are measured after `warm_up` others, in the last of `passes`
    over the video. With `masks`, a file, all logits go there and times mean nothing. `half` is bfloat16 by autocast.
    """

    reference: str = ""
    kind: str = "video"
    model: str = "sam2.1_t"
    checkpoint: str = ""
    size: int = 512
    objects: int = 1
    warm_up: int = 8
    frames: int = 12
    passes: int = 1
    threads: int = 2
    device: str = "cpu"
    half: bool = False
    compiled: bool = False
    masks: str = ""

    @property
    def build(self) -> Build:
        """How the predictor is built."""
        weights = Weights(self.model, checkpoint=self.checkpoint)
        return Build(weights, self.size, self.device, self.compiled)


class Clock:
    """Milliseconds of what it is given to do; a GPU marks them in its own queue, so that it is not waited for."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device.startswith("cuda")
        self._marks: list[tuple[Any, Any]] = []

    def time(self, work: Callable[[], Any]) -> Any:
        """Do `work` and give its answer."""
        start = self._mark()
        found = work()
        self._marks.append((start, self._mark()))
        return found

    def laps(self) -> list[float]:
        """Milliseconds of every piece of work."""
        if self._on_gpu:
            torch.cuda.synchronize()
            return [start.elapsed_time(end) for start, end in self._marks]
        return [1e3 * (end - start) for start, end in self._marks]

    def _mark(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def points(objects: int, height: int, width: int) -> list[list[float]]:
    """A click x, y for every object, all around the middle of the frame; the first is on the larger blob."""
    turns = [math.pi + 2 * math.pi * k / objects for k in range(objects)]
    return [[width * (0.5 + 0.25 * math.cos(turn)), height * (0.5 + 0.3 * math.sin(turn))] for turn in turns]


def image(side: Side, settings: Settings) -> dict[str, Any]:
    """Embed an image and ask for the masks at one point."""
    from tests.golden import inputs

    predictor = side.image_predictor(settings.build)
    seeds = range(settings.warm_up + settings.frames)
    images = [inputs.image(seed, HEIGHT, WIDTH) for seed in seeds]
    coords, labels = np.array(points(1, HEIGHT, WIDTH)), np.array([1])
    clock, shown = Clock(settings.device), []

    def ask(picture: np.ndarray) -> np.ndarray:
        predictor.set_image(picture)
        return predictor.predict(coords, labels, return_logits=True)[0]

    for picture in images:
        shown.append(clock.time(partial(ask, picture)))
    save(shown, settings)
    return {"laps": clock.laps()[settings.warm_up :]}


def video(side: Side, settings: Settings) -> dict[str, Any]:
    """Follow objects that are clicked on in the first frame."""
    film = clip(1 + settings.warm_up + settings.frames, HEIGHT, WIDTH, settings.size)
    predictor = side.video_predictor(settings.build)
    state = side.state(predictor, film)
    for _ in range(settings.passes):
        predictor.reset_state(state)
        laps, sizes, shown = one_pass(predictor, state, settings)
    save(shown, settings)
    # the first frame was answered before the clock started
    return {
        "laps": laps[1 + settings.warm_up :],
        "state_bytes": sizes[-1],
        "bytes_per_frame": (sizes[-1] - sizes[settings.warm_up]) / settings.frames,
    }


def one_pass(
    predictor: Any, state: Any, settings: Settings
) -> tuple[list[float], list[int], list[np.ndarray]]:
    """Milliseconds, bytes of the state and (if asked for) logits of every frame."""
    clock, sizes, shown = Clock(settings.device), [], []
    for k, point in enumerate(points(settings.objects, HEIGHT, WIDTH)):
        predictor.add_new_points_or_box(state, 0, k, points=[point], labels=[1])
    answers = predictor.propagate_in_video(state)
    while (found := clock.time(lambda: next(answers, None))) is not None:
        sizes.append(tensor_bytes(state))
        if settings.masks:
            shown.append(found[2][:, 0].float().cpu().numpy())
    return clock.laps()[:-1], sizes, shown


def stream(side: Side, settings: Settings) -> dict[str, Any]:
    """Bytes of a stream's state at two frames."""
    from sam2.streaming import StreamOptions, StreamTracker

    film: Clip = clip(LOOP, HEIGHT, WIDTH, settings.size)
    predictor = side.video_predictor(settings.build)
    tracker = StreamTracker(predictor, options=StreamOptions(fill_hole_area=0))
    clock, sizes = Clock(settings.device), []
    for t in range(1 + settings.warm_up + settings.frames):
        clock.time(partial(tracker.step, film.frames[t % LOOP]))
        if t == 0:
            for k, point in enumerate(points(settings.objects, HEIGHT, WIDTH)):
                tracker.prompt(k, points=[point], labels=[1])
        sizes.append(tensor_bytes(tracker))
    return {
        "laps": clock.laps()[1 + settings.warm_up :],
        "state_bytes": sizes[-1],
        "bytes_per_frame": (sizes[-1] - sizes[settings.warm_up]) / settings.frames,
    }


def save(shown: list[np.ndarray], settings: Settings) -> None:
    """Write all logits (frames, objects, H, W), if a file is named."""
    if settings.masks:
        np.save(settings.masks, np.stack(shown))


def measure(side: Side, settings: Settings) -> dict[str, Any]:
    """Times in milliseconds: median for a machine that others use, too, mean for frames a second."""
    torch.set_num_threads(settings.threads)
    on_gpu = settings.device.startswith("cuda")
    if on_gpu:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    kinds = {"image": image, "video": video, "stream": stream}
    with torch.autocast(torch.device(settings.device).type, torch.bfloat16, enabled=settings.half):
        found = kinds[settings.kind](side, settings)
    laps = found.pop("laps")
    return {
        **found,
        "ms": statistics.median(laps),
        "mean_ms": statistics.mean(laps),
        "hardware": torch.cuda.get_device_name() if on_gpu else hardware(),
        "peak_mb": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else 0.0,
        "settings": asdict(settings),
    }


if __name__ == "__main__":
    asked = Settings(**json.loads(sys.argv[2]))
    print(json.dumps(measure(Side(sys.argv[1], asked.reference), asked)))
