"""Feature pyramid neck: four trunk maps in, three maps of one width out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sam2.model import trunk as trunks


class Neck(nn.Module):
    """1x1 convolutions; only the stride-16 map also receives the coarser one (nearest, in float32)."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        # convs.0 is the deepest level, as in the official files
        self.convs = nn.ModuleList(
            nn.Sequential(OrderedDict(conv=nn.Conv2d(count, width, 1))) for count in reversed(channels)
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Trunk maps at strides 4, 8, 16, 32 -> (F, C, ...) at strides 4, 8, 16."""
        s32, s16, s8, s4 = (conv(x) for conv, x in zip(self.convs, reversed(maps), strict=True))
        s16 = s16 + F.interpolate(s32.float(), scale_factor=2.0, mode="nearest").to(s16.dtype)
        return s4, s8, s16


class ImageEncoder(nn.Module):
    """Trunk and neck."""

    def __init__(self, trunk: nn.Module, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = Neck(trunks.channels(trunk), width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images (F, 3, S, S) -> maps (F, C, ...) at strides 4, 8, 16."""
        return self.neck(trunks.maps(self.trunk, images))
