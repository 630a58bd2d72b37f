"""Masks of all objects of a frame as one palette image, in the colours of DAVIS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sam2.palette import HIGHEST_ID, PALETTE


def label_map(logits: Tensor, object_ids: Sequence[int]) -> NDArray[np.integer]:
    """Object ids by pixel (H, W), 0 where there is none; of several objects the one with the highest logit.

    Args:
        logits: (O, H, W), above zero on the object.
        object_ids: from 1, one an object.

    Returns:
        uint8, or int32 if an id is above 255.
    """
    best, which = logits.max(dim=0)
    kind = torch.uint8 if max(object_ids) <= HIGHEST_ID else torch.int32
    ids = torch.tensor(object_ids, dtype=kind, device=logits.device)
    labels: NDArray[np.integer] = torch.where(best > 0, ids[which], 0).cpu().numpy()
    return labels


def write_label_map(path: Path, labels: NDArray[np.integer]) -> None:
    """Write object ids (H, W), 0 to 255, as a palette PNG in the colours of DAVIS; its folder is made."""
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(PALETTE)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="PNG")


def read_label_map(path: Path) -> NDArray[np.uint8]:
    """Object ids (H, W) as `write_label_map` wrote them."""
    with Image.open(path) as image:
        return np.array(image)
