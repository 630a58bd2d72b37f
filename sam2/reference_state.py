"""A session that can be read like the reference's `inference_state`, a dict that callers look into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sam2.video_session import VideoSession
from sam2.video_state import TrackedObject


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


def _outputs(obj: TrackedObject) -> dict[str, dict[int, dict[str, Any]]]:
    """What is remembered of an object, prompted frames and tracked frames apart."""
    found: dict[str, dict[int, dict[str, Any]]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    for frame, (answer, is_prompted) in sorted(obj.answers.items()):
        entry = obj.track.best.memory.get(frame)
        found["cond_frame_outputs" if is_prompted else "non_cond_frame_outputs"][frame] = {
            "maskmem_features": None if entry is None else entry.spatial,
            "pred_masks": answer.low_res,
            "obj_ptr": answer.pointer,
            "object_score_logits": answer.object_logit,
        }
    return found


_VIEWS: dict[str, Callable[[ReferenceState], Any]] = {
    "num_frames": lambda state: len(state.frames),
    "video_height": lambda state: state.frames.size[0],
    "video_width": lambda state: state.frames.size[1],
    "device": lambda state: state.device,
    "images": lambda state: state.frames,
    "obj_ids": lambda state: state.object_ids,
    "obj_id_to_idx": lambda state: {name: k for k, name in enumerate(state.objects)},
    "obj_idx_to_id": lambda state: dict(enumerate(state.objects)),
    "output_dict_per_obj": lambda state: {k: _outputs(obj) for k, obj in enumerate(state.objects.values())},
    "frames_tracked_per_obj": lambda state: {
        k: {frame: {"reverse": reverse} for frame, reverse in obj.tracked.items()}
        for k, obj in enumerate(state.objects.values())
    },
}
