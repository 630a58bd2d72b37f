"""Checkpoints that a kill at any moment cannot spoil, and the way back from them.

`checkpoints/last.ckpt` is the newest, `last-1.ckpt` the one before; `best.ckpt` holds the weights of the best J&F. A
file takes its name only when it is complete and on disk. Checkpoints are made between steps: either right after an
optimiser step, or, where an evaluation follows that step, after the evaluation, so that nothing belonging to a
step is lost or done twice. A run that is asked to end in an evaluation is saved as it was before it. Lightning 2.6.6
restores all three kinds of moment exactly (tests/sam2/training/test_resume.py, test_preempt.py).
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from sam2.evaluation.files import write_atomically
from sam2.training.config import CheckpointConfig
from sam2.training.errors import TrainingError

log = logging.getLogger(__name__)

STEP = "step.txt"  # the step of `last.ckpt`, for scripts
JF = "val/J&F"  # what a module logs after an evaluation, in percent; `best.ckpt` is by it
_NEVER = -1
_CLOCK_EVERY = 10  # optimiser steps between two looks at rank 0's clock, which all ranks must agree on


class FileIO(TorchCheckpointIO):
    """Writes straight to the file and waits until it is on disk (Lightning's own builds a second copy in memory)."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`; missing folders are made."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())


def newest_readable(folder: Path) -> Path | None:
    """The newest checkpoint to continue from, or None; unreadable ones are named in a warning and passed over."""
    for path in _newest_first(folder):
        fault = _fault(path)
        if fault is None:
            return path
        log.warning("%s is unreadable (%s); trying the one before", path, fault)
    return None


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left half written."""
    for path in folder.glob("*.tmp"):
        log.info("removing %s, left by a run that was killed while saving", path.name)
        path.unlink(missing_ok=True)


class Checkpoint(pl.Callback):
    """Saves every N optimiser steps and every M minutes, at the end, and the best weights after each evaluation."""

    def __init__(
        self,
        folder: Path,
        config: CheckpointConfig,
        on_saved: Callable[[], None] = lambda: None,
        before_writing: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._config, self._on_saved = folder, config, on_saved
        self._before_writing = before_writing
        self._saved_step, self._saved_at = 0, time.monotonic()
        self.best: float | None = None
        self.best_step = 0

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a best score."""
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count steps and minutes from here."""
        has_evaluation_to_do = is_before_evaluation(trainer)
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        if has_evaluation_to_do:
            self._saved_step = _NEVER  # what is found by it is to be saved too

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time, unless an evaluation of this step comes first."""
        if steps_after(trainer, batch_idx) and not evaluates_after(trainer, batch_idx):
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the best weights; then save if it is time."""
        if not trainer.state.fn == "fit" or trainer.sanity_checking:
            return
        score = trainer.callback_metrics.get(JF)
        if score is not None and (self.best is None or float(score) > self.best):
            self.best, self.best_step = float(score), trainer.global_step
            self._write(trainer, self._folder / "best.ckpt", weights_only=True)
        self._save_if_due(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what training ended with."""
        self.save_now(trainer)

    def save_now(self, trainer: pl.Trainer) -> None:
        """Save this step as `last.ckpt`, if that is not done already; every rank takes part."""
        if self._saved_step != trainer.global_step:
            self._save_last(trainer)

    def save_before_evaluation(self, trainer: pl.Trainer) -> None:
        """Save, in an evaluation, a state that goes on with that evaluation from its beginning."""
        progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
        progress.current.reset()
        total: Any = progress.total
        # what Lightning takes for "in the middle of an evaluation"
        total.ready = total.started = total.completed + 1
        total.processed = total.completed
        self._save_last(trainer)

    def _save_if_due(self, trainer: pl.Trainer) -> None:
        step, every = trainer.global_step, self._config.every_steps
        due = every is not None and step % every == 0
        if not due and self._config.every_minutes is not None and step % _CLOCK_EVERY == 0:
            late = time.monotonic() - self._saved_at >= 60 * self._config.every_minutes
            due = trainer.strategy.reduce_boolean_decision(late and trainer.is_global_zero, all=False)
        if due and step != self._saved_step:
            self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        self._write(trainer, self._folder / "last.ckpt", weights_only=False)
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def _write(self, trainer: pl.Trainer, path: Path, weights_only: bool) -> None:
        """Write a file; every rank takes part, rank 0 writes.

        Raises:
            TrainingError: on all ranks, if rank 0 could not write. What was there before is still there.
        """
        self._before_writing()
        draft = path.with_name(f"{path.name}.tmp")
        try:
            trainer.save_checkpoint(draft, weights_only)
        except OSError as error:
            if trainer.is_global_zero:
                draft.unlink(missing_ok=True)
            raise TrainingError(
                f"{path} of step {trainer.global_step} could not be written: {error}. The checkpoints before it are "
                "whole; when there is room, the same command continues from the last one"
            ) from error
        if trainer.is_global_zero:
            self._name(trainer, draft, path)
        self._on_saved()

    def _name(self, trainer: pl.Trainer, draft: Path, path: Path) -> None:
        """Give a complete draft its name."""
        is_last = path.name == "last.ckpt"
        if is_last:
            _rotate(path, self._config.keep)
        os.replace(draft, path)
        _sync_folder(path.parent)
        if is_last:
            write_atomically(self._folder / STEP, f"{trainer.global_step}\n")


def is_before_evaluation(trainer: pl.Trainer) -> bool:
    """Whether the checkpoint that was just loaded is one of `save_before_evaluation`."""
    loop = trainer.fit_loop.epoch_loop
    total: Any = loop.val_loop.batch_progress.total
    return loop.restarting and total.started == total.ready == total.processed + 1


def steps_after(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether an optimiser step ends with this micro-batch."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def evaluates_after(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether an evaluation follows this micro-batch."""
    every = trainer.val_check_batch
    if not trainer.enable_validation or every is None or math.isinf(every):
        return False
    return (batch_idx + 1) % int(every) == 0


def _rotate(path: Path, keep: int) -> None:
    """Make room for a new `path`: the file there becomes NAME-1, that one NAME-2, ..., at most `keep` of them."""
    names = [path, *(path.with_stem(f"{path.stem}-{age}") for age in range(1, keep + 1))]
    for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
        if newer.exists():
            os.replace(newer, older)


def _newest_first(folder: Path) -> list[Path]:
    older = sorted(folder.glob("last-*.ckpt"), key=lambda p: int(p.stem.removeprefix("last-")))
    return [path for path in (folder / "last.ckpt", *older) if path.is_file()]


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint; every byte is read and held against its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:
                return f"{broken} is damaged"
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, KeyError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        return str(error).splitlines()[0]
    missing = [key for key in ("state_dict", "loops", "optimizer_states") if key not in content]
    return f"without {', '.join(missing)}" if missing else None


def _sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
