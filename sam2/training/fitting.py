"""Lightning's trainer, but for what 2.6.6 does about SLURM, signals and an evaluation after the last step."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from sam2.training.checkpointing import is_before_evaluation


class Trainer(pl.Trainer):
    """Leaves signals and the choice of a checkpoint to us, and goes on with an evaluation that a run was stopped in."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._signal_connector = _Deaf(self)
        self._checkpoint_connector = _Checkpoints(self)
        loop = _Fit(self, max_epochs=self.max_epochs)
        loop.epoch_loop = _Epoch(self, max_steps=self.max_steps)
        self.fit_loop = loop

    def save_checkpoint(
        self, filepath: Any, weights_only: bool | None = None, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; every rank has to call it, rank 0 writes.

        Raises:
            OSError: on all ranks, where Lightning would let the others wait for one that could not write.
        """
        content = self._checkpoint_connector.dump_checkpoint(bool(weights_only))
        fault: OSError | None = None
        try:
            self.strategy.save_checkpoint(content, filepath, storage_options)
        except OSError as error:
            fault = error
        if self.strategy.reduce_boolean_decision(fault is not None, all=False):
            raise fault or OSError("rank 0 could not write; its log says why")


class _Deaf(_SignalConnector):
    """Lightning's handler of SIGTERM talks to the other ranks from inside the handler: it can wait forever."""

    def register_signal_handlers(self) -> None:
        """Leave the handlers as they are."""

    def teardown(self) -> None:
        """Nothing was changed."""


class _Checkpoints(_CheckpointConnector):
    """Lightning looks for files of its own where SLURM is installed, and asks why srun was not used."""

    def _select_ckpt_path(self, state_fn: Any, ckpt_path: Any, *_: Any, **__: Any) -> Any:
        """The one that was given."""
        return ckpt_path


class _Epoch(_TrainingEpochLoop):
    def _broadcast_sigterm_tensor(self) -> None:
        """Nothing: Lightning waits for the device here, before each micro-batch."""


class _Fit(_FitLoop):
    @property
    def done(self) -> bool:
        """Lightning would leave out an evaluation that follows the last step."""
        return not is_before_evaluation(self.trainer) and super().done
