"""Which frames and which objects of a video make a training clip.

Decided on the visibility bits of the index, before any pixel or mask is read.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.clip import DataError
from data.plural import plural
from data.shard import SampleMeta


class TooFewFrames(DataError):
    """A video is shorter than a clip."""


@dataclass(frozen=True)
class SamplingConfig:
    """How clips are cut. The defaults are the reference's: consecutive frames, objects of the first one.

    Attributes:
        stride_min: least distance of neighbouring frames of a clip, in annotated frames.
        stride_max: largest distance; drawn once a clip, among those for which the video is long enough.
        reverse_probability: how often time runs backwards.
        objects: "first_frame" takes objects visible in the first frame of the clip; "anywhere" also those that appear
            later in it (one of the chosen is always visible in the first frame: something must be prompted there).
        min_area: an object counts as visible where its mask has at least this share of the picture,
        max_area: and at most this share.
        tracks: "manual" or "auto" takes only objects whose masks people drew, or a model found, if the source says so.
        min_predicted_iou: of objects that have such a score (SA-1B), take those with at least this,
        min_stability: and this stability score.
    """

    stride_min: int = 1
    stride_max: int = 1
    reverse_probability: float = 0.0
    objects: Literal["first_frame", "anywhere"] = "first_frame"
    min_area: float = 0.0
    max_area: float = 1.0
    tracks: Literal["any", "manual", "auto"] = "any"
    min_predicted_iou: float = 0.0
    min_stability: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.stride_min <= self.stride_max:
            raise DataError(
                f"strides {self.stride_min} to {self.stride_max}: need 1 <= stride_min <= stride_max"
            )
        for name in ("reverse_probability", "min_area", "max_area", "min_predicted_iou", "min_stability"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        if self.min_area >= self.max_area:
            raise DataError(f"min_area is {self.min_area}, max_area {self.max_area}; no object can have both")
        if self.tracks not in ("any", "manual", "auto"):
            raise DataError(f"tracks is {self.tracks!r}; choose any, manual or auto")
        if self.objects not in ("first_frame", "anywhere"):
            raise DataError(f"objects is {self.objects!r}; choose first_frame or anywhere")

    @property
    def asks_the_source(self) -> bool:
        """Whether what the source says about an object decides if it is used."""
        return self.tracks != "any" or self.min_predicted_iou > 0 or self.min_stability > 0


def admitted(meta: SampleMeta, config: SamplingConfig) -> NDArray[np.bool_]:
    """(O,), true for the objects of a sample that `config` lets in by what their source says about them.

    An object of which the source does not say who drew it, or how sure it is, is let in.
    """
    fine = np.ones(len(meta.object_ids), bool)
    if config.tracks != "any":
        fine &= [kind in ("", config.tracks) for kind in meta.object_types]
    for name, least in (
        ("predicted_iou", config.min_predicted_iou),
        ("stability_score", config.min_stability),
    ):
        scores = meta.extra.get(name)
        if least and isinstance(scores, list) and len(scores) == len(fine):
            fine &= [not isinstance(score, int | float) or score >= least for score in scores]
    return fine


@dataclass(frozen=True)
class Selection:
    """`frames` are annotated frames in the order of the clip, `objects` positions in the sample, rising."""

    frames: tuple[int, ...]
    objects: tuple[int, ...]


def frames_needed(length: int, config: SamplingConfig) -> int:
    """Annotated frames that a video must have for a clip of `length` frames."""
    return (length - 1) * config.stride_min + 1


def choose(
    visible: NDArray[np.bool_], length: int, max_objects: int, config: SamplingConfig, seed: int
) -> Selection:
    """Draw a clip.

    Args:
        visible: (O, N), true where an object may be used.
        length: frames of the clip.
        max_objects: of the clip.
        config: the policy.
        seed: all that is random.

    Raises:
        TooFewFrames: the video is too short.
        DataError: in no frame that a clip could start with is an object visible.
    """
    shortest = frames_needed(length, config)
    if visible.shape[1] < shortest:
        raise TooFewFrames(
            f"has {plural(visible.shape[1], 'annotated frame')}, a clip of {length} at stride {config.stride_min} "
            f"needs {shortest}; shorten the clips or leave the video out"
        )
    rng = random.Random(seed)
    for stride, is_reversed in _orders(visible.shape[1], length, config, rng):
        clips = _clips(visible.shape[1], length, stride, is_reversed)
        clips = clips[visible[:, clips[:, 0]].any(0)]
        if len(clips):
            frames = clips[rng.randrange(len(clips))]
            return Selection(tuple(frames.tolist()), _pick(visible[:, frames], max_objects, config, rng))
    raise DataError(f"no object is visible in any frame that a clip of {length} could start with")


def _orders(
    frames: int, length: int, config: SamplingConfig, rng: random.Random
) -> Iterator[tuple[int, bool]]:
    """Every allowed (stride, is reversed), the drawn one first."""
    is_reversed = rng.random() < config.reverse_probability
    longest = min(config.stride_max, (frames - 1) // max(length - 1, 1)) if length > 1 else config.stride_min
    strides = list(range(config.stride_min, longest + 1))
    rng.shuffle(strides)
    directions = [is_reversed, not is_reversed] if 0 < config.reverse_probability < 1 else [is_reversed]
    for direction in directions:
        for stride in strides:
            yield stride, direction


def _clips(frames: int, length: int, stride: int, is_reversed: bool) -> NDArray[np.int64]:
    """The frames of every clip that fits, (clips, length)."""
    span = (length - 1) * stride + 1
    clips = np.arange(frames - span + 1)[:, None] + stride * np.arange(length)
    return clips[:, ::-1] if is_reversed else clips


def _pick(
    visible: NDArray[np.bool_], max_objects: int, config: SamplingConfig, rng: random.Random
) -> tuple[int, ...]:
    """Objects of a clip whose visibility (O, T) is given."""
    at_start = np.flatnonzero(visible[:, 0]).tolist()
    if config.objects == "first_frame":
        return tuple(sorted(rng.sample(at_start, min(max_objects, len(at_start)))))
    first = rng.choice(at_start)
    others = [k for k in np.flatnonzero(visible.any(1)).tolist() if k != first]
    return tuple(sorted([first, *rng.sample(others, min(max_objects - 1, len(others)))]))
