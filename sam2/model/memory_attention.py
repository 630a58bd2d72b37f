"""What the frame looks like in the light of the remembered past: self-attention, then attention to the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from sam2.model.attention import RotaryAttention
from sam2.model.positions import rotary_table
from sam2.variants import Heads


class Recalled(NamedTuple):
    """Tokens of remembered maps, then of pointers: values and position codes (B, N, mem_dim).

    `keep` (B, N) is false on padding; None: there is none.
    """

    tokens: Tensor
    code: Tensor
    pointer_tokens: int
    keep: Tensor | None = None

    def to(self, dtype: torch.dtype) -> Recalled:
        """In the dtype that is computed in; memories may be stored in a smaller one."""
        return self._replace(tokens=self.tokens.to(dtype), code=self.code.to(dtype))


class MemoryAttentionLayer(nn.Module):
    """Pre-norm layer: rotary self-attention, rotary cross-attention to the memory, feed-forward."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        width = heads.width
        self.self_attn = RotaryAttention(width, heads.dropout)
        self.cross_attn_image = RotaryAttention(width, heads.dropout, heads.mem_dim)
        self.linear1 = nn.Linear(width, heads.memory_mlp)
        self.linear2 = nn.Linear(heads.memory_mlp, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(heads.dropout)

    def forward(self, x: Tensor, memory: Recalled, table: tuple[Tensor, Tensor]) -> Tensor:
        """Cells x (B or 1, h*w, C), one for each row of the memory or one for all -> (B, h*w, C)."""
        return self.recall(self.look(x, table), memory, table)

    def look(self, x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        """The part that no memory has a share in: self-attention."""
        y = self.norm1(x)
        return x + self.dropout(self.self_attn(y, y, y, table))

    def recall(self, x: Tensor, memory: Recalled, table: tuple[Tensor, Tensor]) -> Tensor:
        """The rest: attention to the memory, feed-forward."""
        keys = memory.tokens + memory.code
        y = self.cross_attn_image(
            self.norm2(x), keys, memory.tokens, table, memory.pointer_tokens, memory.keep
        )
        x = x + self.dropout(y)
        y = self.linear2(self.dropout(self.linear1(self.norm3(x)).relu_()))
        return x + self.dropout(y)


class MemoryAttention(nn.Module):
    """A stack of memory-attention layers over the stride-16 map."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MemoryAttentionLayer(heads) for _ in range(heads.memory_layers))
        self.norm = nn.LayerNorm(heads.width)
        self.recompute = False

    def forward(
        self, s16: Tensor, position: Tensor, memory: Recalled, looked: Tensor | None = None
    ) -> Tensor:
        """Raw map (B or 1, C, h, w) with its sine code (1, C, h, w) -> conditioned map (B, C, h, w).

        `looked` is what `look` said of the same map.
        """
        height, width = s16.shape[-2:]
        x = (s16 + 0.1 * position).flatten(2).transpose(1, 2) if looked is None else looked
        table = rotary_table(s16.shape[1], height, width, s16.device)
        for number, layer in enumerate(self.layers):
            run: Callable[..., Tensor] = layer if number or looked is None else self._first.recall
            if self.recompute and torch.is_grad_enabled():
                x = torch.utils.checkpoint.checkpoint(run, x, memory, table, use_reentrant=False)
            else:
                x = run(x, memory, table)
        return self.norm(x).transpose(1, 2).unflatten(2, (height, width))

    @property
    def _first(self) -> MemoryAttentionLayer:
        return cast(MemoryAttentionLayer, self.layers[0])

    def look(self, s16: Tensor, position: Tensor) -> Tensor:
        """Cells (B, h*w, C) as they are when they first meet a memory: the objects of a frame share them."""
        table = rotary_table(s16.shape[1], s16.shape[2], s16.shape[3], s16.device)
        return self._first.look((s16 + 0.1 * position).flatten(2).transpose(1, 2), table)
