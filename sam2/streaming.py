"""Follow objects through frames as they come, for ever, in constant memory.

    tracker = StreamTracker(model)
    result = tracker.step(frame)                        # look at the next frame
    result = tracker.prompt("cup", points=[[210, 350]], labels=[1])
    for frame in source:
        result = tracker.step(frame)                    # result.masks, result.object_ids, result.object_logits ...

What no later frame can look at is dropped at once; nothing else distinguishes this from the video predictor, whose
answers it gives as long as prompts come on an object's first frame (held by tests/sam2/test_streaming.py).
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sam2.image_prompts import Canvas, PromptError
from sam2.model.memory_bank import Place
from sam2.model.pixels import normalise
from sam2.model.sam2 import SAM2, suppress_overlap
from sam2.pictures import Picture, picture_size, to_model_frame
from sam2.policies import REFERENCE, Policy, as_policy
from sam2.shown_masks import enlarged, filled
from sam2.tracker import Track, Tracker
from sam2.types import Features, MaskPrompt, Output, Prompt
from sam2.video_prompts import LOGIT_RANGE, clicks_and_box, extended, mask_on_frame


class StreamError(RuntimeError):
    """What was asked does not fit what the tracker has seen; nothing has changed."""


@dataclass(frozen=True)
class StreamOptions:
    """How a stream is followed.

    Attributes:
        frames: how many frames will come, if that is known; pointers of videos shorter than the model's reach (16) are
            placed by it.
        fill_hole_area: holes of at most this many low-resolution pixels are filled; 0: none.
        non_overlap_masks: in the masks given out, a pixel belongs to one object only.
        corrections_are_prompted: a corrected frame counts as one of the prompted frames, which are never dropped;
            memory then grows by every correction unless the policy bounds it.
        max_rows: objects that go through the model together; see `Tracker`.
    """

    frames: int | None = None
    fill_hole_area: int = 8
    non_overlap_masks: bool = False
    corrections_are_prompted: bool = False
    max_rows: int | None = None


@dataclass(frozen=True)
class FrameResult:
    """All objects on one frame.

    `logits` (O, H, W) are at the frame's size; `ious` and `object_logits` (O,) are the model's own judgement, the
    latter above zero where it thinks that the object is visible. `seconds` says what took how long: `prepare`
    (resizing), `observe` (the trunk), `track`, `masks` (enlarging). A GPU is not waited for: there they are the times
    until its work was queued, and reading a result takes the rest.
    """

    frame: int
    object_ids: list[Hashable]
    logits: Tensor
    ious: Tensor
    object_logits: Tensor
    seconds: Mapping[str, float]

    @property
    def masks(self) -> Tensor:
        """(O, H, W) bool."""
        return self.logits > 0


@dataclass
class _Followed:
    """One object: what it was before the current frame (for corrections), what it is now, and what is shown."""

    before: Track
    track: Track
    answer: Output | None = None
    prompt: Prompt | None = None
    is_new: bool = True


class StreamTracker:
    """Objects in a stream of frames.

    Args:
        model: in eval mode, from `build_sam2_video_predictor` or `build_sam2`.
        policy: what is remembered and looked at; one of `sam2.policies`, or its name, such as "samurai".
        options: switches.

    Raises:
        PolicyError: no policy has that name.
        TypeError: `model` is no model, or `policy` neither a policy nor a name.
    """

    def __init__(
        self, model: SAM2, policy: Policy | str = REFERENCE, options: StreamOptions | None = None
    ) -> None:
        if not isinstance(model, SAM2):
            raise TypeError(
                f"model is of type {type(model).__name__}, expected one from build_sam2_video_predictor or build_sam2"
            )
        self.options = options or StreamOptions()
        self._tracker = Tracker(model, as_policy(policy), self.options.max_rows)
        self._objects: dict[Hashable, _Followed] = {}
        self._features: Features | None = None
        self._size = (0, 0)
        self._frame = -1

    @property
    def object_ids(self) -> list[Hashable]:
        """Ids of all objects, in the order in which they came."""
        return list(self._objects)

    @property
    def frame(self) -> int:
        """Index of the current frame; -1 before the first."""
        return self._frame

    @torch.inference_mode()
    def step(self, frame: Picture) -> FrameResult:
        """Look at the next frame and follow all objects to it.

        Args:
            frame: as `sam2.pictures.to_model_frame` takes it, RGB; of the size of the first.

        Raises:
            FramesError: not a picture; nothing has changed.
            StreamError: of another size than the first; nothing has changed.
        """
        clock = _Clock()
        size = picture_size(frame)
        if self._features is not None and size != self._size:
            given, first = ("x".join(map(str, s)) for s in (size, self._size))
            raise StreamError(
                f"the frame is {given}, the first was {first} (height x width); resize it, or call reset() and point "
                "at the objects again"
            )
        pixels = to_model_frame(frame, self._tracker.model.image_size)
        clock.lap("prepare")
        device = self._tracker.model.no_mem_embed.device
        features = self._tracker.model.observe(normalise(pixels.to(device, non_blocking=True)[None]))
        clock.lap("observe")
        place = self._place(self._frame + 1)
        followed = list(self._objects.values())
        before = [self._tracker.forget(f.track, self._place(self._frame)) for f in followed]
        found = self._tracker.advance(features, before, place) if followed else []
        for one, known, (answer, track) in zip(followed, before, found, strict=True):
            one.before, one.track, one.answer = known, track, self._filled(answer)
            one.prompt, one.is_new = None, False
        self._features, self._size, self._frame = features, size, self._frame + 1
        clock.lap("track")
        return self._result(clock)

    @torch.inference_mode()
    def prompt(
        self,
        object_id: Hashable,
        points: ArrayLike | Tensor | None = None,
        labels: ArrayLike | Tensor | None = None,
        box: ArrayLike | Tensor | None = None,
        mask: ArrayLike | Tensor | None = None,
        *,
        clear_old: bool = True,
    ) -> FrameResult:
        """Point at an object on the current frame; a new id is a new object, a known one is corrected at once.

        Args:
            object_id: any hashable.
            points: x, y in pixels of the frame, (P, 2).
            labels: (P,), 1 on the object, 0 beside it.
            box: x1, y1, x2, y2.
            mask: (H, W), instead of points and box.
            clear_old: forget earlier prompts of this object on this frame.

        Raises:
            PromptError, StreamError: nothing has changed.
        """
        clock = _Clock()
        features = self._seen()
        known = self._objects.get(object_id)
        one = known or _Followed(self._tracker.begin(), self._tracker.begin())
        earlier = None if clear_old else one.prompt
        prompt = self._prompt(earlier, one.answer, points, labels, box, mask, clear_old)
        place = self._place(self._frame)
        answer = self._tracker.ask(features, one.before, place, prompt, one.is_new)
        # as the video predictor: a given mask, too, is remembered by its low-resolution logits
        answer = self._filled(replace(answer.settled(), given=None))
        is_prompted = one.is_new or self.options.corrections_are_prompted
        [track] = self._tracker.commit(features, [one.before], [answer], place, [is_prompted])
        one.track, one.answer = track, answer
        one.prompt = prompt if isinstance(prompt, Prompt) else None
        self._objects[object_id] = one
        clock.lap("track")
        return self._result(clock)

    def remove(self, object_id: Hashable) -> None:
        """Stop following an object.

        Raises:
            StreamError: there is no such object.
        """
        if object_id not in self._objects:
            raise StreamError(f"there is no object {object_id!r}; known: {self.object_ids}")
        del self._objects[object_id]

    def reset(self) -> None:
        """Forget all objects and frames."""
        self._objects.clear()
        self._features, self._frame = None, -1

    def _prompt(
        self,
        earlier: Prompt | None,
        answer: Output | None,
        points: ArrayLike | Tensor | None,
        labels: ArrayLike | Tensor | None,
        box: ArrayLike | Tensor | None,
        mask: ArrayLike | Tensor | None,
        clear_old: bool,
    ) -> Prompt | MaskPrompt:
        canvas = Canvas(*self._size, self._tracker.model.image_size, self._seen().s16.device)
        if mask is not None:
            if points is not None or labels is not None or box is not None:
                raise PromptError("a mask is the whole answer; give it without points and box")
            return MaskPrompt(mask_on_frame(canvas, mask))
        if box is not None and not clear_old:
            raise PromptError("a box comes before any point; give it with clear_old=True, with the points")
        coords, kinds = extended(earlier, *clicks_and_box(canvas, points, labels, box))
        rough = None if answer is None else answer.low_res.clamp(-LOGIT_RANGE, LOGIT_RANGE)
        return Prompt(coords, kinds, rough)

    def _seen(self) -> Features:
        if self._features is None:
            raise StreamError("no frame has been seen; call step(frame) first")
        return self._features

    def _place(self, frame: int) -> Place:
        unknown = self._tracker.rules.max_pointers
        return Place(frame, unknown if self.options.frames is None else self.options.frames)

    def _filled(self, answer: Output) -> Output:
        low_res = filled(answer.low_res, self.options.fill_hole_area)
        return replace(answer, low_res=low_res, candidates=low_res)

    def _result(self, clock: _Clock) -> FrameResult:
        shown = [one.answer for one in self._objects.values() if one.answer is not None]
        device = self._tracker.model.no_mem_embed.device
        if not shown:
            empty = torch.empty(0, device=device)
            logits = torch.empty(0, *self._size, device=device)
            return FrameResult(self._frame, [], logits, empty, empty, clock.laps)
        joined = Output.join(shown)
        logits = enlarged(joined.low_res, self._size)
        if self.options.non_overlap_masks:
            logits = suppress_overlap(logits)
        clock.lap("masks")
        scores = joined.iou[:, 0].float(), joined.object_logit[:, 0].float()
        return FrameResult(self._frame, self.object_ids, logits[:, 0], *scores, clock.laps)


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now
