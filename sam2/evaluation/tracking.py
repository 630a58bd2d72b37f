"""Follow objects through a video from the masks of its first frame: semi-supervised video object segmentation.

The model's four verbs in a loop, with a memory that does not grow: what no later frame can recall is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2.model.memory_bank import MemoryPolicy, Place, forget
from sam2.model.pixels import normalise
from sam2.model.sam2 import SAM2
from sam2.types import MaskPrompt, Memory


@torch.inference_mode()
def track(
    model: SAM2,
    frames: Iterable[Tensor],
    first_masks: Tensor,
    length: int,
    policy: MemoryPolicy | None = None,
    max_objects: int = 16,
) -> Iterator[Tensor]:
    """Logits of every object on every frame, (O, 4h, 4w) float32 on the model's device.

    Args:
        model: in eval mode.
        frames: RGB uint8 (3, S, S) each, at model size; taken one at a time.
        first_masks: (O, S, S) bool, the objects on the first frame.
        length: number of frames; pointers of short videos are placed by it.
        policy: how the past is used; by default the model's own.
        max_objects: objects that go through the model together; bounds memory, changes nothing else.
    """
    if policy is None:
        policy = model.policy
    device = model.no_mem_embed.device
    groups = [part.to(device)[:, None] for part in first_masks.split(max_objects)]
    memories = [Memory() for _ in groups]
    for t, frame in enumerate(frames):
        features = model.observe(normalise(frame.to(device, non_blocking=True)[None]))
        logits = []
        for i, masks in enumerate(groups):
            prompt = MaskPrompt(masks) if t == 0 else None
            seen, place = features.expand(len(masks)), Place(t, length)
            output, memory = model.step(seen, memories[i], place, policy, prompt)
            memories[i] = forget(memory, t + 1, policy)
            logits.append(output.low_res[:, 0])
        yield torch.cat(logits).float()


def id_map(logits: Tensor, object_ids: Tensor, size: tuple[int, int]) -> Tensor:
    """One label map (H, W) int64 from the logits (O, h, w) of all objects; the highest above zero wins.

    Logits are enlarged bilinearly to `size` before they are compared; 0 is background.
    """
    enlarged = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    highest, winner = enlarged.max(dim=0)
    return torch.where(highest > 0, object_ids.to(logits.device)[winner], 0)
