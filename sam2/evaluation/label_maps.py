"""Masks of all objects of a frame as one palette image, in the colours of DAVIS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sam2.palette import PALETTE


def label_map(logits: Tensor, object_ids: Sequence[int]) -> NDArray[np.uint8]:
    """Object ids by pixel (H, W), 0 where there is none; of several objects the one with the highest logit.

    Args:
        logits: (O, H, W), above zero on the object.
        object_ids: 1 to 255, one an object.
    """
    best, which = logits.max(dim=0)
    ids = torch.tensor(object_ids, dtype=torch.uint8, device=logits.device)
    return torch.where(best > 0, ids[which], 0).cpu().numpy()


def write_label_map(path: Path, labels: NDArray[np.uint8]) -> None:
    """Write object ids (H, W) as a palette PNG in the colours of DAVIS, in a folder that may not exist yet."""
    image = Image.fromarray(labels)
    image.putpalette(PALETTE)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="PNG")


def read_label_map(path: Path) -> NDArray[np.uint8]:
    """Object ids (H, W) as `write_label_map` wrote them."""
    with Image.open(path) as image:
        return np.array(image)
