"""Where masks are, as a few numbers on the host: bounding boxes and areas.

Computed on the device; whoever asks pays one transfer for a whole batch of objects (`policy.Scores.extents`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Extent(NamedTuple):
    """Bounding box and area of a mask, in its pixels: columns `left` to `right`, both included; empty: area 0."""

    left: float
    top: float
    right: float
    bottom: float
    area: float

    @property
    def is_empty(self) -> bool:
        """Whether there is no mask."""
        return self.area <= 0

    @property
    def box_area(self) -> float:
        """Pixels in the box."""
        return 0.0 if self.is_empty else (self.right - self.left + 1) * (self.bottom - self.top + 1)

    def around(self, other: Extent) -> Extent:
        """The box around both; its area is that of the box."""
        if self.is_empty or other.is_empty:
            return self if other.is_empty else other
        box = (
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )
        return Extent(*box, (box[2] - box[0] + 1) * (box[3] - box[1] + 1))

    def iou(self, other: Extent) -> float:
        """Intersection over union of the boxes; 0 where one is empty."""
        if self.is_empty or other.is_empty:
            return 0.0
        width = min(self.right, other.right) - max(self.left, other.left) + 1
        height = min(self.bottom, other.bottom) - max(self.top, other.top) + 1
        shared = max(width, 0.0) * max(height, 0.0)
        return shared / (self.box_area + other.box_area - shared)


EMPTY = Extent(0, 0, 0, 0, 0)


def extents(logits: Tensor) -> Tensor:
    """Numbers (..., 5) of the masks `logits > 0` (..., H, W) in the order of `Extent`; nothing is fetched."""
    masks = logits > 0
    columns, rows = masks.any(dim=-2), masks.any(dim=-1)
    area = masks.flatten(-2).sum(dim=-1)
    return torch.stack((*_first_and_last(columns, rows), area), dim=-1).float()


def fetched(numbers: Tensor) -> list[list[Extent]]:
    """Extents on the host from numbers (B, M, 5)."""
    return [[Extent(*mask) for mask in row] for row in numbers.tolist()]


def _first_and_last(columns: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, top, right and bottom of masks from which columns (..., W) and rows (..., H) they touch."""
    left, top = (touched.long().argmax(dim=-1) for touched in (columns, rows))
    right, bottom = (t.shape[-1] - 1 - t.flip(-1).long().argmax(dim=-1) for t in (columns, rows))
    return left, top, right, bottom
