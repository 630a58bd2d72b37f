"""A session that can be read like the reference's `inference_state`, a dict that callers look into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import index as whole_number
from typing import Any, NoReturn

import torch
from torch import Tensor

from sam2.model.pixels import normalise
from sam2.types import Output
from sam2.video_frames import NormalisedFrames
from sam2.video_session import VideoSession
from sam2.video_state import Frames, TrackedObject

_CHANGES = "add_new_points_or_box, add_new_mask, clear_all_prompts_in_frame, remove_object or reset_state"
_METHODS = {
    **dict.fromkeys(
        ("images", "num_frames", "video_height", "video_width"), "init_state with the other video"
    ),
    **dict.fromkeys(("obj_ids", "obj_id_to_idx", "obj_idx_to_id"), "add_new_points_or_box or remove_object"),
    "point_inputs_per_obj": "add_new_points_or_box or clear_all_prompts_in_frame",
    "mask_inputs_per_obj": "add_new_mask or clear_all_prompts_in_frame",
    **dict.fromkeys(
        ("device", "storage_device"), "predictor.to(device) and init_state(offload_state_to_cpu=...)"
    ),
    **dict.fromkeys(("offload_video_to_cpu", "offload_state_to_cpu"), "the argument of init_state"),
}


class ReferenceState(VideoSession, Mapping[str, Any]):
    """`state["num_frames"]` and its sisters, made when asked for; changing them changes nothing."""

    def __getitem__(self, key: str) -> Any:
        if key not in _VIEWS:
            raise KeyError(f"the state has no {key!r}; it has {', '.join(_VIEWS)}")
        return _VIEWS[key](self)

    def __iter__(self) -> Iterator[str]:
        return iter(_VIEWS)

    def __len__(self) -> int:
        return len(_VIEWS)

    def __setitem__(self, key: str, value: object) -> NoReturn:
        raise TypeError(f"state[{key!r}] can be read only; to change it use {_METHODS.get(key, _CHANGES)}")

    def __delitem__(self, key: str) -> NoReturn:
        raise TypeError(f"state[{key!r}] cannot be deleted; to change it use {_METHODS.get(key, _CHANGES)}")


class NormalisedImages:
    """The frames as the reference's `images` has them, float32 (3, S, S) after ImageNet normalisation.

    Each is made when it is asked for, on the device of the decoded frames (the host), and not kept.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[frame] for frame in range(len(self)))

    def __getitem__(self, frame: int | slice) -> Tensor:
        """One frame, also counted from the end; of a slice all frames at once, (T, 3, S, S)."""
        if isinstance(frame, slice):
            chosen = [self[i] for i in range(*frame.indices(len(self)))]
            return torch.stack(chosen) if chosen else self[0].new_empty(0, *self[0].shape)
        number = whole_number(frame)
        pixels = self._frames[number + len(self) if number < 0 else number]
        return normalise(pixels) if pixels.dtype == torch.uint8 else pixels


def _per_object(state: ReferenceState, view: Callable[[TrackedObject], Any]) -> dict[int, Any]:
    return {k: view(obj) for k, obj in enumerate(state.objects.values())}


def _output(answer: Output, memory: Tensor | None) -> dict[str, Any]:
    return {
        "maskmem_features": memory,
        "pred_masks": answer.low_res,
        "obj_ptr": answer.pointer,
        "object_score_logits": answer.object_logit,
    }


def _by_kind() -> dict[str, dict[int, Any]]:
    return {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}


def _outputs(obj: TrackedObject) -> dict[str, dict[int, Any]]:
    """What is remembered of an object, prompted frames and tracked frames apart."""
    found = _by_kind()
    for frame, (answer, is_prompted) in sorted(obj.answers.items()):
        entry = obj.track.best.memory.get(frame)
        kind = "cond_frame_outputs" if is_prompted else "non_cond_frame_outputs"
        found[kind][frame] = _output(answer, None if entry is None else entry.spatial)
    return found


def _pending(obj: TrackedObject) -> dict[str, dict[int, Any]]:
    """Answers to prompts that are remembered only when tracking starts."""
    found = _by_kind()
    for frame, (answer, is_prompted) in sorted(obj.pending.items()):
        found["cond_frame_outputs" if is_prompted else "non_cond_frame_outputs"][frame] = _output(
            answer, None
        )
    return found


def _clicks(obj: TrackedObject) -> dict[int, dict[str, Tensor]]:
    """Clicks by frame in model pixels; a box is two of them, labelled 2 and 3."""
    return {
        frame: {"point_coords": prompt.points, "point_labels": prompt.labels.to(torch.int32)}
        for frame, prompt in sorted(obj.prompts.items())
    }


def _seen(state: ReferenceState) -> dict[int, tuple[Tensor, dict[str, Any]]]:
    """The last few frames, (1, 3, S, S), with what the trunk and neck made of them."""
    images = NormalisedImages(state.frames)
    return {
        frame: (
            images[frame].to(state.device)[None],
            {"vision_features": seen.s16, "backbone_fpn": [seen.s4, seen.s8, seen.s16]},
        )
        for frame, seen in state.cached_features.items()
    }


def _is_on_host(frames: Frames) -> bool:
    """Decoded frames are; normalised ones are where their owner put them."""
    return not isinstance(frames, NormalisedFrames) or frames[0].device.type == "cpu"


_VIEWS: dict[str, Callable[[ReferenceState], Any]] = {
    "images": lambda state: NormalisedImages(state.frames),
    "num_frames": lambda state: len(state.frames),
    "offload_video_to_cpu": lambda state: _is_on_host(state.frames),
    "offload_state_to_cpu": lambda state: state.options.offload_state_to_cpu,
    "video_height": lambda state: state.frames.size[0],
    "video_width": lambda state: state.frames.size[1],
    "device": lambda state: state.device,
    "storage_device": lambda state: state.tracker.store or state.device,
    "point_inputs_per_obj": lambda state: _per_object(state, _clicks),
    "mask_inputs_per_obj": lambda state: _per_object(
        state, lambda obj: {frame: mask.float() for frame, mask in sorted(obj.masks.items())}
    ),
    "cached_features": _seen,
    "constants": lambda state: {},  # what the reference copies to each frame's device; nothing here
    "obj_id_to_idx": lambda state: {name: k for k, name in enumerate(state.objects)},
    "obj_idx_to_id": lambda state: dict(enumerate(state.objects)),
    "obj_ids": lambda state: state.object_ids,
    "output_dict_per_obj": lambda state: _per_object(state, _outputs),
    "temp_output_dict_per_obj": lambda state: _per_object(state, _pending),
    "frames_tracked_per_obj": lambda state: _per_object(
        state, lambda obj: {frame: {"reverse": reverse} for frame, reverse in obj.tracked.items()}
    ),
}
