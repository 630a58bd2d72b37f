from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from sam2.model.sam2 import SAM2
from sam2.training.optim import (
    OptimConfig,
    Override,
    build_optimizer,
    continued,
    height,
    parameter_groups,
)
from sam2.variants import resolve
from tests import golden

RELEASED = OptimConfig()
DEAD = {
    "no_mem_pos_enc"
}  # in the official files, used by nothing and frozen here; the reference's never gets a gradient


def on_meta(name: str) -> SAM2:
    with torch.device("meta"):
        return SAM2(resolve(name))


@pytest.fixture(scope="module")
def base_plus() -> SAM2:
    return on_meta("sam2.1_b+")


@pytest.fixture
def small() -> SAM2:
    return on_meta("test")


def official(name: str) -> str:
    """The name of a live parameter in the official file."""
    if name.startswith("image_encoder.trunk."):
        return name.replace("mlp.fc1.", "mlp.layers.0.").replace("mlp.fc2.", "mlp.layers.1.")
    return name


def settings(groups: list[dict]) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter."""
    return {n: (group["lr"], group["weight_decay"]) for group in groups for n in group["param_names"]}


@pytest.mark.parametrize("progress", ["0.0", "0.25", "0.5", "0.9"])
def test_every_parameter_learns_as_in_the_reference(base_plus, progress):
    recorded = golden.optim_groups()
    config = OptimConfig(
        lr=recorded["base_lr"], trunk_lr=recorded["vision_lr"], layer_decay=recorded["layer_decay"]
    )
    groups = parameter_groups(base_plus, config)
    ours = {official(name): setting for name, setting in settings(groups).items()}
    expected = recorded["at_where"][progress]
    assert len(groups) == recorded["num_groups"]
    for name in set(expected) - DEAD:
        lr, decay = expected[name]
        assert ours[name][0] * height(float(progress), config) == pytest.approx(lr, rel=1e-9), name
        assert ours[name][1] == decay, name


def test_the_references_optimiser_covers_all_parameters(base_plus):
    names = {official(name) for name, _ in base_plus.named_parameters()}
    assert names == set(golden.optim_groups()["at_where"]["0.0"])


def test_adamw_is_set_up_as_in_the_reference(small):
    recorded = golden.optim_groups()["adamw_defaults"]
    optimizer, _ = build_optimizer(small, RELEASED, 10)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {key: optimizer.defaults[key] for key in recorded} == {
        **recorded,
        "betas": tuple(recorded["betas"]),
    }


def test_no_parameter_is_in_two_groups_or_in_none(base_plus):
    grouped = [p for group in parameter_groups(base_plus, RELEASED) for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(base_plus.parameters())) - len(DEAD)


def test_frozen_parameters_are_left_out_and_the_others_learn_as_before(base_plus):
    before = settings(parameter_groups(base_plus, RELEASED))
    frozen = [
        p for i in (0, 1, 23) for p in base_plus.image_encoder.trunk.get_submodule(f"blocks.{i}").parameters()
    ]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        after = settings(parameter_groups(base_plus, RELEASED))
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    assert len(after) == len(before) - len(frozen)
    assert after.items() <= before.items()


def test_without_its_own_rate_the_trunk_learns_as_the_heads_do(small):
    rates = settings(parameter_groups(small, OptimConfig(lr=1e-3, trunk_lr=None, layer_decay=1.0)))
    assert {lr for lr, _ in rates.values()} == {1e-3}


def test_overrides_reach_the_parameters_they_name_and_the_last_one_wins(small):
    before = settings(parameter_groups(small, RELEASED))
    overrides = {
        "memory_attention.*": Override(lr=1e-2),
        "memory_attention.norm.*": Override(lr=2e-2, weight_decay=0.5),
        "no_obj_ptr": Override(weight_decay=0.0),
    }
    after = settings(parameter_groups(small, OptimConfig(overrides=overrides)))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {n for n in before if n.startswith("memory_attention.")} | {"no_obj_ptr"}
    assert after["memory_attention.norm.weight"] == after["memory_attention.norm.bias"] == (2e-2, 0.5)
    assert after["memory_attention.layers.0.linear1.bias"] == (1e-2, 0.0)
    assert after["no_obj_ptr"] == (RELEASED.lr, 0.0)


def test_an_override_of_nothing_is_refused(small):
    config = OptimConfig(overrides={"memory_atention.*": Override(lr=1.0)})
    with pytest.raises(
        ValueError, match=r"no parameter is called 'memory_atention\.\*'.*memory_attention\.\*"
    ):
        parameter_groups(small, config)


class OtherTrunk(nn.Module):
    """A model whose trunk has stages of blocks, or none, as other timm models do."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.image_encoder = nn.Module()
        self.image_encoder.trunk = trunk


def test_blocks_of_staged_trunks_are_numbered_through():
    trunk = nn.Module()
    trunk.stages = nn.ModuleList()
    for _ in range(2):
        stage = nn.Module()
        stage.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(12))
        trunk.stages.append(stage)
    rates = settings(parameter_groups(OtherTrunk(trunk), OptimConfig(trunk_lr=1.0, layer_decay=0.5)))
    for stage, block in [(0, 0), (0, 2), (0, 11), (1, 0), (1, 11)]:
        depth = 12 * stage + block + 1
        assert rates[f"image_encoder.trunk.stages.{stage}.blocks.{block}.weight"][0] == 0.5 ** (25 - depth)


def test_layer_decay_of_a_trunk_without_blocks_is_refused():
    model = OtherTrunk(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="optim.layer_decay needs a trunk of blocks.*set it to 1"):
        parameter_groups(model, RELEASED)
    assert parameter_groups(model, OptimConfig(layer_decay=1.0))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (OptimConfig(), {0: 1, 0.5: 0.55, 1: 0.1}),
        (OptimConfig(final=0.0, warmup=0.2), {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 0.5, 1: 0}),
        (OptimConfig(schedule="constant", warmup=0.5), {0: 0, 0.25: 0.5, 0.5: 1, 1: 1}),
        (OptimConfig(schedule="linear-tail", tail=0.4, final=0.5), {0: 1, 0.6: 1, 0.8: 0.75, 1: 0.5}),
        (OptimConfig(schedule="linear-tail", tail=0.0), {0: 1, 1: 1}),
        (OptimConfig(warmup=1.0), {0: 0, 0.5: 0.5, 1: 0.1}),
    ],
)
def test_schedules_pass_through_known_points(config, expected):
    assert {x: height(x, config) for x in expected} == pytest.approx(expected)
    assert height(1.5, config) == height(1.0, config)


def steps(optimizer, schedule, count: int) -> list[float]:
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_a_resumed_schedule_continues_exactly():
    model, config = (
        OtherTrunk(nn.Linear(2, 2)),
        OptimConfig(lr=1.0, layer_decay=1.0, trunk_lr=None, warmup=0.1),
    )
    whole = steps(*build_optimizer(model, config, 20), 20)
    optimizer, schedule = build_optimizer(model, config, 20)
    first = steps(optimizer, schedule, 7)
    state = optimizer.state_dict(), schedule.state_dict()
    optimizer, schedule = build_optimizer(model, config, 20)
    optimizer.load_state_dict(state[0])
    schedule.load_state_dict(state[1])
    assert first + steps(optimizer, schedule, 13) == whole
    assert whole[11] == pytest.approx(0.55)  # half way down after the warm-up


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": -1.0}, "optim.lr is -1.0"),
        ({"overrides": {"x": Override(lr=-1.0)}}, "optim.overrides.x.lr"),
        ({"warmup": 2.0}, "optim.warmup is 2.0; it must be between 0 and 1"),
        ({"schedule": "cosin"}, "choose cosine, constant or linear-tail"),
        ({"schedule": "linear-tail", "warmup": 0.9}, "more than the whole run"),
    ],
)
def test_impossible_settings_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        OptimConfig(**given)


def test_a_run_of_unknown_length_has_no_schedule():
    with pytest.raises(ValueError, match="max_steps=-1"):
        build_optimizer(OtherTrunk(nn.Linear(2, 2)), OptimConfig(layer_decay=1.0), -1)


def stepped(model: nn.Module, config: OptimConfig, steps: int) -> tuple[dict, dict]:
    """States of an optimiser and its schedule after some steps; every parameter's gradient is its own number."""
    optimizer, schedule = build_optimizer(model, config, 10)
    for _ in range(steps):
        for number, parameter in enumerate(model.parameters()):
            if parameter.requires_grad:
                parameter.grad = torch.full_like(parameter, number + 1.0)
        optimizer.step()
        schedule.step()
    return optimizer.state_dict(), schedule.state_dict()


def test_continuing_with_the_same_settings_changes_no_state():
    model, config = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), OptimConfig(layer_decay=1, warmup=0.2)
    saved = stepped(model, config, 3)
    found = continued(*saved, model, config, 10)
    assert found[0] == saved[0] or str(found[0]) == str(saved[0])
    assert found[1] == saved[1]


def test_moments_follow_their_parameter_when_others_are_frozen_or_set_free():
    model, config = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), OptimConfig(layer_decay=1, lr=1e-3)
    model[0].requires_grad_(False)
    saved = stepped(model, config, 3)
    model.requires_grad_(True)
    model[1].bias.requires_grad_(False)
    optimizer, schedule = build_optimizer(model, replace(config, lr=5e-4), 10)
    state, progress = continued(*saved, model, replace(config, lr=5e-4), 10)
    optimizer.load_state_dict(state)
    schedule.load_state_dict(progress)
    assert float(optimizer.state[model[1].weight]["exp_avg"][0, 0]) == pytest.approx(3 * (1 - 0.9**3))
    assert model[0].weight not in optimizer.state and model[1].bias not in optimizer.state
    expected = 5e-4 * height(0.3, config)
    assert [group["lr"] for group in optimizer.param_groups] == [expected] * len(optimizer.param_groups)
    assert schedule.get_last_lr() == [expected] * len(optimizer.param_groups)
