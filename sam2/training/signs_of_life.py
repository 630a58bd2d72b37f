"""What tells the watchdog that training gets on, and with what."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from data.alive import alive

_LEAVING_S = 60.0  # for a rank with an error to end in


class SignsOfLife(pl.Callback):
    """Tells the watchdog that training gets on, and with what."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The model is built and the ranks have met."""
        alive("setting up the model on its device")

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before a checkpoint is taken up and the first micro-batch is made."""
        alive("making the first micro-batch")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ready to begin."""
        alive("the start of training")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A micro-batch has come."""
        alive(f"micro-batch {batch_idx} of step {trainer.global_step + 1}")

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any
    ) -> None:
        """The ranks have met."""
        alive(f"the optimiser in step {trainer.global_step + 1}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The next one is wanted; workers make it."""
        alive(f"after micro-batch {batch_idx} of step {trainer.global_step}, waiting for the next")

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Another video."""
        alive(f"video {batch_idx} of the evaluation after step {trainer.global_step}")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Scores are gathered."""
        alive(f"the end of the evaluation after step {trainer.global_step}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training goes on."""
        alive(f"after the evaluation of step {trainer.global_step}, waiting for the next micro-batch")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """About to be written."""
        alive(f"writing a checkpoint of step {trainer.global_step}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All steps are done."""
        alive(f"ending at step {trainer.global_step}")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """On the way out; a GPU that waits for a rank that is gone can block it."""
        alive(f"ending after {type(exception).__name__} in step {trainer.global_step + 1}", _LEAVING_S)
