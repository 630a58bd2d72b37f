"""Held-out videos: tracked from the masks of their first frame, scored J&F, shared among the ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray

from data.alive import alive
from data.held_out import HeldOutVideo
from sam2.evaluation.baselines import all_foreground, copy_first_mask, everything_foreground
from sam2.evaluation.benchmark_run import Follower
from sam2.evaluation.boundary import Bools
from sam2.evaluation.following import Start, follow
from sam2.evaluation.jf import Scores, score_masks, score_sequence
from sam2.evaluation.label_maps import label_map
from sam2.evaluation.overlay import Track
from sam2.model.sam2 import SAM2
from sam2.policies import REFERENCE, Policy

ByVideo = dict[str, dict[int, Scores]]

BASELINES: dict[str, Callable[[Bools], Bools]] = {
    "copy first mask": copy_first_mask,
    "every pixel": everything_foreground,
    "all foreground": all_foreground,
}


def score_video(
    model: SAM2, video: HeldOutVideo, max_objects: int, policy: Policy = REFERENCE
) -> dict[int, Scores]:
    """J and F of every object on every frame, by the source's object id."""
    numbers = range(1, 1 + len(video.object_ids))
    scores = score_sequence(video.truth, predict(model, video, max_objects, policy), numbers)
    return {object_id: scores[k] for k, object_id in zip(numbers, video.object_ids, strict=True)}


def score_baselines(videos: Iterable[HeldOutVideo]) -> dict[str, ByVideo]:
    """What every model must beat, on the same objects."""
    found: dict[str, ByVideo] = {name: {} for name in BASELINES}
    for video in videos:
        alive(f"scoring baselines on video {video.key}")
        for name, guess in BASELINES.items():
            j, f = score_masks(video.masks, guess(video.masks))
            found[name][video.key] = {i: Scores(j[:, o], f[:, o]) for o, i in enumerate(video.object_ids)}
    return found


def draw(model: SAM2, video: HeldOutVideo, max_objects: int, policy: Policy = REFERENCE) -> Track:
    """The video at its own size with truth and prediction, for an overlay."""
    numbers = np.arange(1, 1 + len(video.object_ids))[:, None, None]
    predicted = np.stack(list(predict(model, video, max_objects, policy)))[:, None] == numbers
    frames = F.interpolate(video.frames.float(), video.size, mode="bilinear", antialias=True)
    pixels = frames.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return Track(video.key, pixels, video.masks, predicted, video.object_ids)


def predict(
    model: SAM2, video: HeldOutVideo, max_objects: int, policy: Policy = REFERENCE
) -> Iterator[NDArray[np.integer]]:
    """Label maps (H, W) in the numbers of `video.truth`, frame by frame; the first is the answer to the prompt."""
    follower = Follower(model, policy=policy, max_rows=max_objects)
    modes = {module: module.training for module in model.modules()}  # frozen parts have one of their own
    model.eval()
    try:
        for shown in follow(follower.session(video), starts_of(video)):
            alive(f"tracking held-out video {video.key}")
            yield label_map(shown.logits[:, 0], range(1, 1 + len(video.object_ids)))
    finally:
        for module, mode in modes.items():
            module.training = mode


def starts_of(video: HeldOutVideo) -> list[Start]:
    """All objects on the first frame, in the numbers of `video.truth`."""
    return [Start(number, 0, mask) for number, mask in enumerate(video.masks[0], 1)]


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
