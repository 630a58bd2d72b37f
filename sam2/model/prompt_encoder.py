"""Clicks, boxes and rough masks as tokens and maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.model.layers import LayerNorm2d
from sam2.model.positions import FourierPosition
from sam2.types import Prompt


class PromptEncoder(nn.Module):
    """Sparse tokens for points, a dense map for an earlier mask (SAM, arXiv 2304.02643)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pe_layer = FourierPosition(width)
        # labels 0 background, 1 object, 2 and 3 the corners of a box
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, width, 1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    def forward(self, prompt: Prompt, image_size: int, cells: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Tokens (B, P + 1, C) (none where P is 0) and dense map (B, C, h, w) or (1, C, 1, 1)."""
        return self._tokens(prompt.points, prompt.labels, image_size), self._dense(prompt.mask_logits, cells)

    def _tokens(self, points: Tensor, labels: Tensor, image_size: int) -> Tensor:
        if points.shape[1] == 0:
            return points.new_zeros(points.shape[0], 0, self.no_mask_embed.embedding_dim)
        # one more "not a point": the released weights always saw it
        points, labels = F.pad(points.float(), (0, 0, 0, 1)), F.pad(labels, (0, 1), value=-1)
        code = self.pe_layer((points + 0.5) / image_size)
        kinds = [self.not_a_point_embed.weight, *(kind.weight for kind in self.point_embeddings)]
        table = torch.cat(kinds)  # type: ignore[arg-type]
        return code * (labels >= 0)[..., None] + F.embedding(labels.long() + 1, table)

    def _dense(self, mask_logits: Tensor | None, cells: tuple[int, int]) -> Tensor:
        if mask_logits is None:
            return self.no_mask_embed.weight[:, :, None, None]
        size = (4 * cells[0], 4 * cells[1])
        if mask_logits.shape[-2:] != size:
            mask_logits = F.interpolate(
                mask_logits.float(), size, mode="bilinear", align_corners=False, antialias=True
            )
        return self.mask_downscaling(mask_logits)
