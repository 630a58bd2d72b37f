"""Follow objects through a video from the masks of its first frame: semi-supervised video object segmentation.

The tracker in a loop, under any memory policy, with a memory that does not grow: what no later frame can look at is
dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2.model.memory_bank import Place
from sam2.model.pixels import normalise
from sam2.model.sam2 import SAM2
from sam2.policies.policy import REFERENCE, Policy
from sam2.tracker import Tracker
from sam2.types import Features, MaskPrompt, Output


@torch.inference_mode()
def track(
    model: SAM2,
    frames: Iterable[Tensor],
    first_masks: Tensor,
    length: int,
    policy: Policy = REFERENCE,
    max_objects: int = 16,
) -> Iterator[Tensor]:
    """Logits of every object on every frame, (O, 4h, 4w) float32 on the model's device.

    Args:
        model: in eval mode.
        frames: RGB uint8 (3, S, S) each, at model size; taken one at a time.
        first_masks: (O, S, S) bool, the objects on the first frame.
        length: number of frames; pointers of short videos are placed by it.
        policy: what is remembered and looked at.
        max_objects: objects that go through the model together; bounds memory, changes nothing else.
    """
    device, tracker = model.no_mem_embed.device, Tracker(model, policy, max_objects)
    tracks = [tracker.begin() for _ in first_masks]
    for t, frame in enumerate(frames):
        features = model.observe(normalise(frame.to(device, non_blocking=True)[None]))
        place = Place(t, length)
        if t == 0:
            answers = _first_answers(tracker, features, first_masks.to(device), place)
            tracks = tracker.commit(features, tracks, answers, place, [True] * len(tracks))
        else:
            found = tracker.advance(features, tracks, place)
            answers, tracks = [answer for answer, _ in found], [followed for _, followed in found]
        tracks = [tracker.forget(followed, place) for followed in tracks]
        yield torch.cat([answer.low_res[:, 0] for answer in answers]).float()


def id_map(logits: Tensor, object_ids: Tensor, size: tuple[int, int]) -> Tensor:
    """One label map (H, W) int64 from the logits (O, h, w) of all objects; the highest above zero wins.

    Logits are enlarged bilinearly to `size` before they are compared; 0 is background.
    """
    enlarged = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    highest, winner = enlarged.max(dim=0)
    return torch.where(highest > 0, object_ids.to(logits.device)[winner], 0)


def _first_answers(tracker: Tracker, features: Features, masks: Tensor, place: Place) -> list[Output]:
    """The given masks (O, S, S) as answers, batches of one."""
    answers = []
    for part in masks[:, None].split(tracker.rows_on(masks.device)):
        asked = features.expand(len(part))
        output = tracker.ask(asked, tracker.begin(), place, MaskPrompt(part), first=True)
        answers += [output.pick(slice(k, k + 1)) for k in range(len(part))]
    return answers
