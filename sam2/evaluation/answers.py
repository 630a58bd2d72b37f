"""What a model says beside its masks, frame by frame: how good they are, whether the object is there, how long it took.

Kept as plain JSON with the masks, and held against the truth once they are scored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from sam2.evaluation.calibration import calibration
from sam2.evaluation.choices import Choice, chosen_and_best
from sam2.evaluation.memory_growth import growth
from sam2.evaluation.scores import Numbers, ObjectScore
from sam2.evaluation.visibility import Sightings, visibility
from sam2.video_state import FrameMasks, Frames

HEARD = ("frame", "iou", "object_logit", "chosen_iou", "best_iou")


@dataclass
class Answers:
    """Of one video, collected while it is followed.

    Attributes:
        names: of the objects by id, as they are scored.
        heard: per object the names of frames with predicted IoU and object score, and the true IoUs of the candidate
            that is shown and of the best one, where there were several.
        model_ms: milliseconds of each frame, without reading it and without writing masks.
    """

    names: Mapping[int, str]
    heard: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    model_ms: list[float] = field(default_factory=list)

    def timed(self, following: Iterator[FrameMasks], frames: TimedFrames) -> FrameMasks | None:
        """The next masks, or None at the end; notes the time until they are there, less that of reading the frame."""
        began, read = time.perf_counter(), frames.seconds
        shown = next(following, None)
        if shown is not None:
            shown.ious.tolist()  # waits for the device
            spent = time.perf_counter() - began - (frames.seconds - read)
            self.model_ms.append(round(1000 * spent, 3))
        return shown

    def hear(self, frame: str, shown: FrameMasks, choices: Mapping[int, Choice]) -> None:
        """Keep what the model thinks of its masks on a frame, and how well it chose among them where it could."""
        rows = zip(shown.object_ids, shown.ious.tolist(), shown.object_logits.tolist(), strict=True)
        for object_id, iou, logit in rows:
            name = self.names[object_id]  # type: ignore[index]
            own = self.heard.setdefault(name, {key: [] for key in HEARD})
            own["frame"].append(frame)
            own["iou"].append(None if math.isnan(iou) else round(iou, 6))
            own["object_logit"].append(None if math.isnan(logit) else round(logit, 6))
            chosen, best = choices.get(object_id, (None, None))  # type: ignore[call-overload]
            own["chosen_iou"].append(chosen)
            own["best_iou"].append(best)


class TimedFrames:
    """Frames of a video, with the seconds that reading them took."""

    def __init__(self, frames: Frames) -> None:
        self._frames, self.seconds = frames, 0.0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video."""
        return self._frames.size

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, frame: int) -> Tensor:
        began = time.perf_counter()
        read = self._frames[frame]
        self.seconds += time.perf_counter() - began
        return read


def known_of_itself(
    objects: Sequence[ObjectScore], heard: Mapping[str, Mapping[str, Any]]
) -> dict[str, Numbers]:
    """How well a model knows whether objects are there and how good its masks are.

    Args:
        objects: as scored; J is the IoU.
        heard: by sequence and object what `Answers.heard` holds. The first frame, that of the prompt, is left out.

    Returns:
        `visibility` and `calibration`, see those functions; among the latter `chosen_and_best` on these frames, and as
        `click_...` on those of the prompt, where that was a single click.
    """
    sightings, predicted, true = [], [], []
    choices: list[Choice] = []
    clicked: list[Choice] = []
    for o in objects:
        own = heard[o.sequence][str(o.object_id)]
        said = {name: k for k, name in enumerate(own["frame"]) if k > 0}
        rows = [(t, said[name]) for t, name in enumerate(o.frames) if name in said]
        there = np.array([o.visible[t] for t, _ in rows], bool)
        logits = [own["object_logit"][k] for _, k in rows]
        sightings.append(
            Sightings(there, np.array([logit is not None and logit > 0 for logit in logits], bool))
        )
        for (t, k), is_there in zip(rows, there.tolist(), strict=True):
            if is_there and own["iou"][k] is not None:
                predicted.append(float(own["iou"][k]))
                true.append(float(o.per_frame["J"][t]))
        choices += _choices(own, [k for _, k in rows])
        clicked += _choices(own, [0])
    fitting = calibration(np.array(predicted, np.float64), np.array(true, np.float64))
    on_clicks = {f"click_{name}": value for name, value in chosen_and_best(clicked).items()}
    return {
        "visibility": visibility(sightings),
        "calibration": {**fitting, **chosen_and_best(choices), **on_clicks},
    }


def _choices(own: Mapping[str, Any], rows: Sequence[int]) -> list[Choice]:
    """An object's choices in some rows of what was heard of it; answers of earlier versions have none."""
    pairs = list(zip(own.get("chosen_iou", ()), own.get("best_iou", ()), strict=True))
    return [Choice(*pairs[k]) for k in rows if k < len(pairs) and pairs[k][0] is not None]


def speed(answers: Sequence[Mapping[str, Any]]) -> Numbers:
    """Frames a second and time a frame over all videos.

    Returns:
        `frames`; `seconds` and `fps` with reading frames and writing masks; `model_fps` without; `p50_ms` and `p95_ms`
        of a frame in the model; `peak_memory_gb` of the GPU, or of the process without one; what `growth` gives.
    """
    frames = sum(int(one["frames"]) for one in answers)
    seconds = sum(float(one["seconds"]) for one in answers)
    times = np.array([ms for one in answers for ms in one["model_ms"]], np.float64)
    return {
        "frames": float(frames),
        "seconds": round(seconds, 3),
        "fps": round(frames / seconds, 3) if seconds else None,
        "model_fps": round(1000 * len(times) / float(times.sum()), 3) if times.sum() else None,
        "p50_ms": round(float(np.percentile(times, 50)), 3) if len(times) else None,
        "p95_ms": round(float(np.percentile(times, 95)), 3) if len(times) else None,
        "peak_memory_gb": max(float(one["peak_memory_gb"]) for one in answers),
        **growth([one["memory"] for one in answers if "memory" in one]),
    }
