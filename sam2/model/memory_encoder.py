"""Fuse a frame's map and its mask into the map that later frames remember."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam2.model.layers import LayerNorm2d


class MaskDownsampler(nn.Module):
    """Mask at image size to a stride-16 map: four convolutions of stride 2, four times the channels each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for _ in range(4):
            layers += [
                nn.Conv2d(channels, 4 * channels, 3, stride=2, padding=1),
                LayerNorm2d(4 * channels),
                nn.GELU(),
            ]
            channels *= 4
        self.encoder = nn.Sequential(*layers, nn.Conv2d(channels, width, 1))

    def forward(self, masks: Tensor) -> Tensor:
        return self.encoder(masks)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, inverted bottleneck, layer scale (ConvNeXt, arXiv 2201.03545)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = LayerNorm2d(width)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.gamma * self.pwconv2(self.act(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class Fuser(nn.Module):
    """Two ConvNeXt blocks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConvNeXtBlock(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class MemoryEncoder(nn.Module):
    """Map and mask in, memory map out."""

    def __init__(self, width: int, mem_dim: int) -> None:
        super().__init__()
        self.mask_downsampler = MaskDownsampler(width)
        self.pix_feat_proj = nn.Conv2d(width, width, 1)
        self.fuser = Fuser(width)
        self.out_proj = nn.Conv2d(width, mem_dim, 1) if mem_dim != width else nn.Identity()

    def forward(self, s16: Tensor, masks: Tensor) -> Tensor:
        """Raw map (B or 1, C, h, w) and mask values (B, 1, S, S) in [-10, 10] -> (B, mem_dim, h, w)."""
        return self.out_proj(self.fuser(self.pix_feat_proj(s16) + self.mask_downsampler(masks)))
