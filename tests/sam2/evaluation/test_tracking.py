"""Tracking from first-frame masks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sam2.evaluation.tracking import id_map, track
from sam2.model.memory_bank import Place
from sam2.model.pixels import normalise
from sam2.model.sam2 import SAM2
from sam2.types import MaskPrompt, Memory
from sam2.variants import VARIANTS


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    variant = VARIANTS["test"]
    return SAM2(replace(variant, heads=replace(variant.heads, object_bias=3.0))).eval()


def _clip(frames=9, objects=3):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (frames, 3, 64, 64), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(objects, 64, 64, dtype=torch.bool)
    for o in range(objects):
        masks[o, 15 * o : 15 * o + 20, 5:40] = True
    return pixels, masks


def test_a_bounded_memory_gives_what_an_endless_one_gives(model):
    pixels, masks = _clip()
    bounded = list(track(model, pixels, masks, len(pixels)))
    memory = Memory()
    with torch.no_grad():
        for t, frame in enumerate(pixels):
            seen = model.observe(normalise(frame[None])).expand(3)
            prompt = MaskPrompt(masks[:, None]) if t == 0 else None
            output, memory = model.step(seen, memory, Place(t, len(pixels)), model.policy, prompt)
            # what the objects share is computed once here and for each of them there
            torch.testing.assert_close(bounded[t], output.low_res[:, 0], rtol=1e-5, atol=1e-5)
    assert len(memory) == 9


def test_groups_of_objects_change_nothing(model):
    pixels, masks = _clip()
    together = list(track(model, pixels, masks, len(pixels)))
    apart = list(track(model, pixels, masks, len(pixels), max_objects=2))
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_first_frame_gives_back_the_masks(model):
    pixels, masks = _clip(objects=2)
    masks[1] = torch.roll(masks[0], 25, dims=0)
    first = next(iter(track(model, pixels, masks, len(pixels))))
    ids = id_map(first, torch.tensor([4, 9]), (64, 64))
    found = torch.stack([ids == 4, ids == 9])
    overlap = (found & masks).sum() / (found | masks).sum()
    assert overlap > 0.95


def test_label_maps_give_pixels_to_the_highest_logit_above_zero():
    logits = torch.tensor([[[1.0, -1.0]], [[2.0, -3.0]]])
    assert id_map(logits, torch.tensor([3, 7]), (1, 2)).tolist() == [[7, 0]]
