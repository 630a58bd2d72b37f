"""A training run of milliseconds for tests of everything around the model: same loaders, same callbacks, same files.

As a program: `python -m tests.sam2.training.toy RUN_DIR SETTINGS_JSON`. TOY_KILL="rank:micro-batch" kills -9 one rank
there, TOY_HANG has it sleep there, TOY_RAISE raises there, TOY_NAN makes its loss no number; TOY_SLOW="rank:seconds"
slows down its micro-batches.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from data.loader import settle
from sam2.training.config import RunConfig
from sam2.training.errors import Interrupted, Superseded
from sam2.training.job import Job
from sam2.training.launch import LaunchError, die_with_parent, run_ranks
from sam2.training.run import execute
from sam2.training.rundir import RunDirectory, held
from sam2.training.typed import from_mapping


@dataclass(frozen=True)
class ToyBatch:
    """Looks like a ClipBatch to callbacks."""

    x: Tensor
    step: int
    sources: tuple[str, ...]

    def to(self, device: Any, non_blocking: bool = False) -> ToyBatch:
        return ToyBatch(self.x.to(device), self.step, self.sources)


class MicroBatches(IterableDataset[ToyBatch]):
    """Endless micro-batches from `start` on, each a function of its number and the rank alone."""

    def __init__(self, start: int, rank: int, world: int) -> None:
        self._start, self._rank, self._world = start, rank, world

    def __iter__(self) -> Iterator[ToyBatch]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        step = self._start + first
        while True:
            random = torch.Generator().manual_seed(step * self._world + self._rank)
            yield ToyBatch(torch.randn(4, 8, generator=random), step, ("a", "b"))
            step += stride


class ToyData(pl.LightningDataModule):
    """Starts at the micro-batch a checkpoint names."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers, self._start = workers, 0

    def state_dict(self) -> dict[str, Any]:
        assert self.trainer is not None
        return {"micro_batch": self.trainer.fit_loop.total_batch_idx + 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._start = state_dict["micro_batch"]

    def train_dataloader(self) -> DataLoader[ToyBatch]:
        assert self.trainer is not None
        batches = MicroBatches(self._start, self.trainer.global_rank, self.trainer.world_size)
        init = settle if self._workers else None
        return DataLoader(batches, batch_size=None, num_workers=self._workers, worker_init_fn=init)

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader([torch.full((1, 8), float(i)) for i in range(2)], batch_size=None)  # type: ignore[arg-type]


class ToyModule(pl.LightningModule):
    """Dropout, so that random state matters; a score that moves, so that the best checkpoint does.

    `crash` is called with ("build" | "train" | "val" | "after", processes, micro-batch or step) and may raise.
    """

    def __init__(self, crash: Any = lambda stage, number: None) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
        self._crash = crash

    def training_step(self, batch: ToyBatch, batch_idx: int) -> Tensor:
        self._crash("train", batch_idx)
        loss = (self.layers(batch.x) - batch.x.sum(1, keepdim=True)).square().mean()
        self.log("train/loss", loss, logger=False)
        self.log("train/batch", float(batch.step), logger=False)
        is_poisoned = os.environ.get("TOY_NAN") == f"{self.global_rank}:{batch_idx}"
        return loss * float("nan") if is_poisoned else loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self._crash("val", self.trainer.global_step)
        self.log("val/J&F", self.layers(batch).mean(), logger=False, batch_size=1, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def toy_config(**settings: Any) -> RunConfig:
    """A run of 10 steps of 2 micro-batches on one CPU process; `settings` are dotted keys with __ for dots."""
    values: dict[str, Any] = {
        "data": {"root": "nowhere", "val_root": "nowhere", "workers": 0},
        "trainer": {"max_steps": 10, "accumulate": 2, "accelerator": "cpu", "log_every": 1},
        "checkpoint": {"every_steps": 2},
        "evaluate": {"every_steps": 3},
        "launcher": {"threads": 1},
    }
    for key, value in settings.items():
        group, _, name = key.partition("__")
        if name:
            values.setdefault(group, {})[name] = value
        else:
            values[group] = value
    return from_mapping(RunConfig, values)


def toy_job(crash: Any) -> Any:
    """What `execute` builds a run from."""

    def build(config: RunConfig, directory: RunDirectory, world: int) -> Job:
        crash("build", world)
        module, data = ToyModule(crash), ToyData(config.data.workers)
        return Job(
            module, data, int(config.trainer.max_steps or 0), after=lambda trainer: crash("after", world)
        )

    return build


def run_toy(directory: RunDirectory, config: RunConfig, crash: Any = lambda stage, number: None) -> None:
    """One start of a run in this process."""
    with held(directory):
        execute(config, directory, ["toy"], toy_job(crash))


def _disturb(stage: str, number: int) -> None:
    """What the environment asks for."""
    if stage != "train":
        return
    rank, _, seconds = os.environ.get("TOY_SLOW", ":").partition(":")
    if rank == os.environ.get("RANK", "0"):
        time.sleep(float(seconds))
    here = f"{os.environ.get('RANK', 0)}:{number}"
    if os.environ.get("TOY_KILL") == here:
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("TOY_HANG") == here:
        time.sleep(600)
    if os.environ.get("TOY_RAISE") == here:
        raise ZeroDivisionError("a fault of one rank")


def main(path: str, settings: str) -> int:
    """One start of a run in this process, or in one per device; its exit code."""
    try:
        _start(path, settings)
    except (Interrupted, Superseded, LaunchError) as leaving:
        print(leaving, file=sys.stderr)
        return leaving.code
    return 0


def _start(path: str, settings: str) -> None:
    directory, config = RunDirectory(Path(path)), toy_config(**json.loads(settings))
    if config.trainer.devices in ("auto", 1):
        run_toy(directory, config, _disturb)
    elif "RANK" in os.environ:
        die_with_parent()
        execute(config, directory, ["toy"], toy_job(_disturb))
    else:
        with held(directory):
            command = [sys.executable, "-m", "tests.sam2.training.toy", path, settings]
            run_ranks(command, int(config.trainer.devices), directory.log, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
