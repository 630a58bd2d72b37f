"""Training clips as the first steps of a run see them, with the prompts that these steps simulate; no model is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data.clip import ClipBatch
from data.module import ClipDataModule
from data.prompts import PromptPlan, draw_plan
from sam2.training.compose import compose, parse
from sam2.training.config import RunConfig, resolve
from sam2.training.evaluation_config import is_evaluation
from sam2.training.typed import ConfigError
from sam2.training.unroll import simulated_user

RECIPE = "finetune_video"


@dataclass(frozen=True)
class GivenPoints:
    """What one frame's objects are prompted with: (O, P, 2) x and y in pixels, and (O, P) labels.

    Labels are 1 on the object, 0 beside it, 2 and 3 the corners of a box, -1 no point.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class TrainingClip:
    """One clip of a micro-batch: T frames, O objects, at the size of the model.

    Attributes:
        step: micro-batch of the run.
        place: of the clip in its micro-batch.
        source: shard, clip and frames.
        seed: of the run.
        frames: (T, S, S, 3) uint8 RGB.
        masks: (T, O, S, S) bool.
        plan: which frames are prompted and corrected, and how.
        prompts: by frame, the clicks and boxes that open it; where the plan starts from masks none: all masks of
            these frames are given.
    """

    step: int
    place: int
    source: str
    seed: int
    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    plan: PromptPlan
    prompts: Mapping[int, GivenPoints]


def preview_config(
    root: str | Path, recipe: str, overrides: Sequence[str] = (), seed: int | None = None
) -> RunConfig:
    """The settings of a recipe, on the shards in `root` alone; what only training needs may be missing.

    Args:
        root: folder of shards, or its address.
        recipe: as `sam2 train` takes it.
        overrides: settings, `key=value`.
        seed: of the run; None: the recipe's.

    Raises:
        ConfigError: a setting is not as it should be, or the recipe is none for training.
    """
    invocation = parse([recipe, *overrides])
    values = compose(invocation, is_complete=False)
    if is_evaluation(values):
        raise ConfigError(f"{recipe} evaluates and draws no training clips; give a recipe for training")
    changes: dict[str, Any] = {
        "data": {"root": str(root), "datasets": [], "val_root": None, "workers": 0},
        "model": {"checkpoint": None},
        "evaluate": {"every_steps": None},
    }
    merged = {**values, "synthetic": None}
    for group, settings in changes.items():
        merged[group] = {**values.get(group, {}), **settings}
    config = resolve(merged, invocation.recipe.stem)
    return config if seed is None else dataclasses.replace(config, seed=seed)


def training_clips(config: RunConfig, first: int = 0) -> Iterator[TrainingClip]:
    """The clips of one process from micro-batch `first` on, without end.

    Raises:
        DataError: the shards cannot give clips as they are asked for.
    """
    data = ClipDataModule(config.data, config.image_size, config.seed)
    data.consumed = first
    for step, batch in zip(count(first), data.train_dataloader(), strict=False):
        yield from _clips(data.on_after_batch_transfer(batch, 0), config, step)


def _clips(batch: ClipBatch, config: RunConfig, step: int) -> Iterator[TrainingClip]:
    """The clips of a batch with what the simulated user of this step gives."""
    plan = draw_plan(config.prompts, config.seed, batch.step, len(batch.frames))
    user = simulated_user(batch, plan, config.prompts)
    given = {} if plan.from_masks else {frame: user.start(frame) for frame in plan.first}
    for place, source in enumerate(batch.sources):
        mine = batch.video_of_object == place
        yield TrainingClip(
            step=step,
            place=place,
            source=source,
            seed=config.seed,
            frames=_numpy(batch.frames[:, place].permute(0, 2, 3, 1)),
            masks=_numpy(batch.masks[:, mine]),
            plan=plan,
            prompts={
                frame: GivenPoints(_numpy(points[mine]), _numpy(labels[mine]))
                for frame, (points, labels) in given.items()
            },
        )


def _numpy(values: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(values.cpu().numpy())
