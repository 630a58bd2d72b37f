"""Interactive video segmentation: a person who watches, clicks where the masks are wrong, and watches again.

The person is a function of the true masks, of what is shown and of the rules; nothing is random. Offline, all of the
video is watched before the next frame is corrected; online, it is watched once and stopped at. Rules: SAM 2 paper
(arXiv 2408.00714), interactive offline and online evaluation, whose code is not published; what it leaves open is
settled in docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from sam2.evaluation.boundary import Bools, Floats
from sam2.evaluation.clicks import Click, next_click
from sam2.evaluation.jf import score_masks

State = TypeVar("State")


class Predictor(Protocol[State]):
    """What follows one object through one video and can be corrected."""

    def reset(self) -> None:
        """Forget the object."""
        ...

    def click(self, frame: int, click: Click) -> Bools:
        """The object's mask (H, W) on a frame, after one more click there."""
        ...

    def follow(self, start: int) -> Iterator[tuple[int, Bools]]:
        """Index and mask (H, W) of each frame from `start` to the video's end, in the light of all clicks so far."""
        ...

    def save(self) -> State:
        """What is known now, to come back to."""
        ...

    def restore(self, state: State) -> None:
        """Come back to what was saved."""
        ...


@dataclass(frozen=True)
class Truth:
    """The true masks of one object.

    Attributes:
        frames: indices of the annotated frames, rising, from the first on which the object is visible.
        read: gives the mask (H, W) of one of them.
    """

    frames: Sequence[int]
    read: Callable[[int], Bools]

    @classmethod
    def of(cls, masks: Bools) -> Truth:
        """Masks (T, H, W) of a video all of whose frames are annotated.

        Raises:
            ValueError: the object is never visible.
        """
        visible = masks.any((1, 2))
        if not visible.any():
            raise ValueError(f"the object is on none of {len(masks)} frames")
        return cls(range(int(visible.argmax()), len(masks)), masks.__getitem__)


@dataclass(frozen=True)
class Rules:
    """What a person does.

    Attributes:
        frames: that are clicked on, at most.
        clicks: on each of them, at most: there is none where nothing is wrong.
        threshold: online, the video is stopped at the first frame whose IoU is below it.
    """

    frames: int = 8
    clicks: int = 3
    threshold: float = 0.75

    def __post_init__(self) -> None:
        if self.frames < 1 or self.clicks < 1:
            raise ValueError(f"{self.frames} frames with {self.clicks} clicks: both must be at least 1")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; expected an IoU between 0 and 1")


PAPER = Rules()


class Interaction(NamedTuple):
    """A frame that was clicked on: the IoU that was seen there (None: it is the first), and where it was clicked."""

    frame: int
    iou: float | None
    clicks: tuple[Click, ...]


@dataclass(frozen=True, eq=False)
class Played:
    """What came out for an object.

    Attributes:
        interactions: as they were made; fewer than the rules allow if nothing was left to do.
        j: mean J over the annotated frames after 1, 2, ... interacted frames, one entry for each that the rules allow;
            where nothing was left to do the last value stays.
        f: mean F, alike.
        frames: that J and F are means over.
    """

    interactions: tuple[Interaction, ...]
    j: Floats
    f: Floats
    frames: Sequence[int]

    @property
    def jf(self) -> Floats:
        """J&F after 1, 2, ... interacted frames."""
        return (self.j + self.f) / 2


class _Score(NamedTuple):
    j: float
    f: float


class _Watched(NamedTuple):
    """An annotated frame as it was shown."""

    frame: int
    mask: Bools
    score: _Score


def offline(truth: Truth, predictor: Predictor[State], rules: Rules = PAPER) -> Played:
    """Watch all of the video from the object's first frame, correct the worst frame, watch again.

    The worst is that of the lowest IoU (J: 1 where the object is neither there nor shown), of several the earliest.
    When it is 1, nothing is left to do. A pass over the video for each interacted frame.

    Raises:
        ValueError: the object is not visible on `truth.frames[0]`, or an annotated frame is not shown.
    """
    predictor.reset()
    made, after = [_first(truth, predictor, rules)], []
    while True:
        worst: _Watched | None = None
        scores = {}
        for seen in _watch(truth, predictor.follow(truth.frames[0])):
            scores[seen.frame] = seen.score
            if worst is None or seen.score.j < worst.score.j:
                worst = seen
        after.append(_mean(truth, scores))
        if worst is None or worst.score.j == 1 or len(made) == rules.frames:
            return _played(truth, made, after, rules)
        made.append(_correct(truth, predictor, rules, worst)[0])


def online(truth: Truth, predictor: Predictor[State], rules: Rules = PAPER) -> Played:
    """Watch the video once; stop at each frame whose IoU is below the threshold, correct it, go on with the next one.

    J&F after n interacted frames is that of a person who may click on n frames: all masks up to the next stop, and
    from there on those that are shown without stopping. So besides the pass itself the rest of the video is followed
    once more from each stop but the last: at most `rules.frames` passes in all, as offline.

    Raises:
        ValueError: as `offline`.
    """
    predictor.reset()
    made, after = [_first(truth, predictor, rules)], []
    shown, start = {}, truth.frames[0]  # the first frame is shown as it was clicked
    while True:
        stream = _watch(truth, predictor.follow(start))
        stop: _Watched | None = None
        for seen in stream:
            shown[seen.frame] = seen.score
            if seen.score.j < rules.threshold and len(made) < rules.frames and seen.frame != made[-1].frame:
                stop = seen
                break
        if stop is None:
            after.append(_mean(truth, shown))
            return _played(truth, made, after, rules)
        state = predictor.save()
        after.append(_mean(truth, shown | {seen.frame: seen.score for seen in stream}))
        predictor.restore(state)
        interaction, answer = _correct(truth, predictor, rules, stop)
        made.append(interaction)
        shown[stop.frame] = _score(truth.read(stop.frame), answer, stop.frame)
        start = stop.frame + 1


MODES: Mapping[str, Callable[[Truth, Predictor[Any], Rules], Played]] = {"offline": offline, "online": online}


def _first(truth: Truth, predictor: Predictor[State], rules: Rules) -> Interaction:
    """Point at the object on its first frame."""
    frame = truth.frames[0]
    mask = truth.read(frame)
    if not mask.any():
        raise ValueError(f"the object is not visible on frame {frame}, its first")
    return _click(predictor, Interaction(frame, None, ()), mask, np.zeros_like(mask), rules.clicks)[0]


def _correct(
    truth: Truth, predictor: Predictor[State], rules: Rules, seen: _Watched
) -> tuple[Interaction, Bools]:
    return _click(
        predictor,
        Interaction(seen.frame, seen.score.j, ()),
        truth.read(seen.frame),
        seen.mask,
        rules.clicks,
    )


def _click(
    predictor: Predictor[State], begun: Interaction, truth: Bools, answer: Bools, count: int
) -> tuple[Interaction, Bools]:
    """Click where the last answer is most wrong, as long as anything is; gives the last answer as well."""
    clicks: list[Click] = []
    while len(clicks) < count and (click := next_click(truth, answer)) is not None:
        answer = predictor.click(begun.frame, click)
        clicks.append(click)
    return begun._replace(clicks=tuple(clicks)), answer


def _watch(truth: Truth, shown: Iterable[tuple[int, Bools]]) -> Iterator[_Watched]:
    """The annotated frames of what is shown, scored."""
    annotated = set(truth.frames)
    for frame, mask in shown:
        if frame in annotated:
            yield _Watched(frame, mask, _score(truth.read(frame), mask, frame))


def _score(truth: Bools, mask: Bools, frame: int) -> _Score:
    if truth.shape != mask.shape:
        raise ValueError(
            f"frame {frame}: the mask is {mask.shape[1]}x{mask.shape[0]}, the true one is "
            f"{truth.shape[1]}x{truth.shape[0]}; nothing is resized here"
        )
    found = score_masks(truth[None, None], mask[None, None])
    return _Score(float(found.j[0, 0]), float(found.f[0, 0]))


def _mean(truth: Truth, scores: Mapping[int, _Score]) -> _Score:
    missing = [frame for frame in truth.frames if frame not in scores]
    if missing:
        raise ValueError(
            f"frame {missing[0]} is annotated and was not shown, nor were {len(missing) - 1} more"
        )
    rows = np.array([scores[frame] for frame in truth.frames])
    return _Score(*rows.mean(0).tolist())


def _played(truth: Truth, made: Sequence[Interaction], after: list[_Score], rules: Rules) -> Played:
    rows = np.array(after + [after[-1]] * (rules.frames - len(after)))
    return Played(tuple(made), rows[:, 0], rows[:, 1], truth.frames)
