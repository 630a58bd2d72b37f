"""Training steps held to the reference's: its clicks replayed, its losses and gradients met."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from data.clip import ClipBatch
from data.prompts import PromptPlan, PromptPolicy, SimulatedUser, draw_plan
from sam2.model.memory_bank import TRAINING, fitted
from sam2.model.sam2 import SAM2
from sam2.training import unroll as unroll_module
from sam2.training.losses import LossConfig
from sam2.training.unroll import observe_all, training_loss, unroll
from sam2.variants import VARIANTS, resolve
from tests import golden

TERMS = {"mask": "loss_mask", "dice": "loss_dice", "iou": "loss_iou", "object": "loss_class"}


@dataclass
class Replay:
    """Gives the clicks that the reference drew."""

    case: golden.Case

    def start(self, frame):
        points, labels = self._prompts(frame)
        opening = 2 if (labels == 2).any() else 1
        return points[:, :opening], labels[:, :opening]

    def correct(self, frame, click, predicted):
        points, labels = self._prompts(frame)
        at = self.start(frame)[1].shape[1] + click
        return points[:, at : at + 1], labels[:, at : at + 1]

    def _prompts(self, frame):
        points = torch.from_numpy(self.case[f"frame{frame}/points"])
        return points, torch.from_numpy(self.case[f"frame{frame}/labels"]).long()


def _batch(meta):
    frames, masks, owner = [], [], []
    for b, (seed, height, width) in enumerate(meta["videos"]):
        pixels, truth = golden.inputs.video(seed, meta["frames"], height, width)
        frames.append(torch.from_numpy(golden.inputs.model_frames(pixels, meta["size"])))
        truth = golden.inputs.model_masks(truth, meta["size"])[:, meta["objects"][b]]
        masks.append(torch.from_numpy(truth))
        owner += [b] * truth.shape[1]
    masks = torch.cat(masks, dim=1)
    for frame, position in meta["blank"]:
        masks[frame, position] = False
    seeds = torch.zeros(len(owner), dtype=torch.int64)
    return ClipBatch(torch.stack(frames, dim=1), masks, torch.tensor(owner), seeds, 0, ())


def _plan(meta):
    drawn = meta["drawn"]
    return PromptPlan(
        frames=meta["frames"],
        from_masks=not drawn["use_pt_input"],
        first=tuple(drawn["init_cond_frames"]),
        corrected=frozenset(drawn["frames_to_add_correction_pt"]),
        clicks=meta["train_flags"]["num_correction_pt_per_frame"],
    )


def _model(meta):
    variant = resolve(meta["model"]).at(meta["size"])
    model = SAM2(replace(variant, heads=replace(variant.heads, dropout=0.0))).train()
    model.load_state_dict(golden.state_dict(meta["model"], meta["variant"], meta.get("salt", "")))
    return model


@pytest.mark.parametrize(
    "name",
    [
        "train_sam2_t_image",
        "train_sam2.1_t_mask",
        "train_sam2.1_t_points",
    ],
)
def test_losses_and_gradients_equal_the_reference(name, monkeypatch):
    monkeypatch.setattr(
        unroll_module, "normalise", lambda frames: frames
    )  # recorded frames are normalised already
    case = golden.case(name)
    meta, model, config = case.meta, _model(case.meta), LossConfig()
    batch = _batch(meta)

    terms = training_loss(
        model, batch, _plan(meta), Replay(case), TRAINING, config, float(batch.masks.shape[1])
    )
    total = terms.total(config)
    total.backward()

    for term, recorded in TERMS.items():
        assert getattr(terms, term).item() == pytest.approx(float(case[f"loss/{recorded}"]), rel=1e-4)
    assert total.item() == pytest.approx(float(case["loss/core_loss"]), rel=1e-4)
    official = {
        key: p for key, p in zip(model.state_dict(), model.state_dict(keep_vars=True).values(), strict=True)
    }
    grads = {key: p.grad for key, p in official.items()}
    norms = [g.norm() for g in grads.values() if g is not None]
    assert torch.stack(norms).norm().item() == pytest.approx(float(case["grad/total_norm"]), rel=2e-3)
    for key, norm in zip(meta["grad_names"], case["grad/norms"], strict=True):
        found = -1.0 if grads[key] is None else grads[key].norm().item()
        assert found == pytest.approx(float(norm), rel=2e-3), key
        if f"gradhead/{key}" in case:
            head = case[f"gradhead/{key}"]
            close = 2e-3 * grads[key].abs().max().item()
            np.testing.assert_allclose(grads[key].flatten()[: len(head)].numpy(), head, rtol=2e-3, atol=close)
    parameters = dict(model.named_parameters())
    untouched = {key for key, g in grads.items() if g is None and official[key] is not None}
    buffers = {key for key, _ in model.named_buffers()}
    assert parameters and untouched - buffers == set(meta["no_grad_params"])


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    variant = VARIANTS["test"]
    return SAM2(replace(variant, heads=replace(variant.heads, dropout=0.0, object_bias=3.0))).train()


def _random_batch(frames=3, videos=2, owner=(0, 0, 1), size=64):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (frames, videos, 3, size, size), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(frames, len(owner), size, size, dtype=torch.bool)
    for o in range(len(owner)):
        masks[:, o, 5 * o : 5 * o + 20, 10:30] = True
    return ClipBatch(pixels, masks, torch.tensor(owner), torch.arange(len(owner)), 0, ())


def _loss(model, batch, plan, policy=None):
    policy = policy or PromptPolicy(clicks=plan.clicks)
    user = SimulatedUser(plan, policy, batch.masks, batch.object_seeds)
    config, heads = LossConfig(), model.variant.heads
    return training_loss(model, batch, plan, user, fitted(TRAINING, heads), config, 1.0).total(config)


def test_a_batch_of_two_clips_costs_what_the_clips_cost_alone(tiny):
    batch, plan = _random_batch(), PromptPlan(3, False, (0,), corrected=frozenset({0, 2}), clicks=2)
    alone = []
    for b in range(2):
        own = batch.video_of_object == b
        part = ClipBatch(
            batch.frames[:, b : b + 1],
            batch.masks[:, own],
            torch.zeros(int(own.sum()), dtype=torch.int64),
            batch.object_seeds[own],
            0,
            (),
        )
        alone.append(_loss(tiny, part, plan))
    torch.testing.assert_close(_loss(tiny, batch, plan), sum(alone), rtol=1e-5, atol=1e-5)


def test_frames_are_answered_prompted_first_and_corrected_ones_once_a_click(tiny):
    batch, plan = _random_batch(), PromptPlan(3, False, (0, 2), frozenset({0}), frozenset({0, 1}), clicks=4)
    user = SimulatedUser(plan, PromptPolicy(), batch.masks, batch.object_seeds)
    features = observe_all(tiny, batch.frames)
    answers = list(unroll(tiny, features, batch, plan, user, fitted(TRAINING, tiny.variant.heads)))
    assert [(a.frame, len(a.outputs)) for a in answers] == [(0, 5), (2, 1), (1, 5)]


def test_a_frozen_trunk_gets_no_gradient_but_its_decoder_convolutions_do(tiny):
    tiny.image_encoder.requires_grad_(False)
    plan = PromptPlan(3, False, (0,), corrected=frozenset({0}), clicks=1)
    _loss(tiny, _random_batch(), plan).backward()
    assert all(p.grad is None for p in tiny.image_encoder.parameters())
    assert tiny.sam_mask_decoder.conv_s0.weight.grad.abs().sum() > 0
    assert tiny.sam_mask_decoder.conv_s1.weight.grad.abs().sum() > 0


def test_looking_at_frames_in_chunks_changes_nothing(tiny):
    batch = _random_batch()
    whole, parts = observe_all(tiny, batch.frames), observe_all(tiny, batch.frames, chunk=2)
    torch.testing.assert_close(parts.s16, whole.s16, rtol=1e-5, atol=1e-5)
    assert parts.s4.shape == whole.s4.shape


@pytest.mark.parametrize("seed", range(12))
def test_every_drawn_plan_can_be_trained_on(tiny, seed):
    plan = draw_plan(PromptPolicy(clicks=2), seed, step=0, frames=3)
    loss = _loss(tiny, _random_batch(), plan)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in tiny.parameters() if p.grad is not None)
