"""The Lightning module: what trains, what is frozen, what is recomputed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from data.clip import ClipBatch
from data.prompts import PromptPlan, PromptPolicy, SimulatedUser
from sam2.checkpoint import CheckpointError, export
from sam2.model.memory_bank import TRAINING, fitted
from sam2.training.config import ModelConfig, RunConfig
from sam2.training.losses import LossConfig
from sam2.training.module import TrainingModule, build_model, freeze
from sam2.training.typed import ConfigError, from_mapping
from sam2.training.unroll import training_loss


def _config(**model):
    values = {
        "data": {"root": "nowhere"},
        "trainer": {"max_steps": 1},
        "model": {"name": "test", **model},
    }
    return from_mapping(RunConfig, values)


def _batch():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, 1, 3, 64, 64), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(3, 2, 64, 64, dtype=torch.bool)
    masks[:, 0, 5:25, 10:30] = masks[:, 1, 40:60, 10:50] = True
    return ClipBatch(pixels, masks, torch.tensor([0, 0]), torch.tensor([1, 2]), 0, ("clip",))


def test_frozen_modules_stay_in_eval_mode_and_keep_their_weights_out_of_training():
    module = TrainingModule(_config(freeze=["image_encoder.trunk"], drop_path=0.5))
    assert not module.model.image_encoder.trunk.training
    assert module.model.image_encoder.neck.training and module.model.memory_attention.training
    trained = {name for name, p in module.model.named_parameters() if p.requires_grad}
    assert not any(name.startswith("image_encoder.trunk.") for name in trained)
    assert "sam_mask_decoder.conv_s0.weight" in trained


def test_single_parameters_can_be_frozen_by_pattern():
    module = TrainingModule(_config(freeze=["*.bias"]))
    for name, parameter in module.model.named_parameters():
        assert parameter.requires_grad != name.endswith(".bias") or name == "no_mem_pos_enc"


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("image_encoder.trnk",), "no module or parameter is called 'image_encoder.trnk'.*memory_attention"),
        (("*",), "nothing"),
    ],
)
def test_freezing_what_is_not_there_or_everything_is_refused(patterns, message):
    with pytest.raises(ConfigError, match=message):
        freeze(build_model(ModelConfig(name="test")), patterns)


def test_weights_to_start_from_are_loaded(tmp_path):
    torch.manual_seed(1)
    start = build_model(ModelConfig(name="test"))
    export(start, tmp_path / "start.pt")
    module = TrainingModule(_config(checkpoint=str(tmp_path / "start.pt")))
    for key, value in start.state_dict().items():
        assert torch.equal(module.model.state_dict()[key], value)


def test_weights_of_another_model_are_refused(tmp_path):
    export(build_model(ModelConfig(name="test_2.0")), tmp_path / "old.pt")
    with pytest.raises(CheckpointError, match="old.pt"):
        TrainingModule(_config(checkpoint=str(tmp_path / "old.pt")))


def _gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    batch, plan = _batch(), PromptPlan(3, False, (0,), corrected=frozenset({0}), clicks=2)
    user = SimulatedUser(plan, PromptPolicy(), batch.masks, batch.object_seeds)
    torch.manual_seed(0)
    policy, config = fitted(TRAINING, model.variant.heads), LossConfig()
    training_loss(model, batch, plan, user, policy, config, 2.0).total(config).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("how", ["light", "full"])
def test_recomputing_activations_changes_no_gradient(how):
    settings = ModelConfig(name="test", drop_path=0.2)
    torch.manual_seed(0)
    plain = build_model(settings).train()
    frugal = build_model(replace(settings, recompute=how)).train()
    frugal.load_state_dict(plain.state_dict())
    expected, actual = _gradients(plain), _gradients(frugal)
    assert expected.keys() == actual.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-4, atol=1e-5)
