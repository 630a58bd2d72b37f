"""The wrapped timm trunk."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from timm.models.hieradet_sam2 import HieraDet
from torch import nn

from sam2.model.trunk import build_trunk, maps
from sam2.variants import resolve


@pytest.fixture
def trunk() -> nn.Module:
    torch.manual_seed(0)
    model = build_trunk(resolve("test").trunk).eval()
    nn.init.normal_(model.pos_embed)
    nn.init.normal_(model.pos_embed_window)
    return model


def changed_in_place(model: nn.Module) -> None:
    with torch.no_grad():
        model.pos_embed.mul_(2)


def loaded(model: nn.Module) -> None:
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})


def cast(model: nn.Module) -> None:
    model.double()


def trained(model: nn.Module) -> None:
    with torch.enable_grad():
        maps(model, torch.rand(2, 3, 64, 64))[0].sum().backward()
    torch.optim.AdamW(model.parameters(), lr=0.1, fused=True).step()


@pytest.mark.parametrize("change", [changed_in_place, loaded, cast, trained])
def test_kept_position_codes_follow_their_weights(trunk, change):
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = maps(trunk, images)[0]
        change(trunk)
        images = images.to(trunk.pos_embed.dtype)
        kept = maps(trunk, images)[0]
    made_anew = maps(trunk, images)[0]
    torch.testing.assert_close(kept, made_anew, rtol=0, atol=0)
    assert not torch.equal(kept, before.to(kept.dtype))


def test_kept_position_codes_follow_the_size_and_are_timm_s(trunk):
    for size in (64, 128, 96, 64):
        images = torch.rand(1, 3, size, size)
        with torch.inference_mode():
            embedded = trunk.patch_embed(images)
            assert torch.equal(trunk._pos_embed(embedded), HieraDet._pos_embed(trunk, embedded))


def test_copies_of_a_trunk_keep_codes_of_their_own(trunk):
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = maps(trunk, images)[0]
        for other in (copy.deepcopy(trunk), pickle.loads(pickle.dumps(trunk))):
            changed_in_place(other)
            assert not torch.equal(maps(other, images)[0], expected)
        assert torch.equal(maps(trunk, images)[0], expected)
