"""The moment from which a run directory belongs to a start."""

from __future__ import annotations

import logging
from collections.abc import Callable

import lightning.pytorch as pl

log = logging.getLogger(__name__)


class Beginning(pl.Callback):
    """Calls `begin` on rank 0 once the checkpoint to continue from has been taken up whole.

    Until then nothing of an earlier start is touched: other data, another model or a mistake in the settings leaves
    the run as it was. Put before all callbacks that write.
    """

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin
        self._has_begun = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """There are steps to do."""
        if trainer.global_step:
            log.info("continuing from step %d of %d", trainer.global_step, trainer.max_steps)
        self._once(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """There were none: the run was stopped after the last one."""
        if not self._has_begun:
            log.info("all %d steps are done; what comes after them is left", trainer.global_step)
        self._once(trainer)

    def _once(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and not self._has_begun:
            self._begin()
        self._has_begun = True
