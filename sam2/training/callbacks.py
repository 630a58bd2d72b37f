"""What watches over training, apart from checkpoints (checkpointing.py) and the display (progress.py).

Every decision here is the same on all ranks: it is made from numbers that are equal everywhere anyway (gradients
after the all-reduce, steps), never from a rank's own loss or clock.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from data.order import mix
from sam2.peak_memory import memory_gb
from sam2.training.errors import TrainingError
from sam2.training.evidence import KEPT, Evidence
from sam2.training.metrics import MetricsFile

log = logging.getLogger(__name__)

TRAIN, VAL = "train/", "val/"  # prefixes of what a module logs: each step, and after an evaluation
_STREAM = 0x5EED  # keeps these seeds apart from every other use of (seed, step)


class StepSeeds(pl.Callback):
    """Makes dropout and drop path functions of (seed, micro-batch, rank), so that resuming changes nothing."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """See that it is the one that is due, and seed."""
        planned = getattr(batch, "step", batch_idx)
        if planned != batch_idx:
            raise TrainingError(
                f"the loader gave micro-batch {planned} where {batch_idx} was due; it resumed elsewhere"
            )
        seed_micro_batch(self._seed, batch_idx, trainer.global_rank)


def seed_micro_batch(seed: int, number: int, rank: int) -> None:
    """Seed torch's generators of every device for micro-batch `number` of a rank."""
    torch.manual_seed(mix(seed, _STREAM, number, rank))


class GradientGuard(pl.Callback):
    """Clips gradients; leaves out steps where they are not finite, and gives up after too many of those in a row.

    Gradients are looked at after they were averaged over the ranks, where one rank's NaN is everybody's. A parameter
    without gradient is one that AdamW does not touch, so a step left out changes nothing at all.
    """

    def __init__(self, max_in_a_row: int, clip: float = 0.0, evidence: Evidence | None = None) -> None:
        self._max_in_a_row, self._clip, self._evidence = max_in_a_row, clip, evidence
        self._in_a_row = 0
        self._again = ""
        self.skipped = 0
        self.norm = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"in_a_row": self._in_a_row, "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the counts."""
        self._in_a_row, self.skipped = state_dict["in_a_row"], state_dict["skipped"]

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Measure the gradient; shorten it if it is too long, drop it if it is not finite.

        Clipped here and not by Lightning, which would measure it once more, and refuses to beside a fused AdamW under
        bfloat16 (its check is for loss scaling, which bfloat16 needs none of).

        Raises:
            TrainingError: too many in a row.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        # of gradients that are shared out, every rank has a part: the whole is for all to ask for
        self.norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        if math.isfinite(self.norm):
            self._in_a_row, self._again = 0, ""
            if self._clip:
                clip_grads_with_norm_(parameters, self._clip, norm)
            return
        self._in_a_row += 1
        self.skipped += 1
        step = trainer.global_step + 1
        if self._evidence is not None and self.skipped <= KEPT:
            folder = self._evidence.keep(trainer, pl_module, "gradients are not finite")
            self._again = f"; `sam2 replay {folder}` plays it again"
        log.warning("step %d: gradients are not finite; the step is left out%s", step, self._again)
        if self._in_a_row >= self._max_in_a_row:
            raise TrainingError(
                f"gradients were not finite in {self._in_a_row} steps in a row, up to step {step}; try a lower "
                "optim.lr, trainer.precision=32, or look at the clips named in log/rank-*.txt"
                + self._again.replace("plays it", "plays one of them")
            )
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Name the clips of a step that was left out, on every rank, in that rank's log."""
        if self._in_a_row and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            log.info("clips of the step left out: %s", ", ".join(getattr(batch, "sources", ())) or "unknown")


@dataclass
class Pace:
    """Clips and seconds since the last look; `waiting_s` of the `seconds` went into waiting for data."""

    clips: int = 0
    seconds: float = 0.0
    waiting_s: float = 0.0

    @property
    def clips_per_s(self) -> float:
        """Clips a second of this rank."""
        return self.clips / self.seconds if self.seconds else 0.0

    @property
    def waiting(self) -> float:
        """Share of the time spent waiting for data, 0 to 1."""
        return self.waiting_s / self.seconds if self.seconds else 0.0


class Stopwatch(pl.Callback):
    """Measures the pace of training; time spent on evaluations and checkpoints does not count."""

    def __init__(self) -> None:
        self._mark = time.monotonic()
        self._window = Pace()

    def take(self) -> Pace:
        """The pace since the last call."""
        window, self._window = self._window, Pace()
        return window

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start; filling the loader's queue counts as waiting."""
        self._mark = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is here: what passed since the last step was waiting."""
        waited = self._lap()
        self._window.waiting_s += waited
        self._window.seconds += waited

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The step is done."""
        self._window.seconds += self._lap()
        self._window.clips += len(getattr(batch, "sources", ()))

    def restart(self) -> None:
        """Leave out what passed since the last step."""
        self._mark = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An evaluation is no waiting."""
        self.restart()

    def _lap(self) -> float:
        now = time.monotonic()
        passed, self._mark = now - self._mark, now
        return passed


class MetricsWriter(pl.Callback):
    """Writes rows of metrics: to `metrics.csv` and to every logger of the trainer.

    A module logs `train/...` each micro-batch and `val/...` at the end of an evaluation, always the same names, with
    `self.log(name, value, logger=False)`. A row holds the mean over the micro-batches of one optimiser step and over
    the ranks. The loss of each rank is its objects' sum over the mean number of objects (losses.object_count), so that
    this mean is the loss of all objects of the step. All this is done here rather than by Lightning so that a row and
    the checkpoint of its step belong together.
    """

    def __init__(
        self,
        file: MetricsFile | None,
        every: int,
        watch: Stopwatch,
        guard: GradientGuard,
        before_writing: Callable[[], None] = lambda: None,
    ) -> None:
        self._file, self._every, self._watch, self._guard = file, every, watch, guard
        self._before_writing = before_writing
        self._sums: dict[str, list[Tensor]] = {}
        self.latest: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget rows that came after the checkpoint that is being continued."""
        if self._file is not None:
            self._file.rewind(trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Collect; write a row when it is its step."""
        for name, value in trainer.callback_metrics.items():
            if name.startswith(TRAIN):
                self._sums.setdefault(name, []).append(value.detach().float())
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        collected, self._sums = self._sums, {}
        if trainer.global_step % self._every == 0 or trainer.global_step == trainer.max_steps:
            means = {name: torch.stack(values).mean() for name, values in sorted(collected.items())}
            self._write(
                trainer, {**_over_ranks(trainer, {**means, **self._own(trainer)}), **self._common(trainer)}
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what the evaluation found."""
        found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(VAL)}
        if found and not trainer.sanity_checking:
            self._write(trainer, found)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Rows up to a checkpoint are on disk before it is."""
        if self._file is not None:
            self._file.sync()

    def _own(self, trainer: pl.Trainer) -> dict[str, float]:
        """What this rank alone knows; sums over the ranks are the mean of so many times as much."""
        pace = self._watch.take()
        bad = getattr(getattr(trainer, "datamodule", None), "bad_samples", 0)
        return {
            "bad_samples": float(bad * trainer.world_size),
            "clips_per_s": pace.clips_per_s * trainer.world_size,
            "waiting_for_data": pace.waiting,
        }

    def _common(self, trainer: pl.Trainer) -> dict[str, float]:
        """What all ranks know, and the memory of the fullest."""
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        memory = torch.tensor(memory_gb(), device=trainer.strategy.root_device)
        return {
            "lr": max(rates, default=0.0),
            "grad_norm": self._guard.norm,
            "skipped_steps": float(self._guard.skipped),
            "memory_gb": float(trainer.strategy.reduce(memory, reduce_op="max")),
        }

    def _write(self, trainer: pl.Trainer, row: dict[str, float]) -> None:
        self._before_writing()
        self.latest.update(row)
        if self._file is not None:
            self._file.write(trainer.global_step, row)
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step)


def _over_ranks(trainer: pl.Trainer, own: Mapping[str, Tensor | float]) -> dict[str, float]:
    """The mean over the ranks; one reduction for all values, and one look at the device."""
    device = trainer.strategy.root_device
    values = torch.stack([torch.as_tensor(v, dtype=torch.float64, device=device) for v in own.values()])
    reduced: Tensor = trainer.strategy.reduce(values, reduce_op="mean")
    return dict(zip(own, reduced.tolist(), strict=True))
