"""Attention layers: plain multi-head for the mask decoder, rotary single-head for the memory.

Where dropout acts on the attention weights, the CPU has no fused kernel: `dropout_attention` walks over blocks of
queries and recomputes them in the backward pass, so that no (queries x keys) matrix is ever stored. Numbers of both
ways: benchmarks/RESULTS.md.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.model.positions import rotate

_BLOCK_ELEMENTS = 1 << 20
_INFERENCE_BLOCK_ELEMENTS = 1 << 22


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the token width."""

    def __init__(self, width: int, heads: int, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or width
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens q (B, Nq, C), k and v (B, Nk, C) -> (B, Nq, C); `keep` (B, Nk) is false on padding."""
        out = F.scaled_dot_product_attention(
            self._split(self.q_proj(q)),
            self._split(self.k_proj(k)),
            self._split(self.v_proj(v)),
            attn_mask=None if keep is None else keep[:, None, None],
        )
        return self.out_proj(out.transpose(1, 2).flatten(2))


class RotaryAttention(nn.Module):
    """Single-head attention with rotary positions on queries and keys.

    Keys and values may be narrower than the queries (`source_width`): then, where it pays off, the weights are applied
    to the narrow values and the value projection comes after, which is the same sum for a quarter of the work.
    """

    def __init__(self, width: int, dropout: float, source_width: int | None = None) -> None:
        super().__init__()
        source_width = source_width or width
        self.dropout = dropout
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(source_width, width)
        self.v_proj = nn.Linear(source_width, width)
        self.out_proj = nn.Linear(width, width)
        self.is_narrow = source_width < width

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        table: tuple[Tensor, Tensor],
        untouched: int = 0,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Attend from q (B or 1, Nq, C) to k, v (B, Nk, Cs).

        The last `untouched` keys (pointers) are not turned; `keep` (B, Nk) is false on padding.
        """
        query = rotate(self.q_proj(q), table).expand(len(k), -1, -1)
        key = rotate(self.k_proj(k), table, untouched)
        dropout = self.dropout if self.training else 0.0
        if not self._projects_late(query, dropout, keep):
            return self.out_proj(attend(query, key, self.v_proj(v), dropout, keep))
        if dropout == 0.0:  # every row of weights sums to 1, so the bias comes out as it should
            return self.out_proj(self.v_proj(attend(query, key, v, dropout)))
        # a column of ones carries the row sums, which dropout moves away from 1, to the projection's bias
        ones = v.new_ones(*v.shape[:-1], 1)
        weighted = attend(query, key, torch.cat((v, ones), dim=-1), dropout)
        weight = torch.cat((self.v_proj.weight, self.v_proj.bias[:, None]), dim=1)
        return self.out_proj(F.linear(weighted, weight))

    def _projects_late(self, query: Tensor, dropout: float, keep: Tensor | None) -> bool:
        """Whether narrow values pay off: fused kernels want them as wide as the keys."""
        is_ours = query.device.type == "cpu" and keep is None
        return self.is_narrow and is_ours and (dropout > 0.0 or not torch.is_grad_enabled())


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float, keep: Tensor | None = None) -> Tensor:
    """Attention of one head: q (B, Nq, C), k (B, Nk, C), v (B, Nk, Cv) -> (B, Nq, Cv)."""
    if q.device.type == "cpu" and keep is None:
        if dropout > 0.0:
            return dropout_attention(q, k, v, dropout)
        if not torch.is_grad_enabled():
            return blockwise_attention(q, k, v)
    mask = None if keep is None else keep[:, None, None]
    out = F.scaled_dot_product_attention(
        q[:, None], k[:, None], v[:, None], attn_mask=mask, dropout_p=dropout
    )
    return out[:, 0]


def blockwise_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`attend` for inference on a CPU: plain products over blocks of queries.

    A third faster than the fused kernel in float32, twice as fast in bfloat16, and it takes values narrower than the
    keys. At most 16 MiB of weights exist at a time.
    """
    k, v = k.to(q.dtype), v.to(q.dtype)
    out = q.new_empty(*q.shape[:-1], v.shape[-1])
    rows = min(q.shape[1], max(1, _INFERENCE_BLOCK_ELEMENTS // k.shape[1]))
    scores = q.new_empty(rows, k.shape[1])
    weights = scores.new_empty(scores.shape, dtype=torch.float32)
    scaled = q * q.shape[-1] ** -0.5
    for b in range(len(q)):
        for asked, answered in zip(scaled[b].split(rows), out[b].split(rows), strict=True):
            product = torch.mm(asked, k[b].T, out=scores[: len(asked)])
            shares = torch.softmax(product, -1, dtype=torch.float32, out=weights[: len(asked)])
            torch.mm(shares.to(v.dtype), v[b], out=answered)
    return out


def dropout_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """`attend` with dropout on the weights, in memory linear in the number of tokens.

    The dropped weights are a function of one number drawn from torch's generator, so that a seeded run repeats.
    """
    seed = int(torch.randint(1 << 62, ()))
    return _DropoutAttention.apply(q, k.to(q.dtype), v.to(q.dtype), dropout, seed)


def _keep(shape: tuple[int, ...], threshold: int, generator: torch.Generator) -> Tensor:
    """Random mask, true with probability (65536 - threshold) / 65536; four values a 64-bit draw."""
    count = shape[0] * shape[1] * shape[2]
    low, high = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(low, high, generator=generator)
    return (draws.view(torch.int16)[:count] >= threshold - 32768).view(shape)


class _DropoutAttention(torch.autograd.Function):
    """Softmax attention by blocks of queries; the backward pass draws the same dropout mask again."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float, seed: int) -> Tensor:
        ctx.threshold, ctx.seed = round(dropout * 65536), seed
        out = torch.empty(*q.shape[:-1], v.shape[-1], dtype=v.dtype)
        generator = torch.Generator().manual_seed(seed)
        scale = 65536 / (65536 - ctx.threshold)
        for rows in _blocks(q, k):
            weights = _weights(q[:, rows], k)
            weights *= _keep(tuple(weights.shape), ctx.threshold, generator)
            out[:, rows] = torch.bmm(weights.to(v.dtype), v).mul_(scale)
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_out,) = grads
        q, k, v, out = ctx.saved_tensors
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        generator = torch.Generator().manual_seed(ctx.seed)
        scale, norm = 65536 / (65536 - ctx.threshold), q.shape[-1] ** -0.5
        for rows in _blocks(q, k):
            go = grad_out[:, rows]
            weights = _weights(q[:, rows], k)
            keep = _keep(tuple(weights.shape), ctx.threshold, generator)
            grad_w = torch.bmm(go, v.transpose(1, 2)).float().mul_(scale).mul_(keep)
            grad_v.baddbmm_((weights * keep).to(v.dtype).transpose(1, 2), go, alpha=scale)
            inner = (go * out[:, rows]).sum(-1, keepdim=True, dtype=torch.float32)
            grad_s = grad_w.sub_(inner).mul_(weights).mul_(norm).to(q.dtype)
            grad_q[:, rows] = torch.bmm(grad_s, k)
            grad_k.baddbmm_(grad_s.transpose(1, 2), q[:, rows])
        return grad_q, grad_k, grad_v, None, None


def _blocks(q: Tensor, k: Tensor) -> list[slice]:
    """Blocks of queries small enough that a block's weights stay in the cache."""
    rows = max(1, _BLOCK_ELEMENTS // (q.shape[0] * k.shape[1]))
    return [slice(start, start + rows) for start in range(0, q.shape[1], rows)]


def _weights(q: Tensor, k: Tensor) -> Tensor:
    return torch.bmm(q, k.transpose(1, 2)).float().mul_(q.shape[-1] ** -0.5).softmax(dim=-1)
