"""From a conditioned map and prompt tokens to mask candidates, their IoUs and an object score."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.model.attention import Attention
from sam2.model.layers import MLP, LayerNorm2d
from sam2.types import Features
from sam2.variants import Heads

CANDIDATES = 3


class Decoded(NamedTuple):
    """All four mask tokens' answers: masks (B, 4, 4h, 4w), ious (B, 4), tokens (B, 4, C), object_logit (B, 1)."""

    masks: Tensor
    ious: Tensor
    tokens: Tensor
    object_logit: Tensor


class TwoWayBlock(nn.Module):
    """Tokens look at themselves and at the map, then the map looks at the tokens; norms come after."""

    def __init__(self, width: int, heads: int, hidden: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, width // 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, hidden, width, 2)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, width // 2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_code: Tensor, image_code: Tensor, keep: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, C) and map cells (B, h*w, C), each with its position code; `keep` (B, N) of the tokens."""
        if self.first:  # the tokens are their own position code here, and there is no residual
            tokens = self.self_attn(tokens, tokens, tokens, keep)
        else:
            placed = tokens + token_code
            tokens = tokens + self.self_attn(placed, placed, tokens, keep)
        tokens = self.norm1(tokens)
        cells = image + image_code
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_code, cells, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(cells, tokens + token_code, tokens, keep))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Two blocks and a last look of the tokens at the map."""

    def __init__(self, width: int, heads: int, hidden: int, depth: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(width, heads, hidden, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(width, heads, width // 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(
        self, image: Tensor, image_code: Tensor, tokens: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Cells (B, h*w, C), their code (1, h*w, C), tokens (B, N, C) -> tokens, cells."""
        code = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, code, image_code, keep)
        tokens = tokens + self.final_attn_token_to_image(tokens + code, image + image_code, image)
        return self.norm_final_attn(tokens), image


class MaskDecoder(nn.Module):
    """Four mask tokens (one for a settled answer, three for an ambiguous one), IoU and object score."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        width = heads.width
        self.iou_sigmoid = heads.iou_sigmoid
        self.transformer = TwoWayTransformer(width, heads.decoder_heads, heads.decoder_mlp)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(1 + CANDIDATES, width)
        self.obj_score_token = nn.Embedding(1, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, stride=2),
            nn.GELU(),
        )
        self.conv_s0 = nn.Conv2d(width, width // 8, 1)
        self.conv_s1 = nn.Conv2d(width, width // 4, 1)
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(width, width, width // 8, 3) for _ in range(1 + CANDIDATES)
        )
        self.iou_prediction_head = MLP(width, width, 1 + CANDIDATES, 3)
        self.pred_obj_score_head = MLP(width, width, 1, 3)
        if heads.object_bias:
            nn.init.constant_(self.pred_obj_score_head.layers[-1].bias, heads.object_bias)  # type: ignore[arg-type]

    def forward(
        self,
        features: Features,
        image: Tensor,
        image_code: Tensor,
        tokens: Tensor,
        keep: Tensor | None = None,
    ) -> Decoded:
        """Decode B objects.

        Args:
            features: high-resolution maps, (B, ...).
            image: conditioned map plus dense prompt, (B, C, h, w).
            image_code: position code of the cells, (C, h, w).
            tokens: prompt tokens, (B, P, C).
            keep: (B, P), false on prompt tokens that are padding; None: there are none.
        """
        own = torch.cat((self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight))
        queries = torch.cat((own.expand(len(tokens), -1, -1), tokens), dim=1)
        cells = image.flatten(2).transpose(1, 2)
        if keep is not None:
            keep = F.pad(keep, (len(own), 0), value=True)
        answers, cells = self.transformer(cells, image_code.flatten(1).T[None], queries, keep)
        mask_tokens = answers[:, 2 : 3 + CANDIDATES]
        ious = self.iou_prediction_head(answers[:, 1])
        return Decoded(
            masks=self._masks(features, cells.transpose(1, 2).reshape(image.shape), mask_tokens),
            ious=ious.sigmoid() if self.iou_sigmoid else ious,
            tokens=mask_tokens,
            object_logit=self.pred_obj_score_head(answers[:, 0]),
        )

    def _masks(self, features: Features, image: Tensor, mask_tokens: Tensor) -> Tensor:
        up1, norm, act1, up2, act2 = self.output_upscaling
        fine = act1(norm(up1(image) + features.s8))
        fine = act2(up2(fine) + features.s4)
        mixers = [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)]
        return (torch.stack(mixers, dim=1) @ fine.flatten(2)).unflatten(2, fine.shape[-2:])
