"""What a run costs: seconds of every start, times the devices it held, in `run.json`."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
import torch

from sam2.training.rundir import RunDirectory
from sam2.training.trainer import Target


class Bill(pl.Callback):
    """Writes what this start has cost so far, at each checkpoint and at its end, so that a kill hides minutes at most.

    Counted from the moment it is made: a device is held while data are opened and videos scored, too.
    """

    def __init__(self, directory: RunDirectory, place: Target) -> None:
        self._directory, self._began, self._is_mine = directory, time.monotonic(), False
        is_gpu = place.accelerator == "gpu"
        # of a CPU every thread counts: two processes of one thread cost what one of two does
        devices = place.world if is_gpu else place.world * torch.get_num_threads()
        self._held = {"device": "GPU" if is_gpu else "CPU", "devices": devices}

    def write(self) -> None:
        """Write it down, if the run directory is this start's by now."""
        if self._is_mine:
            seconds = round(time.monotonic() - self._began, 1)
            self._directory.note_start(cost={"seconds": seconds, **self._held})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on `run.json` has an entry of this start."""
        self._is_mine = trainer.is_global_zero

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Up to here."""
        self.write()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Failures cost, too."""
        self.write()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Steps are done; where none were left, this is the first sign of the start."""
        self._is_mine = trainer.is_global_zero
        self.write()
