"""Leaving a run because somebody asked for it: all ranks at the same step, everything saved, exit code 85.

Each rank remembers what it was asked (signals.py). Once a step the ranks take the maximum over all of them, over a
process group of its own on the CPU: it travels while the step is computed, so nobody waits for it and no GPU is
synchronised. Whoever asks one rank has asked all of them. An evaluation is left between two videos and done again
from its beginning.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist

from sam2.training.checkpointing import Checkpoint, evaluates_after, steps_after
from sam2.training.errors import Interrupted
from sam2.training.signals import Asked


class Preemption(pl.Callback):
    """Ends training when any rank was asked to end. To be put behind everything that writes or saves."""

    def __init__(self, asked: Asked, checkpoint: Checkpoint, timeout_s: float) -> None:
        self._asked, self._checkpoint = asked, checkpoint
        self._timeout = timedelta(seconds=timeout_s)
        self._group: Any = None
        self._sent: Any = None
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._is_leaving = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the group; every rank is here."""
        if trainer.world_size > 1 and self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=self._timeout)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What was asked while packages and weights were loaded."""
        self.leave_together(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Tell the others, while the step is computed."""
        if steps_after(trainer, batch_idx):
            self._send()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Leave after a finished step; what an evaluation follows is saved when that begins, to be continued there."""
        if not steps_after(trainer, batch_idx) or not self._heard():
            return
        if evaluates_after(trainer, batch_idx):
            self._is_leaving = True
            return
        self._checkpoint.save_now(trainer)
        self._leave(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave before it begins."""
        if self._is_leaving:
            self._leave_evaluation(trainer)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A rank that was asked waits for the others here; those find out when their videos are done."""
        if self._asked and trainer.state.fn == "fit":
            self._agree()
            self._leave_evaluation(trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All videos of this rank are done: was another one asked?"""
        if trainer.state.fn == "fit" and self._agree():
            self._leave_evaluation(trainer)

    def leave_together(self, trainer: pl.Trainer) -> None:
        """Leave if any rank was asked; every rank has to call it. Nothing is saved.

        Raises:
            Interrupted: on every rank.
        """
        if self._agree():
            self._leave(trainer)

    @property
    def was_asked(self) -> bool:
        """Whether this rank was, to hurry on to where all ranks leave together."""
        return bool(self._asked)

    def _leave_evaluation(self, trainer: pl.Trainer) -> None:
        self._checkpoint.save_before_evaluation(trainer)
        self._leave(trainer)

    def _leave(self, trainer: pl.Trainer) -> None:
        whom = f"by {self._asked.by.name}" if self._asked.by else "through another rank"
        step = trainer.global_step
        raise Interrupted(
            f"interrupted {whom} after step {step} of {trainer.max_steps}; the same command continues"
        )

    def _agree(self) -> bool:
        self._send()
        return self._heard()

    def _send(self) -> None:
        self._flag.fill_(int(bool(self._asked)))
        if self._group is not None:
            self._sent = dist.all_reduce(self._flag, dist.ReduceOp.MAX, group=self._group, async_op=True)

    def _heard(self) -> bool:
        if self._sent is not None:
            self._sent.wait()
            self._sent = None
        return bool(self._flag.item())


def preemption(trainer: pl.Trainer) -> Preemption:
    """That of a trainer of ours."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next(found for found in callbacks if isinstance(found, Preemption))
