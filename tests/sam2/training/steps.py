"""Training steps on batches made up here, by everything that a run uses: what each rank of `Ranks` is asked to do.

A global batch is dealt out to the ranks clip by clip, as data/plan.py does; one process takes all of it.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.utils.data import DataLoader, IterableDataset

from data.clip import ClipBatch
from data.prompts import PromptPlan
from sam2.training import callbacks
from sam2.training import module as production
from sam2.training.config import RunConfig
from sam2.training.job import Job
from sam2.training.losses import object_count
from sam2.training.run import execute
from sam2.training.rundir import RunDirectory
from sam2.training.typed import from_mapping
from sam2.training.unroll import simulated_user, training_loss

SIDE = 64  # pixels of the model called test


@dataclass(frozen=True)
class Work:
    """Some optimiser steps.

    `plans` are the prompts of each micro-batch, for each rank (one for all, or one a rank); `objects` the number of
    objects of every clip of a global micro-batch; `settings` change the run's; `first` is the number of the first clip:
    clips are numbered through all micro-batches, and each is a function of its number.
    """

    plans: tuple[tuple[PromptPlan, ...], ...]
    objects: tuple[int, ...] = (3, 1)
    settings: dict[str, Any] = field(default_factory=dict)
    first: int = 0

    def clips(self, step: int, frames: int) -> list[ClipBatch]:
        """The global micro-batch `step`, clip by clip."""
        first = self.first + step * len(self.objects)
        return [clip(first + place, frames, count, step) for place, count in enumerate(self.objects)]

    def plan(self, step: int, rank: int) -> PromptPlan:
        plans = self.plans[step]
        return plans[rank % len(plans)]


@dataclass
class Done:
    """What the steps left behind.

    `gradients` are the last ones before clipping; they, `weights` and `moments` are whole, `kept` is how many numbers
    of moments this process has itself.
    """

    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]
    row: dict[str, float]
    learning_rates: list[float]
    losses: list[float]
    kept: int


def clip(number: int, frames: int, objects: int, step: int) -> ClipBatch:
    """Moving rectangles on noise."""
    random = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (frames, 1, 3, SIDE, SIDE), dtype=torch.uint8, generator=random)
    masks = torch.zeros(frames, objects, SIDE, SIDE, dtype=torch.bool)
    for o in range(objects):
        x, y, w, h = torch.randint(6, 28, (4,), generator=random).tolist()
        for t in range(frames):
            masks[t, o, y + t : y + t + h, x + t : x + t + w] = True
    seeds = torch.arange(objects) + 1000 * number
    return ClipBatch(pixels, masks, torch.zeros(objects, dtype=torch.long), seeds, step, (f"{number}",))


def together(parts: Sequence[ClipBatch]) -> ClipBatch:
    """One batch of all clips."""
    videos = [torch.full_like(part.video_of_object, v) for v, part in enumerate(parts)]
    return ClipBatch(
        torch.cat([part.frames for part in parts], dim=1),
        torch.cat([part.masks for part in parts], dim=1),
        torch.cat(videos),
        torch.cat([part.object_seeds for part in parts]),
        parts[0].step,
        tuple(part.sources[0] for part in parts),
    )


class MadeUp(IterableDataset[ClipBatch]):
    """This rank's share of every micro-batch."""

    def __init__(self, work: Work, rank: int, world: int) -> None:
        self._work, self._rank, self._world = work, rank, world

    def __iter__(self) -> Iterator[ClipBatch]:
        for step in range(len(self._work.plans)):
            frames = self._work.plan(step, self._rank).frames
            yield together(self._work.clips(step, frames)[self._rank :: self._world])


class MadeUpData(pl.LightningDataModule):
    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def train_dataloader(self) -> DataLoader[ClipBatch]:
        assert self.trainer is not None
        batches = MadeUp(self._work, self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(batches, batch_size=None)


class Still(production.TrainingModule):
    """Without dropout, which every rank draws for itself."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.eval()


class Poisoned(Still):
    """The second rank's loss is no number."""

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.global_rank == 1 else loss


class OneAfterTheOther(Still):
    """In one process what ranks of different prompts do: each share by itself, all objects counted together."""

    work: Work

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        prompts, loss = self.config.prompts, self.config.loss
        total = torch.zeros(())
        for rank, share in enumerate(self.work.clips(batch.step, len(batch.frames))):
            plan = self.work.plan(batch.step, rank)
            user = simulated_user(share, plan, prompts)
            count = object_count(sum(self.work.objects), "cpu")
            terms = training_loss(self.model, share, plan, user, self.policy, loss, count)
            total = total + terms.total(loss)
        self.log("train/loss", total.detach(), logger=False, batch_size=1)
        return total


class Look(pl.Callback):
    """Keeps gradients as they are before they are clipped."""

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}
        self.learning_rates: list[float] = []
        self.losses: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.learning_rates.append(optimizer.param_groups[0]["lr"])
        self.gradients = {
            name: whole(p.grad).clone() for name, p in pl_module.named_parameters() if p.grad is not None
        }

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))


def whole(tensor: Tensor) -> Tensor:
    gather = getattr(tensor, "full_tensor", None)
    return gather() if gather else tensor


def settings(work: Work, world: int) -> RunConfig:
    values: dict[str, Any] = {
        "data": {"root": "nowhere", "workers": 0},
        "model": {"name": "test"},
        "trainer": {"max_steps": len(work.plans), "accelerator": "cpu", "devices": world, "log_every": 1},
        "optim": {"lr": 1e-3, "trunk_lr": None, "layer_decay": 1.0, "schedule": "constant"},
        "checkpoint": {"every_steps": None, "every_minutes": None},
        "launcher": {"threads": 1},
    }
    for key, value in work.settings.items():
        group, _, name = key.partition(".")
        values.setdefault(group, {})[name] = value
    accumulate = values["trainer"].get("accumulate", 1)
    values["trainer"]["max_steps"] = len(work.plans) // accumulate
    return from_mapping(RunConfig, values)


def do(work: Work, kind: type[Still] = Still) -> Done:
    """The steps of `work`, in as many processes as there are."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    config, look = settings(work, world), Look()
    kept: list[tuple[Any, Any]] = []

    def build(made: RunConfig, where: RunDirectory, processes: int) -> Job:
        module = kind(config)
        if isinstance(module, OneAfterTheOther):
            module.work = work
        kept.append((module, where))
        return Job(module, MadeUpData(work), int(made.trainer.max_steps or 0), (look,), after=remember)

    moments: dict[str, dict[str, Tensor]] = {}
    own: list[int] = []

    def remember(trainer: pl.Trainer) -> None:
        names = {id(p): name for name, p in kept[0][0].named_parameters()}
        for p, state in trainer.optimizers[0].state.items():
            moments[names[id(p)]] = {key: whole(value).clone() for key, value in state.items()}
            own.extend(getattr(value, "_local_tensor", value).numel() for value in state.values())

    step = iter(range(10**6))

    def planned(*_: Any) -> PromptPlan:
        return work.plan(next(step), rank)

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(production, "draw_plan", planned):
        directory = RunDirectory(Path(folder))
        execute(config, directory, ["test"], build)
        row = rows(directory)[-1] if rank == 0 else {}
    weights = {name: whole(p.detach()).clone() for name, p in kept[0][0].named_parameters()}
    return Done(look.gradients, weights, moments, row, look.learning_rates, look.losses, sum(own))


@dataclass
class Travelled:
    """What went from process to process in one bucket: `own` before, `mean` after."""

    own: Tensor
    mean: Tensor


def travelling(work: Work) -> tuple[Done, list[Travelled]]:
    """The steps of `work` with compressed gradients, and all that travelled."""
    compress, seen = default_hooks.bf16_compress_hook, []

    def look(state, bucket):
        # in the order in which they leave, which is that of all ranks; they arrive in any
        this = Travelled(bucket.buffer().clone(), torch.empty(0))
        seen.append(this)

        def keep(future: Any) -> Tensor:
            this.mean = future.value().clone()
            return future.value()

        return compress(state, bucket).then(keep)

    with mock.patch.object(default_hooks, "bf16_compress_hook", look):
        return do(work), seen


def counting(work: Work) -> dict[str, float]:
    """A row of metrics where rank R has R + 1 bad samples, clips a second and GB, and waits R + 1 quarters of it."""
    own = int(os.environ["RANK"]) + 1
    pace = callbacks.Pace(clips=own, seconds=1.0, waiting_s=own / 4)
    with (
        mock.patch.object(callbacks.Stopwatch, "take", lambda self: pace),
        mock.patch.object(callbacks, "memory_gb", lambda: float(own)),
        mock.patch.object(MadeUpData, "bad_samples", own, create=True),
    ):
        return do(work).row


class Stop(pl.Callback):
    """Ends a run after an optimiser step, as a crash would: what is on disk by then is all there is."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self._step:
            raise Stopped


class Stopped(Exception):
    pass


def run(config: RunConfig, path: Path) -> bool:
    """One rank of a whole run; whether it came to its end."""
    try:
        execute(config, RunDirectory(path), ["test"])
    except Stopped:
        return False
    return True


def rows(directory: RunDirectory) -> list[dict[str, float]]:
    with directory.metrics.open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
