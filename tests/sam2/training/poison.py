"""Callbacks that spoil one micro-batch of a run, named in its settings: `+callbacks.NAME._target_=...`."""

from __future__ import annotations

import os
from typing import Any

import lightning.pytorch as pl
import torch

SPOILT = "memory_encoder.out_proj.bias"  # a parameter that every step with a memory uses


def is_here(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether POISON="rank:micro-batch" is this one; any rank: "*"."""
    rank, _, number = os.environ.get("POISON", "*:1").partition(":")
    return rank in ("*", str(trainer.global_rank)) and int(number) == batch_idx


class NotANumber(pl.Callback):
    """Puts a NaN into the weights."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if is_here(trainer, batch_idx):
            with torch.no_grad():
                pl_module.model.get_parameter(SPOILT)[0] = float("nan")


class Raises(pl.Callback):
    """Raises in the backward pass."""

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if is_here(trainer, trainer.fit_loop.epoch_loop.batch_idx):
            raise ZeroDivisionError("a fault of one rank")
