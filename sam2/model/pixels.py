"""Pixels as the trunk expects them: ImageNet statistics."""

from __future__ import annotations

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalise(images: Tensor) -> Tensor:
    """RGB images (..., 3, H, W), uint8 or float in [0, 1], to float32 with ImageNet mean and deviation."""
    unit = images.float() / 255 if images.dtype == torch.uint8 else images
    mean = torch.tensor(MEAN, device=images.device)[:, None, None]
    std = torch.tensor(STD, device=images.device)[:, None, None]
    return (unit - mean) / std
