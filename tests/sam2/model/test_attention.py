"""Block-wise attention with dropout against the plain formula, and the late value projection."""

from __future__ import annotations

import pytest
import torch

from sam2.model import attention
from sam2.model.attention import RotaryAttention, attend, dropout_attention
from sam2.model.positions import rotary_table, rotate


def _plain(q, k, v, keep, dropout):
    weights = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1)
    return (weights * keep / (1 - dropout)) @ v


@pytest.mark.parametrize("block", [7, 1 << 20])
def test_dropout_attention_and_its_gradients_equal_the_plain_formula(monkeypatch, block):
    monkeypatch.setattr(attention, "_BLOCK_ELEMENTS", block)
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(2, n, c, dtype=torch.float64, requires_grad=True) for n, c in ((5, 8), (6, 8), (6, 3))
    )
    dropout = 16384 / 65536  # representable, so that the scale is exact

    torch.manual_seed(1)
    out = dropout_attention(q, k, v, dropout)
    torch.manual_seed(1)
    seed = int(torch.randint(1 << 62, ()))
    generator = torch.Generator().manual_seed(seed)
    rows = attention._blocks(q, k)
    keep = torch.cat(
        [attention._keep((2, len(range(*r.indices(5))), 6), 16384, generator) for r in rows], dim=1
    )
    expected = _plain(q, k, v, keep, dropout)

    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
    grad = torch.randn_like(out)
    found = torch.autograd.grad(out, (q, k, v), grad)
    wanted = torch.autograd.grad(expected, (q, k, v), grad)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_dropout_keeps_the_asked_fraction_of_the_weights():
    keep = attention._keep((4, 500, 501), round(0.1 * 65536), torch.Generator().manual_seed(0))
    assert keep.float().mean().item() == pytest.approx(0.9, abs=2e-3)


def test_seeded_dropout_repeats():
    q, k, v = torch.randn(1, 4, 8), torch.randn(1, 9, 8), torch.randn(1, 9, 8)
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(dropout_attention(q, k, v, 0.5))
    assert torch.equal(*results)


def test_projecting_values_after_attention_changes_nothing():
    torch.manual_seed(0)
    layer = RotaryAttention(32, dropout=0.0, source_width=8).double()
    q, k, v = torch.randn(2, 6, 32).double(), torch.randn(2, 14, 8).double(), torch.randn(2, 14, 8).double()
    table = rotary_table(32, 2, 3)
    turned = layer.k_proj(k)
    turned = torch.cat((rotate(turned[:, :12], table), turned[:, 12:]), dim=1)
    expected = layer.out_proj(attend(rotate(layer.q_proj(q), table), turned, layer.v_proj(v), 0.0))

    torch.testing.assert_close(layer(q, k, v, table, untouched=2), expected, rtol=1e-6, atol=1e-6)


def test_rotation_depends_on_the_distance_of_cells_only():
    cos, sin = rotary_table(16, 5, 5)
    a, b = torch.randn(16), torch.randn(16)
    tokens_a, tokens_b = (rotate(x.expand(1, 25, 16), (cos, sin))[0] for x in (a, b))
    # cell (row 1, column 1) to (3, 2) is as far as (0, 2) to (2, 3)
    first = tokens_a[6] @ tokens_b[17]
    second = tokens_a[2] @ tokens_b[13]
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
