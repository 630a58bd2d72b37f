"""Small layers that several parts of the model share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of a map (B, C, h, w), epsilon 1e-6.

    Not an `nn.LayerNorm`: the reference's weight decay tells the two apart.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled():
            return self._by_definition(x)
        channels_last = x.permute(0, 2, 3, 1)
        normed = F.layer_norm(channels_last, self.weight.shape, self.weight, self.bias, 1e-6)
        return normed.permute(0, 3, 1, 2)

    def _by_definition(self, x: Tensor) -> Tensor:
        """The reference's steps in its order: equal bits keep pixels on their side of a threshold."""
        x = x - x.mean(1, keepdim=True)
        deviation = x.pow(2).mean(1, keepdim=True).add_(1e-6).sqrt_()
        return x.div_(deviation).mul_(self.weight[:, None, None]).add_(self.bias[:, None, None])


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, width: int, hidden: int, out: int, depth: int) -> None:
        super().__init__()
        sizes = [width, *[hidden] * (depth - 1), out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)
