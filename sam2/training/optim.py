"""AdamW with layer decay, and its schedule.

Who learns how fast is decided by parameter names and module types alone; the released recipe's answer for every
parameter is held by tests/sam2/training/test_optim.py (facebookresearch/sam2 2b90b9f, training/optimizer.py). Layer
decay gives early trunk blocks a smaller rate: they are general already.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from timm.layers import LayerNorm2d as TimmLayerNorm2d
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

_ENCODER, _TRUNK = "image_encoder.", "image_encoder.trunk."
_BLOCK = re.compile(r"^(.*?\bblocks\.\d+)\.")  # the name of a trunk block, in any timm model


@dataclass(frozen=True)
class Override:
    """Other values for parameters of some name; null leaves what they would have had."""

    lr: float | None = None
    weight_decay: float | None = None


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser and its schedule; the defaults are the released fine-tuning recipe's.

    Attributes:
        lr: learning rate at its height.
        trunk_lr: learning rate of the image encoder (trunk and neck); null: `lr`.
        layer_decay: each trunk block learns at this times the rate of the next one; 1 is off.
        weight_decay: of all but biases and LayerNorm weights.
        betas: decay of AdamW's two averages.
        eps: AdamW's.
        schedule: after the warm-up: `cosine` down to `final`, `constant`, or `linear-tail`, which is constant and
            then falls in a line to `final`.
        final: last learning rate as a fraction of the height.
        warmup: fraction of the run in which the rate rises in a line from 0.
        tail: fraction of the run in which `linear-tail` falls.
        overrides: by patterns of parameter names, such as `memory_attention.*`; a later one wins.
    """

    lr: float = 5e-6
    trunk_lr: float | None = 3e-6
    layer_decay: float = 0.9
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Literal["cosine", "constant", "linear-tail"] = "cosine"
    final: float = 0.1
    warmup: float = 0.0
    tail: float = 0.2
    overrides: dict[str, Override] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rates = {"lr": self.lr, "trunk_lr": self.trunk_lr, "weight_decay": self.weight_decay}
        rates |= {f"overrides.{name}.lr": override.lr for name, override in self.overrides.items()}
        for name, value in rates.items():
            if value is not None and not value >= 0:
                raise ValueError(f"optim.{name} is {value}; it must be 0 or more")
        for name in ("layer_decay", "final", "warmup", "tail"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"optim.{name} is {getattr(self, name)}; it must be between 0 and 1")
        if self.schedule not in ("cosine", "constant", "linear-tail"):
            raise ValueError(f"optim.schedule is {self.schedule!r}; choose cosine, constant or linear-tail")
        if self.schedule == "linear-tail" and self.warmup + self.tail > 1:
            raise ValueError(
                f"optim.warmup {self.warmup} and optim.tail {self.tail} are more than the whole run"
            )


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """AdamW's groups: parameters that learn alike, with `params`, `param_names`, `lr`, `weight_decay` and `name`.

    Args:
        model: a SAM 2; its parameters have the official names. Frozen ones are left out.
        config: rates and decay.

    Raises:
        ValueError: an override matches no parameter, or layer decay meets a trunk without blocks.
    """
    _check_overrides(model, config)
    groups: dict[tuple[str, float, float], dict[str, Any]] = {}
    blocks = _blocks(model)
    if config.layer_decay < 1 and not blocks:
        raise ValueError("optim.layer_decay needs a trunk of blocks and this one has none; set it to 1")
    undecayed = set(_undecayed(model))
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        place, lr = _rate(name, config, blocks)
        decay = 0.0 if name in undecayed else config.weight_decay
        for pattern, override in config.overrides.items():
            if fnmatchcase(name, pattern):
                place = pattern
                lr = lr if override.lr is None else override.lr
                decay = decay if override.weight_decay is None else override.weight_decay
        kind = "" if decay else " (no decay)"
        new = {"params": [], "param_names": [], "lr": lr, "weight_decay": decay, "name": place + kind}
        group = groups.setdefault((place, lr, decay), new)
        group["params"].append(parameter)
        group["param_names"].append(name)
    return list(groups.values())


def build_optimizer(model: nn.Module, config: OptimConfig, max_steps: int) -> tuple[Optimizer, LambdaLR]:
    """AdamW over the trainable parameters, and its schedule, to be stepped after every optimiser step."""
    if max_steps < 1:
        raise ValueError(f"a schedule needs a run of known length, got max_steps={max_steps}")
    optimizer = AdamW(parameter_groups(model, config), betas=config.betas, eps=config.eps, fused=True)
    return optimizer, LambdaLR(optimizer, lambda step: height(step / max_steps, config))


def continued(
    saved: Mapping[str, Any],
    schedule: Mapping[str, Any],
    model: nn.Module,
    config: OptimConfig,
    max_steps: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The states to continue with: the moments and the step of a checkpoint, every setting of this start.

    torch's own loading would take up the checkpoint's learning rates too, so that a changed `optim.lr` did nothing.
    Moments follow their parameter's name, whatever its group is now; one that was frozen begins without.

    Args:
        saved: state of the optimiser in the checkpoint.
        schedule: state of its schedule.
        model: what is optimised.
        config: settings of this start.
        max_steps: length of the run.
    """
    optimizer, renewed = build_optimizer(model, config, max_steps)
    moments = {
        name: saved["state"][number]
        for group in saved["param_groups"]
        for number, name in zip(group["params"], group["param_names"], strict=True)
        if number in saved["state"]
    }
    scale = height(schedule["last_epoch"] / max_steps, config)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["lr"] = group["initial_lr"] * scale
    numbered = {
        number: name
        for group in state["param_groups"]
        for number, name in zip(group["params"], group["param_names"], strict=True)
    }
    state["state"] = {number: moments[name] for number, name in numbered.items() if name in moments}
    rates = [group["lr"] for group in state["param_groups"]]
    kept = {key: schedule[key] for key in ("last_epoch", "_step_count")}
    return state, {**renewed.state_dict(), **kept, "_last_lr": rates}


def height(progress: float, config: OptimConfig) -> float:
    """Learning rate as a fraction of its height, at `progress` in [0, 1] through the run. Nothing else decides it."""
    progress = min(max(progress, 0.0), 1.0)
    if progress < config.warmup:
        return progress / config.warmup
    if config.schedule == "cosine":
        after = (progress - config.warmup) / (1 - config.warmup) if config.warmup < 1 else 1.0
        return config.final + (1 - config.final) * (1 + math.cos(math.pi * after)) / 2
    if config.schedule == "linear-tail" and config.tail > 0:
        fallen = max(0.0, 1 - (1 - progress) / config.tail)
        return 1 - (1 - config.final) * fallen
    return 1.0


def _rate(name: str, config: OptimConfig, blocks: dict[str, int]) -> tuple[str, float]:
    """Where a parameter belongs, and its learning rate: heads, neck, or a depth of the trunk."""
    if not name.startswith(_ENCODER):
        return "heads", config.lr
    lr = config.lr if config.trunk_lr is None else config.trunk_lr
    if not name.startswith(_TRUNK):
        return "neck", lr
    inside = name.removeprefix(_TRUNK)
    block = _BLOCK.match(inside)
    if block is None and "patch_embed" not in inside:
        return "trunk", lr  # position embeddings: the reference exempts them from layer decay
    depth = blocks[block[1]] + 1 if block else 0
    return f"trunk layer {depth}", lr * config.layer_decay ** (len(blocks) + 1 - depth)


def _blocks(model: nn.Module) -> dict[str, int]:
    """The trunk's blocks by name, numbered from the image upwards; frozen ones count."""
    inside = (name.removeprefix(_TRUNK) for name, _ in model.named_parameters() if name.startswith(_TRUNK))
    names = {match[1] for match in map(_BLOCK.match, inside) if match}
    return {
        name: i for i, name in enumerate(sorted(names, key=lambda n: [int(x) for x in re.findall(r"\d+", n)]))
    }


def _undecayed(model: nn.Module) -> Iterator[str]:
    """Names of biases, and of the weights of LayerNorm; those of two-dimensional ones are decayed."""
    for prefix, module in model.named_modules():
        is_norm = isinstance(module, nn.LayerNorm) and not isinstance(module, TimmLayerNorm2d)
        for leaf, _ in module.named_parameters(prefix, recurse=False):
            if is_norm or "bias" in leaf:
                yield leaf


def _check_overrides(model: nn.Module, config: OptimConfig) -> None:
    names = [name for name, _ in model.named_parameters()]
    for pattern in config.overrides:
        if not any(fnmatchcase(name, pattern) for name in names):
            parts = ", ".join(f"{name}.*" for name, _ in model.named_children())
            raise ValueError(f"optim.overrides: no parameter is called {pattern!r}; the parts are {parts}")
