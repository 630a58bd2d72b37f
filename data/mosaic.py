"""The 2x2 mosaic: four small copies of a clip side by side, of which one holds the objects.

The others are distractors that look alike. As the reference's `RandomMosaicVideoAPI`, which its recipes do not use.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mosaic:
    """Which of the four cells (row by row) holds the objects, and which cells are mirrored."""

    cell: int
    mirrored: tuple[bool, bool, bool, bool]

    def frames(self, small: Tensor) -> Tensor:
        """(T, 3, S, S) -> (T, 3, 2 S, 2 S)."""
        cells = [small.flip(-1) if mirror else small for mirror in self.mirrored]
        return torch.cat([torch.cat(cells[row : row + 2], -1) for row in (0, 2)], -2)

    def masks(self, small: Tensor) -> Tensor:
        """(T, O, S, S) -> (T, O, 2 S, 2 S), nothing in the other cells."""
        side = small.shape[-1]
        result = torch.zeros(*small.shape[:-2], 2 * side, 2 * side, dtype=small.dtype)
        row, column = divmod(self.cell, 2)
        inside = small.flip(-1) if self.mirrored[self.cell] else small
        result[..., row * side : (row + 1) * side, column * side : (column + 1) * side] = inside
        return result
