"""Held-out videos: tracked from the masks of their first frame, scored J&F, shared among the ranks.

The objects of a video are those on its first frame: nothing tells a model of any other. Those that come later are
neither predicted nor scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from data.held_out import HeldOutVideo
from sam2.evaluation.baselines import all_foreground, copy_first_mask, everything_foreground
from sam2.evaluation.boundary import Bools
from sam2.evaluation.jf import Scores, score_masks, score_sequence
from sam2.evaluation.overlay import Track
from sam2.evaluation.tracking import id_map, track
from sam2.model.sam2 import SAM2

ByVideo = dict[str, dict[int, Scores]]

BASELINES: dict[str, Callable[[Bools], Bools]] = {
    "copy first mask": copy_first_mask,
    "every pixel": everything_foreground,
    "all foreground": all_foreground,
}


def score_video(model: SAM2, video: HeldOutVideo, max_objects: int) -> dict[int, Scores]:
    """J and F of every object of the first frame on every frame, by the source's object id."""
    places = first_objects(video)
    if not places:
        return {}
    scores = score_sequence(video.truth, predict(model, video, max_objects), [k + 1 for k in places])
    return {video.object_ids[k]: scores[k + 1] for k in places}


def score_baselines(videos: Iterable[HeldOutVideo]) -> dict[str, ByVideo]:
    """What every model must beat, on the same objects."""
    found: dict[str, ByVideo] = {name: {} for name in BASELINES}
    for video in videos:
        places = first_objects(video)
        if not places:
            continue
        truth = masks_of(video.truth, places)
        for name, guess in BASELINES.items():
            j, f = score_masks(truth, guess(truth))
            by_object = {video.object_ids[k]: Scores(j[:, o], f[:, o]) for o, k in enumerate(places)}
            found[name][video.key] = by_object
    return found


def draw(model: SAM2, video: HeldOutVideo, max_objects: int) -> Track:
    """The video at its own size with truth and prediction, for an overlay."""
    places = first_objects(video)
    predicted = np.stack(list(predict(model, video, max_objects)))
    frames = F.interpolate(
        video.frames.float(), video.size, mode="bilinear", align_corners=False, antialias=True
    )
    pixels = frames.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    ids = tuple(video.object_ids[k] for k in places)
    return Track(video.key, pixels, masks_of(video.truth, places), masks_of(predicted, places), ids)


def predict(model: SAM2, video: HeldOutVideo, max_objects: int) -> Iterator[NDArray[np.int32]]:
    """Label maps (H, W) in the numbers of `video.truth`, frame by frame; frame 0 is the prompt's answer."""
    places = first_objects(video)
    numbers = torch.tensor([k + 1 for k in places])
    first = first_masks(video, places, model.image_size)
    was_training = model.training
    model.eval()
    try:
        for logits in track(model, video.frames, first, len(video.frames), max_objects=max_objects):
            yield id_map(logits, numbers, video.size).to(torch.int32).cpu().numpy()
    finally:
        model.train(was_training)


def first_objects(video: HeldOutVideo) -> list[int]:
    """Positions of the objects that are on the first frame."""
    return [int(number) - 1 for number in np.unique(video.truth[0]) if number > 0]


def first_masks(video: HeldOutVideo, places: list[int], size_px: int) -> Tensor:
    """Masks (O, S, S) bool of the first frame, resized as the reference resizes a mask prompt."""
    masks = torch.from_numpy(masks_of(video.truth[:1], places)).float()
    resized = F.interpolate(masks, (size_px, size_px), mode="bilinear", align_corners=False, antialias=True)
    return resized[0] >= 0.5


def masks_of(ids: NDArray[np.integer], places: list[int]) -> Bools:
    """Masks (T, O, H, W) of the objects at `places` in a label map (T, H, W)."""
    return np.stack([ids == k + 1 for k in places], axis=1)


def gather(own: Mapping[str, dict[int, Scores]]) -> ByVideo:
    """The scores of all ranks in one order, every video once, on every rank.

    Raises:
        RuntimeError: two ranks scored the same video.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return dict(sorted(own.items()))
    parts: list[ByVideo] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, dict(own))
    merged: ByVideo = {}
    for part in parts:
        twice = merged.keys() & part.keys()
        if twice:
            raise RuntimeError(f"video {min(twice)} was scored by two ranks")
        merged.update(part)
    return dict(sorted(merged.items()))
