"""Pixels as the trunk expects them: ImageNet statistics."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalise(images: Tensor) -> Tensor:
    """RGB images (..., 3, H, W), uint8 or float in [0, 1], to float32 with ImageNet mean and deviation."""
    unit = images.float() / 255 if images.dtype == torch.uint8 else images
    mean, std = _statistics(images.device)
    return (unit - mean) / std


@cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation on a device: uploaded once, because an upload makes the host wait."""
    with torch.inference_mode(False):  # the first call may come from inference, a later one from training
        mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    return mean[:, None, None], std[:, None, None]
