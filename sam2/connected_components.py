"""Connected components of masks in plain torch, on any device: 8 neighbours, many masks at once.

Labels spread by taking the largest of the neighbourhood, roots are hooked onto larger roots and paths are halved, so
the number of rounds grows with the logarithm of a component's length (after FastSV, Zhang, Azad and Hu 2020).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def label(region: Tensor) -> Tensor:
    """Number the components of boolean masks (..., H, W).

    Returns:
        int64 of the same shape: 0 outside, and inside a number of its own (1 to H*W, not consecutive) per component
        of each mask.
    """
    height, width = region.shape[-2:]
    inside = region.reshape(-1, height, width).bool()
    own = torch.arange(1, height * width + 1, device=region.device).view(height, width)
    # entry 0 stands for "outside" and is its own parent, so that labels index their parents directly
    parent = F.pad((own * inside).flatten(1), (1, 0))
    while True:
        highest = _highest_neighbour(parent[:, 1:].view_as(inside)) * inside
        highest = F.pad(highest.flatten(1), (1, 0))
        raised = torch.maximum(parent, highest).scatter_reduce(1, parent, highest, "amax")
        raised = raised.gather(1, raised)
        raised = raised.gather(1, raised)
        if torch.equal(raised, parent):
            return parent[:, 1:].reshape(region.shape)
        parent = raised


def areas(labels: Tensor) -> Tensor:
    """For each pixel the size in pixels of its component in `label`'s answer (..., H, W); 0 outside."""
    flat = labels.reshape(-1, labels.shape[-2] * labels.shape[-1])
    count = flat.new_zeros(flat.shape[0], flat.shape[1] + 1).scatter_add_(1, flat, (flat > 0).long())
    return count.gather(1, flat).reshape(labels.shape)


def overwrite_small(logits: Tensor, region: Tensor, max_area: float, value: float) -> Tensor:
    """`logits` (..., H, W) with `value` wherever a component of `region` has at most `max_area` pixels."""
    size = areas(label(region))
    return torch.where((size > 0) & (size <= max_area), value, logits)


def _highest_neighbour(x: Tensor) -> Tensor:
    """Largest value of the 3x3 neighbourhood in (N, H, W), one axis after the other."""
    x = F.pad(x, (1, 1, 1, 1))
    x = torch.maximum(torch.maximum(x[:, :-2], x[:, 1:-1]), x[:, 2:])
    return torch.maximum(torch.maximum(x[..., :-2], x[..., 1:-1]), x[..., 2:])
