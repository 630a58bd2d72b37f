"""Position codes: where a cell, a click, a pointer or a remembered token sits.

All are closed forms computed in float32, whatever autocast says: a bfloat16 coordinate is off by pixels.
Source: SAM 2 (arXiv 2408.00714), DETR (sine), SAM (random Fourier), RoFormer (rotary, here over two axes).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sine_2d(channels: int, height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sine code of every cell of a map, (channels, height, width); half the channels say y, then x."""
    half = channels // 2
    index = torch.arange(half, device=device)
    wavelength = 10_000.0 ** (2 * (index // 2) / half)

    def axis(count: int) -> Tensor:
        place = (
            torch.arange(1, count + 1, device=device, dtype=torch.float32) / (count + 1e-6) * (2 * math.pi)
        )
        angle = place[:, None] / wavelength
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=-1).flatten(1)

    y = axis(height)[:, None, :].expand(height, width, half)
    x = axis(width)[None, :, :].expand(height, width, half)
    return torch.cat((y, x), dim=-1).permute(2, 0, 1).contiguous()


def sine_1d(position: Tensor, channels: int) -> Tensor:
    """Sine code of scalars (N,) as (N, channels): all sines, then all cosines."""
    half = channels // 2
    wavelength = 10_000.0 ** (2 * (torch.arange(half, device=position.device) // 2) / half)
    angle = position.float()[:, None] / wavelength
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def rotary_table(
    channels: int, height: int, width: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines (height * width, channels / 2) that turn adjacent channel pairs: first x, then y."""
    frequency = 10_000.0 ** -(torch.arange(0, channels, 4, device=device, dtype=torch.float32) / channels)
    cell = torch.arange(height * width, device=device)
    x = (cell % width).float()[:, None] * frequency
    y = torch.div(cell, width, rounding_mode="floor").float()[:, None] * frequency
    angle = torch.cat((x, y), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, table: tuple[Tensor, Tensor], untouched: int = 0) -> Tensor:
    """Turn tokens (B, N, C) by a rotary table, all but the last `untouched`; may write into x.

    Those that are turned may be several maps one after another, all turned alike.
    """
    if x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return _rotate_in_place(x.float(), table, untouched).to(x.dtype)
    cos, sin = table
    placed = x.shape[1] - untouched
    maps = x[:, :placed].unflatten(1, (-1, cos.shape[0])).float()
    even, odd = maps.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    turned = turned.flatten(-2).flatten(1, 2).to(x.dtype)
    return torch.cat((turned, x[:, placed:]), dim=1) if untouched else turned


def _rotate_in_place(x: Tensor, table: tuple[Tensor, Tensor], untouched: int) -> Tensor:
    """The same products in one pass over the tokens; compilers of GPU code cannot fuse complex numbers."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))[:, : x.shape[1] - untouched]
    pairs.unflatten(1, (-1, len(table[0]))).mul_(torch.complex(*table))
    return x


class FourierPosition(nn.Module):
    """Random Fourier code of points in the unit square, shared by clicks and the dense grid."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, channels // 2))

    def forward(self, unit_xy: Tensor) -> Tensor:
        """Code (..., channels) of points (..., 2) given as x, y in [0, 1]."""
        # without autocast, which would round the coordinates to bfloat16
        with torch.autocast(unit_xy.device.type, enabled=False):
            angle = (
                2 * math.pi * ((2 * unit_xy.float() - 1) @ self.positional_encoding_gaussian_matrix.float())
            )
        return torch.cat((angle.sin(), angle.cos()), dim=-1)

    def grid(self, height: int, width: int) -> Tensor:
        """Code (channels, height, width) of the cell centres of a map."""
        device = self.positional_encoding_gaussian_matrix.device
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        xy = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)
        return self.forward(xy).permute(2, 0, 1)
