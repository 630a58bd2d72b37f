"""How low-resolution logits become the masks that are shown: small holes filled, enlarged to the size of the video."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sam2.connected_components import overwrite_small

FILLED = 0.1  # logit of a filled hole, as released


def filled(low_res: Tensor, max_area: int) -> Tensor:
    """Logits (..., h, w) without holes of at most `max_area` pixels; 0 fills none."""
    return overwrite_small(low_res, low_res <= 0, max_area, FILLED) if max_area > 0 else low_res


def enlarged(low_res: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (B, M, h, w) at height and width `size`, bilinear."""
    if low_res.shape[-2:] == size:
        return low_res
    return F.interpolate(low_res, size, mode="bilinear", align_corners=False)
