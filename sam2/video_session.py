"""Point at objects in a video, follow them, correct: the state of one video, on the model's four verbs.

What happens when is the released predictor's way (its faults aside): a prompt is answered at once and remembered only
when tracking starts; a prompted frame that had not been tracked becomes a prompted frame of the memory, a corrected
one stays a tracked frame; objects are independent. Held to the reference by tests/sam2/test_video_parity.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sam2.image_prompts import Canvas, PromptError
from sam2.model.memory_bank import Place
from sam2.model.pixels import normalise
from sam2.model.sam2 import NO_OBJECT_LOGIT, SAM2, suppress_overlap
from sam2.policies import REFERENCE, Policy, as_policy
from sam2.shown_masks import enlarged, filled
from sam2.tracker import Offer, Track, Tracker
from sam2.types import Features, MaskPrompt, Output, Prompt
from sam2.video_prompts import LOGIT_RANGE, clicks_and_box, extended, mask_on_frame
from sam2.video_state import FrameMasks, Frames, Pending, SessionError, SessionOptions, TrackedObject

_DEFAULTS = SessionOptions()


class VideoSession:
    """One video with its objects.

    Args:
        model: in eval mode.
        frames: the video.
        options: switches.
        policy: what is remembered and looked at; one of `sam2.policies`, or its name.

    Raises:
        PolicyError: no policy has that name.
        TypeError: `policy` is neither a policy nor a name.
    """

    def __init__(
        self,
        model: SAM2,
        frames: Frames,
        options: SessionOptions = _DEFAULTS,
        policy: Policy | str = REFERENCE,
    ) -> None:
        if len(frames) == 0:
            raise SessionError("the video has no frames")
        self.frames, self.options = frames, options
        self._store = torch.device("cpu") if options.offload_state_to_cpu else None
        self.tracker = Tracker(model, as_policy(policy), options.max_rows, self._store)
        self.objects: dict[Hashable, TrackedObject] = {}
        # called with every object whose frame is answered, and what its answer was chosen from
        self.on_offer: Callable[[Hashable, Offer], None] | None = None
        self._features: OrderedDict[int, Features] = OrderedDict()

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.tracker.model.no_mem_embed.device

    @property
    def object_ids(self) -> list[Hashable]:
        """Ids of all objects, in the order in which they came."""
        return list(self.objects)

    @property
    def cached_features(self) -> Mapping[int, Features]:
        """What the model saw in the last few frames."""
        return MappingProxyType(self._features)

    @torch.inference_mode()
    def add_points_or_box(
        self,
        frame: int,
        object_id: Hashable,
        points: ArrayLike | Tensor | None = None,
        labels: ArrayLike | Tensor | None = None,
        box: ArrayLike | Tensor | None = None,
        *,
        clear_old: bool = True,
        normalize: bool = True,
    ) -> FrameMasks:
        """Click on an object, or draw a box around it; a new id is a new object.

        Args:
            frame: index.
            object_id: any hashable.
            points: x, y in pixels of the video, (P, 2).
            labels: (P,), 1 on the object, 0 beside it.
            box: x1, y1, x2, y2; with earlier prompts of the frame only when those are cleared.
            clear_old: forget earlier prompts of this object on this frame.
            normalize: coordinates are pixels; False: fractions of the frame's sides.

        Raises:
            PromptError, SessionError: nothing has changed.
        """
        self._check_frame(frame)
        if box is not None and not clear_old:
            raise PromptError(
                "a box comes before any point; give it with clear_old_points=True, together with the points"
            )
        coords, kinds = clicks_and_box(self._canvas(normalize), points, labels, box)
        known = self.objects.get(object_id)
        before = None if known is None or clear_old else known.prompts.get(frame)
        coords, kinds = extended(before, coords, kinds)
        obj = known or TrackedObject(self.tracker.begin())
        is_prompted = self._becomes_prompted(obj, frame)
        rough = self._shown(obj, frame, is_prompted)
        logits = None if rough is None else rough.low_res.to(self.device).clamp(-LOGIT_RANGE, LOGIT_RANGE)
        prompt = Prompt(coords, kinds, logits)
        answer = self._ask(object_id, obj, frame, prompt)

        self.objects[object_id] = obj
        obj.prompts[frame] = replace(prompt, mask_logits=None)
        obj.masks.pop(frame, None)
        obj.pending[frame] = Pending(answer, is_prompted)
        return self._show(frame, is_prompted)

    @torch.inference_mode()
    def add_mask(self, frame: int, object_id: Hashable, mask: ArrayLike | Tensor) -> FrameMasks:
        """Say which pixels of a frame the object has, (H, W), instead of pointing at it.

        Raises:
            PromptError, SessionError: nothing has changed.
        """
        self._check_frame(frame)
        masks = mask_on_frame(self._canvas(), mask)
        obj = self.objects.get(object_id) or TrackedObject(self.tracker.begin())
        is_prompted = self._becomes_prompted(obj, frame)
        answer = self._ask(object_id, obj, frame, MaskPrompt(masks))

        self.objects[object_id] = obj
        obj.masks[frame] = masks if self._store is None else masks.to(self._store)
        obj.prompts.pop(frame, None)
        obj.pending[frame] = Pending(answer, is_prompted)
        return self._show(frame, is_prompted)

    def order(self, start: int | None, count: int | None, reverse: bool) -> range:
        """The frames that `propagate` visits: from `start` (the first prompted one), at most `count` further ones."""
        if reverse and not self.options.keep_past:
            raise SessionError("a session that does not keep its past goes forward only (keep_past)")
        first = self._start() if start is None else start
        self._check_frame(first)
        if count is not None and count < 0:
            raise SessionError(
                f"max_frame_num_to_track is {count}, expected 0 or more frames after the first"
            )
        count = len(self.frames) if count is None else count
        if reverse:
            return range(first, max(first - count, 0) - 1, -1) if first > 0 else range(0)
        return range(first, min(first + count, len(self.frames) - 1) + 1)

    def prepare(self) -> None:
        """Remember what has been prompted since the last time.

        Raises:
            SessionError: there is no object, or one without any prompt.
        """
        if not self.objects:
            raise SessionError("nothing to follow: point at an object first")
        for object_id, obj in self.objects.items():
            if not obj.prompted_frames and not any(p.is_prompted for p in obj.pending.values()):
                raise SessionError(f"object {object_id!r} has no prompt; point at it first, or remove it")
        with torch.inference_mode():
            for frame in sorted({frame for obj in self.objects.values() for frame in obj.pending}):
                self._commit(frame)

    def propagate(
        self, start: int | None = None, count: int | None = None, reverse: bool = False
    ) -> Iterator[FrameMasks]:
        """Follow all objects, frame by frame; see `order` for which.

        Raises:
            SessionError: as `prepare`, before the first frame.
        """
        self.prepare()
        yield from self.follow(self.order(start, count, reverse), reverse)

    def follow(self, order: Sequence[int], reverse: bool = False) -> Iterator[FrameMasks]:
        """`propagate` over chosen frames, after `prepare`.

        Prompts that come meanwhile count from the next pass on, as do new objects; removed ones are left out at once.
        """
        begun = dict(self.objects)
        for frame in order:
            present = {name: obj for name, obj in begun.items() if self.objects.get(name) is obj}
            with torch.inference_mode():
                self._advance(present, frame, reverse)
                found = self._masks(frame, present, [obj.committed(frame) for obj in present.values()])
            yield found

    @torch.inference_mode()
    def clear_prompts(self, frame: int, object_id: Hashable) -> FrameMasks:
        """Forget an object's prompts on a frame; if the frame was a prompted one, it counts as a tracked one now."""
        self._check_frame(frame)
        self._clear(self._object(object_id), frame)
        return self._show(frame, self._any_pending_prompted(frame))

    @torch.inference_mode()
    def remove(self, object_id: Hashable) -> list[FrameMasks]:
        """Forget an object; gives the remaining ones' masks on the frames where it had prompts."""
        obj = self._object(object_id)
        frames = obj.input_frames
        del self.objects[object_id]
        if not self.objects:
            self.reset()
            return []
        return [self._show(frame, self._any_pending_prompted(frame)) for frame in frames]

    def reset(self) -> None:
        """Forget all objects; the video stays."""
        self.objects.clear()

    def features(self, frame: int) -> Features:
        """What the model sees in a frame; the last few are kept."""
        if frame not in self._features:
            pixels = self.frames[frame].to(self.device, non_blocking=True)[None]
            images = normalise(pixels) if pixels.dtype == torch.uint8 else pixels
            with torch.inference_mode():
                self._features[frame] = self.tracker.model.observe(images)
            while len(self._features) > self.options.cached_features:
                self._features.popitem(last=False)
        self._features.move_to_end(frame)
        return self._features[frame]

    def _ask(
        self, object_id: Hashable, obj: TrackedObject, frame: int, prompt: Prompt | MaskPrompt
    ) -> Output:
        first = frame not in obj.tracked
        place = self._place(frame, obj.tracked.get(frame, False))
        answer = self.tracker.ask(self.features(frame), obj.track, place, prompt, first)
        if self.on_offer is not None:
            self.on_offer(object_id, Offer.of(answer))
        return self._kept(answer.settled())

    def _commit(self, frame: int) -> None:
        """Remember all pending answers of a frame, of all objects together."""
        asked = [obj for obj in self.objects.values() if frame in obj.pending]
        pending = [obj.pending.pop(frame) for obj in asked]
        # a frame that is a prompted one stays as it is: the released predictor drops corrections of it
        lasting = [
            (obj, p)
            for obj, p in zip(asked, pending, strict=True)
            if p.is_prompted or not (frame in obj.answers and obj.answers[frame].is_prompted)
        ]
        if not lasting:
            return
        tracks = self.tracker.commit(
            self.features(frame),
            [obj.track for obj, _ in lasting],
            [p.answer.to(self.device) for _, p in lasting],
            self._place(frame, False),
            [p.is_prompted for _, p in lasting],
        )
        for (obj, p), track in zip(lasting, tracks, strict=True):
            obj.track = track
            obj.answers[frame] = p
            if self.options.clear_non_cond_mem_around_input:
                self._clear_around(obj, frame)

    def _advance(self, objects: Mapping[Hashable, TrackedObject], frame: int, reverse: bool) -> None:
        """Track objects on a frame, except those whose answer a person gave."""
        names, followed = [], []
        for object_id, obj in objects.items():
            obj.tracked[frame] = reverse
            if not (frame in obj.answers and obj.answers[frame].is_prompted):
                names.append(object_id)
                followed.append(obj)
            elif self.options.clear_non_cond_mem_around_input:
                self._clear_around(obj, frame)
        if not followed:
            return
        tracks = [obj.track for obj in followed]
        told = self.on_offer
        on_offer = None if told is None else lambda index, offer: told(names[index], offer)
        found = self.tracker.advance(self.features(frame), tracks, self._place(frame, reverse), on_offer)
        for obj, (answer, track) in zip(followed, found, strict=True):
            kept, entry = self._kept(answer), track.best.memory.get(frame)
            if entry is not None:  # one copy of both, not two
                kept = replace(kept, pointer=entry.pointer, object_logit=entry.object_logit)
            obj.answers[frame] = Pending(kept, False)
            obj.track = track
            if not self.options.keep_past:
                self._drop_past(obj, frame)

    def _drop_past(self, obj: TrackedObject, frame: int) -> None:
        """Keep of an object what frames after this one can look at, and what a person answered."""
        obj.track = self.tracker.forget(obj.track, self._place(frame, False))
        obj.answers = {f: a for f, a in obj.answers.items() if a.is_prompted or f == frame}
        obj.tracked = {f: False for f in obj.tracked if f in obj.answers}

    def _clear(self, obj: TrackedObject, frame: int) -> None:
        obj.prompts.pop(frame, None)
        obj.masks.pop(frame, None)
        obj.pending.pop(frame, None)
        answer = obj.answers.get(frame)
        if answer is None or not answer.is_prompted:
            return
        obj.answers[frame] = answer._replace(is_prompted=False)
        obj.tracked.pop(frame, None)
        paths = []
        for path in obj.track.paths:
            entry = path.memory.get(frame)
            memory = path.memory if entry is None else path.memory.add(replace(entry, is_prompted=False))
            paths.append(replace(path, memory=memory))
        obj.track = Track(tuple(paths))

    def _clear_around(self, obj: TrackedObject, frame: int) -> None:
        """Forget tracked frames that a memory spans on either side."""
        rules = self.tracker.rules
        reach = rules.stride * rules.slots
        near = {
            f for f, answer in obj.answers.items() if abs(f - frame) <= reach and not answer.is_prompted
        } - {frame}
        obj.answers = {f: answer for f, answer in obj.answers.items() if f not in near}
        paths = []
        for path in obj.track.paths:
            memory = path.memory
            for f in near:
                memory = memory.without(f)
            paths.append(replace(path, memory=memory))
        obj.track = Track(tuple(paths))

    def _becomes_prompted(self, obj: TrackedObject, frame: int) -> bool:
        return frame not in obj.tracked or self.options.add_all_frames_to_correct_as_cond

    def _shown(self, obj: TrackedObject, frame: int, is_prompted: bool) -> Output | None:
        """An object's latest answer on a frame: the pending one of that kind, or what tracking left."""
        pending = obj.pending.get(frame)
        if pending is not None and pending.is_prompted == is_prompted:
            return pending.answer
        return obj.committed(frame)

    def _any_pending_prompted(self, frame: int) -> bool:
        return any(frame in o.pending and o.pending[frame].is_prompted for o in self.objects.values())

    def _show(self, frame: int, is_prompted: bool) -> FrameMasks:
        """All objects' masks, those that are not remembered yet included."""
        shown = [self._shown(obj, frame, is_prompted) for obj in self.objects.values()]
        return self._masks(frame, self.objects, shown)

    def _masks(self, frame: int, ids: Iterable[Hashable], found: Sequence[Output | None]) -> FrameMasks:
        """Answers at the video's size."""
        enlarged = [self._enlarged(answer) for answer in found]
        logits = torch.cat(enlarged) if enlarged else torch.empty(0, 1, *self.frames.size, device=self.device)
        if self.options.non_overlap_masks:
            logits = suppress_overlap(logits)
        unknown = torch.full((1, 1), float("nan"), device=self.device)
        ious = [unknown if a is None else a.iou.to(self.device) for a in found]
        scores = [unknown if a is None else a.object_logit.to(self.device) for a in found]
        return FrameMasks(
            frame,
            list(ids),
            logits,
            torch.cat(ious)[:, 0].float() if ious else unknown[:0, 0],
            torch.cat(scores)[:, 0].float() if scores else unknown[:0, 0],
        )

    def _enlarged(self, answer: Output | None) -> Tensor:
        size = self.frames.size
        if answer is None:
            return torch.full((1, 1, *size), NO_OBJECT_LOGIT, device=self.device)
        return enlarged(answer.low_res.to(self.device), size)

    def _kept(self, answer: Output) -> Output:
        """An answer as it is stored and shown: holes filled, away from the device if asked for."""
        low_res = filled(answer.low_res, self.options.fill_hole_area)
        kept = replace(answer, low_res=low_res, candidates=low_res, given=None)
        return kept if self._store is None else kept.to(self._store)

    def _place(self, frame: int, reverse: bool) -> Place:
        return Place(frame, len(self.frames), reverse)

    def _canvas(self, normalize: bool = True) -> Canvas:
        return Canvas(*self.frames.size, self.tracker.model.image_size, self.device, normalize)

    def _object(self, object_id: Hashable) -> TrackedObject:
        if object_id not in self.objects:
            raise SessionError(f"there is no object {object_id!r}; known: {self.object_ids}")
        return self.objects[object_id]

    def _start(self) -> int:
        return min(obj.prompted_frames[0] for obj in self.objects.values())

    def _check_frame(self, frame: int) -> None:
        if isinstance(frame, bool) or not isinstance(frame, int):
            raise SessionError(f"frame is {frame!r}, expected its index, 0 to {len(self.frames) - 1}")
        if not 0 <= frame < len(self.frames):
            raise SessionError(f"there is no frame {frame}; the video has frames 0 to {len(self.frames) - 1}")
