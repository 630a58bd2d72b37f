"""Follow objects through videos: names, defaults and answers of the reference's predictor.

A thin face: the state that `init_state` gives is a `VideoSession`, which does the work. Unlike there, frames are
decoded when they are needed, objects go through the model together, and holes are filled on every device.
Source: the video predictor of facebookresearch/sam2, held by tests/sam2/test_video_parity.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sam2.building import build, checked_arguments, ready
from sam2.counted import counted
from sam2.model.memory_bank import INFERENCE, TRACKING, MemoryPolicy
from sam2.model.sam2 import SAM2
from sam2.model_config import find_recipe
from sam2.pictures import Picture
from sam2.policies import REFERENCE, Policy, as_policy
from sam2.pretrained import locate
from sam2.reference_state import ReferenceState
from sam2.variants import Variant
from sam2.video_frames import open_frames
from sam2.video_state import FrameMasks, SessionOptions

_log = logging.getLogger(__name__)
_FILLED_HOLES = 8  # pixels of a low-resolution mask, as released
# frame, object ids, mask logits (O, 1, H, W); with scores also {"iou": (O,), "object": (O,)}
Answer = tuple[Any, ...]


class SAM2VideoPredictor(SAM2):
    """A model with the reference's methods for videos.

    Args:
        variant: which model.
        drop_path: stochastic depth of the trunk in training.
        policy: numbers of a tracking step.
        fill_hole_area: holes of at most this many low-resolution pixels are filled; 0: none.
        non_overlap_masks: in the masks given out, a pixel belongs to one object only.
        clear_non_cond_mem_around_input: a prompt makes an object forget its tracked frames nearby.
        add_all_frames_to_correct_as_cond: corrected frames become prompted frames of the memory.

    Raises:
        TypeError: `variant` is none, but for instance its name.
    """

    def __init__(
        self,
        variant: Variant,
        drop_path: float = 0.0,
        policy: MemoryPolicy = INFERENCE,
        *,
        fill_hole_area: int = 0,
        non_overlap_masks: bool = False,
        clear_non_cond_mem_around_input: bool = False,
        add_all_frames_to_correct_as_cond: bool = False,
    ) -> None:
        if not isinstance(variant, Variant):
            raise TypeError(
                f"variant is of type {type(variant).__name__}, expected a Variant; by name it is "
                "build_sam2_video_predictor(config, checkpoint) or SAM2VideoPredictor.from_pretrained(file_or_id)"
            )
        super().__init__(variant, drop_path, policy)
        self.fill_hole_area = fill_hole_area
        self.non_overlap_masks = non_overlap_masks
        self.clear_non_cond_mem_around_input = clear_non_cond_mem_around_input
        self.add_all_frames_to_correct_as_cond = add_all_frames_to_correct_as_cond

    @classmethod
    def from_pretrained(cls, model_id: str | os.PathLike[str], **kwargs: Any) -> SAM2VideoPredictor:
        """A predictor from a weight file, a folder that holds one, a run directory, or a released model's id.

        Args:
            model_id: path, or `facebook/sam2.1-hiera-large` and its sisters (fetched by huggingface_hub).
            kwargs: of `build_sam2_video_predictor` (`device`, ...).
        """
        return build_sam2_video_predictor_hf(model_id, **kwargs)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.no_mem_embed.device

    def init_state(
        self,
        video_path: str | os.PathLike[str] | NDArray[Any] | Tensor | Picture | Iterable[Picture],
        offload_video_to_cpu: bool = False,
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,
        *,
        video_height: int | None = None,
        video_width: int | None = None,
        memory_policy: Policy | str = REFERENCE,
    ) -> ReferenceState:
        """Open a video.

        Args:
            video_path: a video file, a folder of images, an image; (T, H, W, 3) uint8; an iterable of frames; or a
                normalised float tensor (T, 3, S, S) with its `video_height` and `video_width`.
            offload_video_to_cpu: without effect: frames are decoded when needed, and only the one at work is on
                the device.
            offload_state_to_cpu: keep memories and masks in host memory.
            async_loading_frames: without effect: nothing is loaded ahead.
            video_height: of a normalised tensor's video.
            video_width: of a normalised tensor's video.
            memory_policy: what is remembered and looked at, a policy or its name, such as "samurai"; by default the
                reference's way.

        Raises:
            FramesError: there are no frames to be had.
            PolicyError, TypeError: there is no such memory policy.
        """
        policy = as_policy(memory_policy)
        frames = open_frames(video_path, self.image_size, video_height=video_height, video_width=video_width)
        options = SessionOptions(
            fill_hole_area=self.fill_hole_area,
            non_overlap_masks=self.non_overlap_masks,
            clear_non_cond_mem_around_input=self.clear_non_cond_mem_around_input,
            add_all_frames_to_correct_as_cond=self.add_all_frames_to_correct_as_cond,
            offload_state_to_cpu=offload_state_to_cpu,
        )
        return ReferenceState(self, frames, options, policy)

    def add_new_points_or_box(
        self,
        inference_state: ReferenceState,
        frame_idx: int,
        obj_id: Hashable,
        points: ArrayLike | Tensor | None = None,
        labels: ArrayLike | Tensor | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: ArrayLike | Tensor | None = None,
        *,
        return_scores: bool = False,
    ) -> Answer:
        """Click on an object, or draw a box around it; a new id is a new object.

        Args:
            inference_state: from `init_state`.
            frame_idx: index of the frame.
            obj_id: any hashable.
            points: x, y in pixels of the video, (P, 2).
            labels: (P,), 1 on the object, 0 beside it.
            clear_old_points: forget earlier prompts of this object on this frame.
            normalize_coords: coordinates are pixels; False: fractions of the frame's sides.
            box: x1, y1, x2, y2.
            return_scores: give the scores, too.

        Returns:
            Frame, ids of all objects, their mask logits (O, 1, H, W), and with `return_scores` a dict of `iou` and
            `object` (O,), the latter above zero where the object is thought visible.

        Raises:
            PromptError, SessionError: what cannot be meant; the state has not changed.
        """
        found = inference_state.add_points_or_box(
            frame_idx, obj_id, points, labels, box, clear_old=clear_old_points, normalize=normalize_coords
        )
        return _answer(found, return_scores)

    def add_new_points(self, *args: Any, **kwargs: Any) -> Answer:
        """The older name of `add_new_points_or_box`."""
        return self.add_new_points_or_box(*args, **kwargs)

    def add_new_mask(
        self,
        inference_state: ReferenceState,
        frame_idx: int,
        obj_id: Hashable,
        mask: ArrayLike | Tensor,
        *,
        return_scores: bool = False,
    ) -> Answer:
        """Say which pixels (H, W) of a frame an object has; returns what `add_new_points_or_box` does."""
        return _answer(inference_state.add_mask(frame_idx, obj_id, mask), return_scores)

    def propagate_in_video_preflight(self, inference_state: ReferenceState) -> None:
        """Remember what has been prompted; `propagate_in_video` does it by itself."""
        inference_state.prepare()

    def propagate_in_video(
        self,
        inference_state: ReferenceState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
        *,
        return_scores: bool = False,
        progress: bool = True,
    ) -> Iterator[Answer]:
        """Follow all objects through the video.

        Args:
            inference_state: from `init_state`.
            start_frame_idx: by default the first prompted frame.
            max_frame_num_to_track: frames after the first; by default all.
            reverse: go backwards in time.
            return_scores: give the scores, too.
            progress: show a bar on a terminal.

        Yields:
            Per frame what `add_new_points_or_box` returns.

        Raises:
            SessionError: there is no object, or one without a prompt.
        """
        inference_state.prepare()
        order = inference_state.order(start_frame_idx, max_frame_num_to_track, reverse)
        with counted("propagate in video", "frames") if progress else nullcontext(_ignore) as show:
            for done, masks in enumerate(inference_state.follow(order, reverse)):
                show(done, len(order))
                yield _answer(masks, return_scores)

    def clear_all_prompts_in_frame(
        self, inference_state: ReferenceState, frame_idx: int, obj_id: Hashable, need_output: bool = True
    ) -> Answer | None:
        """Forget an object's prompts on a frame; with `need_output`, what the frame looks like then."""
        found = inference_state.clear_prompts(frame_idx, obj_id)
        return _answer(found, False) if need_output else None

    def remove_object(
        self,
        inference_state: ReferenceState,
        obj_id: Hashable,
        strict: bool = False,
        need_output: bool = True,
    ) -> tuple[list[Hashable], list[tuple[int, Tensor]]]:
        """Forget an object.

        Returns:
            The remaining ids, and with `need_output` the frames where it had prompts with the others' masks.

        Raises:
            SessionError: with `strict`, there is no such object.
        """
        if obj_id not in inference_state.objects and not strict:
            return inference_state.object_ids, []
        found = inference_state.remove(obj_id)
        updated = [(masks.frame, masks.logits) for masks in found] if need_output else []
        return inference_state.object_ids, updated

    def reset_state(self, inference_state: ReferenceState) -> None:
        """Forget all objects; the video stays."""
        inference_state.reset()


def build_sam2_video_predictor(
    config: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    **synonyms: Any,
) -> SAM2VideoPredictor:
    """A video predictor; the arguments are those of `build_sam2`, and:

    Args:
        config: see `build_sam2`.
        checkpoint: see `build_sam2`.
        device: see `build_sam2`.
        mode: see `build_sam2`.
        hydra_overrides_extra: also the settings of the video predictor, such as `++model.non_overlap_masks=true`.
        apply_postprocessing: also fills holes of at most 8 low-resolution pixels, on every device.
        vos_optimized: compile the model (torch.compile): minutes at the first frames, faster from then on.
        synonyms: the reference's argument names, `config_file` and `ckpt_path`.
    """
    named = checked_arguments(synonyms, config, checkpoint, mode, hydra_overrides_extra)
    overrides = list(hydra_overrides_extra)
    if apply_postprocessing:
        overrides.insert(0, f"++model.fill_hole_area={_FILLED_HOLES}")
    recipe = find_recipe(named["config"], overrides, apply_postprocessing)
    recipe = replace(recipe, policy=replace(recipe.policy, storage=TRACKING.storage))
    make = partial(SAM2VideoPredictor, **vars(recipe.video))
    model = ready(build(recipe, named["checkpoint"], make), device, mode)
    if vos_optimized:
        model.compile_for_tracking()
        _log.warning("the model is compiled at its first frames: they take about a minute, on a CPU several")
    return model


def build_sam2_video_predictor_hf(model_id: str | os.PathLike[str], **kwargs: Any) -> SAM2VideoPredictor:
    """A video predictor with weights; see `build_sam2_hf`."""
    variant, path = locate(model_id)
    return build_sam2_video_predictor(kwargs.pop("config", variant), path, **kwargs)


def _ignore(done: int, total: int) -> None:
    """Show no progress."""


def _answer(found: FrameMasks, scores: bool) -> Answer:
    answer = (found.frame, found.object_ids, found.logits)
    return (*answer, {"iou": found.ious, "object": found.object_logits}) if scores else answer
