"""All settings of a run, typed. Recipes, groups in `configs/` and the command line fill these dataclasses.

The parts that belong to a module (`DataConfig`, `PromptPolicy`, `LossConfig`, `OptimConfig`) live there. Nothing past
`resolve` sees YAML or a DictConfig.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data.module import DataConfig
from data.prompts import PromptPolicy
from sam2.policies import Policy
from sam2.slurm.profile import Cluster
from sam2.training.decisive import digest_of_settings, is_incidental
from sam2.training.launcher_config import LauncherConfig
from sam2.training.losses import LossConfig
from sam2.training.optim import OptimConfig
from sam2.training.synthetic import SyntheticData, roots
from sam2.training.trainer_config import TrainerConfig
from sam2.training.typed import ConfigError, Plugin, flatten, from_mapping, require_positive, to_plain
from sam2.variants import UnknownVariantError, Variant, configured
from sam2.variants import resolve as resolve_variant

MISSING = "???"  # Hydra's word for a setting that must be given


@dataclass(frozen=True)
class ModelConfig:
    """Which model, from which weights, and what of it trains.

    Attributes:
        name: a variant, ours (`sam2.1_b+`) or the official configuration name.
        image_size: pixels; null: the variant's own (1024).
        checkpoint: weights of the whole model to start from: official, Lightning or HF file.
        trunk: weights of the trunk alone to start from: a timm or MAE Hiera file.
        freeze: modules that keep their weights; names or patterns such as `image_encoder.trunk`, `*.norm*`.
        drop_path: stochastic depth of the trunk, rising linearly to this rate.
        mem_dim: channels of a remembered map; null: the variant's own (64). Trained anew: no file of another number
            fits.
        memory_slots: prompted and recent frames that are attended to; null: the variant's own (7). Trained anew, too.
        recompute: what is computed again in the backward pass instead of kept: `light` is the memory attention and
            the finest stages of the trunk (two thirds of the memory, a fifth more time), `full` the whole trunk as
            well.
    """

    name: str = "sam2.1_b+"
    image_size: int | None = None
    checkpoint: Path | None = None
    trunk: Path | None = None
    freeze: tuple[str, ...] = ()
    drop_path: float = 0.0
    mem_dim: int | None = None
    memory_slots: int | None = None
    recompute: Literal["none", "light", "full"] = "none"

    def __post_init__(self) -> None:
        try:
            resolve_variant(self.name)
        except UnknownVariantError as error:
            raise ValueError(f"model.name: {error}") from error
        if self.image_size is not None and (self.image_size < 32 or self.image_size % 32):
            raise ValueError(f"model.image_size is {self.image_size}; it must be a multiple of 32")
        try:
            _ = self.variant
        except ValueError as error:
            raise ValueError(f"model.{error}") from error
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"model.drop_path is {self.drop_path}; it must be at least 0 and below 1")
        if self.checkpoint is not None and self.trunk is not None:
            raise ValueError("model.checkpoint and model.trunk are both set; the first holds a trunk already")

    @property
    def variant(self) -> Variant:
        """The model that these settings describe."""
        return configured(self.name, self.image_size, self.mem_dim, self.memory_slots)


@dataclass(frozen=True)
class CheckpointConfig:
    """When the run can be taken up again: `every_steps` or `every_minutes`, whichever comes first.

    `keep` is how many older checkpoints stay beside the last one, in case that one turns out unreadable.
    """

    every_steps: int | None = 500
    every_minutes: float | None = 15.0
    keep: int = 1

    def __post_init__(self) -> None:
        require_positive(self, "checkpoint", "every_steps", "every_minutes")
        if self.keep < 0:
            raise ValueError(f"checkpoint.keep is {self.keep}; it must be 0 or more")


@dataclass(frozen=True)
class EvaluateConfig:
    """When held-out videos are tracked and scored.

    Attributes:
        every_steps: optimiser steps between two evaluations; null: none while training.
        at_start: score the untrained model, to compare with.
        at_end: score what training ends with.
        videos: at most this many while training (the first ones); null: all. The start and the end take all.
        max_objects: objects tracked together; bounds memory.
        baselines: also score copying the first mask and calling everything foreground.
        overlay: write a video of what was tracked.
    """

    every_steps: int | None = None
    at_start: bool = False
    at_end: bool = True
    videos: int | None = None
    max_objects: int = 16
    baselines: bool = True
    overlay: bool = True

    def __post_init__(self) -> None:
        require_positive(self, "evaluate", "every_steps", "videos", "max_objects")


@dataclass(frozen=True)
class LoggerConfig:
    """Where metrics go besides `metrics.csv`, which is always written.

    Attributes:
        kind: `csv` is the file alone.
        project: W&B project.
        entity: W&B team or user; null: the account's own.
        mode: of W&B; `auto` is offline where no API key is set, so nothing ever asks for an account.
        tags: W&B tags; a sweep adds its id and what its run differs in.
        group: W&B group; null: the sweep's, if the run belongs to one.
    """

    kind: Literal["csv", "tensorboard", "wandb"] = "csv"
    project: str = "sam2-train"
    entity: str | None = None
    mode: Literal["auto", "online", "offline"] = "auto"
    tags: tuple[str, ...] = ()
    group: str | None = None


@dataclass(frozen=True)
class RunConfig:
    """One run.

    Attributes:
        name: of the recipe; names the folder in `runs`.
        goal: one line for the report.
        seed: everything random derives from it and the step.
        synthetic: videos to make and train on instead of data of your own.
        policy: what is remembered while held-out videos are tracked; training itself unrolls the reference's way.
        cluster: what a cluster wants to be told, where the launcher is slurm.
        callbacks: the user's own Lightning callbacks, by any name.
        runs: where run directories are made, `<runs>/<name>/<run_id>`.
        run_id: `auto` continues the unfinished run of the same settings, or starts the next one.
        run_dir: this very directory instead of one in `runs`.
        resume: what to do with a run directory that has a run: `auto` continues it if the settings are the same,
            `force` continues with the new settings, `never` refuses.
    """

    trainer: TrainerConfig
    data: DataConfig = DataConfig()
    synthetic: SyntheticData | None = None
    name: str = ""
    goal: str = ""
    seed: int = 0
    model: ModelConfig = ModelConfig()
    prompts: PromptPolicy = PromptPolicy()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    policy: Plugin = Plugin("sam2.policies.Policy")
    logger: LoggerConfig | Plugin = LoggerConfig()
    launcher: LauncherConfig = LauncherConfig()
    cluster: Cluster = field(default_factory=Cluster)
    callbacks: dict[str, Plugin] = field(default_factory=dict)
    runs: Path = field(default_factory=lambda: Path("runs").absolute())
    run_id: str = "auto"
    run_dir: Path | None = None
    resume: Literal["auto", "force", "never"] = "auto"

    @property
    def image_size(self) -> int:
        """Model pixels, S."""
        return self.model.variant.image_size

    @functools.cached_property
    def memory_policy(self) -> Policy:
        """What is remembered while videos are tracked.

        Raises:
            ConfigError: `policy` is no memory policy, or its thresholds make no sense.
        """
        try:
            policy = self.policy.build()
        except (TypeError, ValueError) as error:
            raise ConfigError(f"policy: {error}") from error
        if not isinstance(policy, Policy):
            raise ConfigError(
                f"policy: {self.policy.target} is no memory policy; subclass sam2.policies.Policy"
            )
        return policy


def resolve(values: Mapping[str, Any], name: str) -> RunConfig:
    """The typed settings of a run.

    Args:
        values: what Hydra composed, as plain mappings.
        name: the recipe's name, where the settings themselves give none.

    Raises:
        ConfigError: naming the key, what was found and what was expected.
    """
    config = from_mapping(RunConfig, values)
    if not config.name:
        config = dataclasses.replace(config, name=name)
    if config.run_id != Path(config.run_id).name or config.name != Path(config.name).name:
        raise ConfigError(f"name and run_id are folder names, got {config.name!r} and {config.run_id!r}")
    config = _with_synthetic(config)
    _check_together(config)
    return config


def is_complete(values: Mapping[str, Any]) -> bool:
    """Whether nothing is left that must be given."""
    return MISSING not in flatten(values).values()


def unchecked(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """All settings as plain mappings, for a look: what must still be given stands there as `???`.

    Raises:
        ConfigError: as `resolve`, but for what can only be told of complete settings.
    """
    missing = {key for key, value in flatten(values).items() if value == MISSING}
    config = from_mapping(RunConfig, _without(values, missing))
    plain: dict[str, Any] = to_plain(_with_synthetic(dataclasses.replace(config, name=config.name or name)))
    for key in missing:
        *groups, last = key.split(".")
        functools.reduce(lambda group, part: group[part], groups, plain)[last] = MISSING
    return plain


def _without(values: Mapping[str, Any], missing: set[str], where: str = "") -> dict[str, Any]:
    return {
        key: _without(value, missing, f"{where}{key}.") if isinstance(value, Mapping) else value
        for key, value in values.items()
        if f"{where}{key}" not in missing
    }


def digest(config: RunConfig) -> str:
    """Six hex digits that change with every setting that changes the result."""
    return digest_of_settings(to_plain(config))[:6]


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Settings that change the result and differ, as `key: old there, new now`."""
    before, after = flatten(to_plain(old)), flatten(to_plain(new))
    changed = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    return [f"{k}: {before.get(k)!r} there, {after.get(k)!r} now" for k in changed if not is_incidental(k)]


def _with_synthetic(config: RunConfig) -> RunConfig:
    """Settings whose data are the videos to be made, where there are such."""
    if config.synthetic is None:
        return config
    train, held_out = roots(config.synthetic, config.runs)
    if config.data.datasets or config.data.root not in (None, train):
        raise ConfigError(
            "data.root and synthetic are both set; write synthetic=null to train on your own data"
        )
    if config.data.val_root not in (None, held_out):
        raise ConfigError(
            "data.val_root and synthetic are both set; write synthetic=null to train and evaluate on your own data"
        )
    return dataclasses.replace(config, data=dataclasses.replace(config.data, root=train, val_root=held_out))


def _check_together(config: RunConfig) -> None:
    """What no part can know alone."""
    _ = config.memory_policy  # a wrong threshold is better found now than at the first evaluation
    if not config.data.parts():
        raise ConfigError(
            "there is nothing to train on; set data.root=/path/to/shards (`sam2 data convert` makes them)"
        )
    if config.evaluate.every_steps is not None and config.data.val_root is None:
        raise ConfigError(
            "evaluate.every_steps needs videos to evaluate on; set data.val_root, or every_steps to null"
        )
