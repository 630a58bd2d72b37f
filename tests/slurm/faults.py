"""What happens to a run, as callbacks of the run itself: `callbacks.fault._target_=tests.slurm.faults.FillsDisk`.

So it happens at the step that is meant, however fast the machine is.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl

DEADLINE_S = 240.0
ENDING = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


class Slow(pl.Callback):
    """One rank is behind the others, before each micro-batch of the first start."""

    def __init__(self, rank: int, seconds: float) -> None:
        self._rank, self._seconds = rank, seconds

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == self._rank and "SLURM_RESTART_COUNT" not in os.environ:
            time.sleep(self._seconds)


class SlowToBegin(pl.Callback):
    """Something takes long to load in the first start."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if "SLURM_RESTART_COUNT" not in os.environ:
            time.sleep(self._seconds)


class Fault(pl.Callback):
    """Something that happens once in a run, by default on every rank.

    Args:
        before_batch: it happens before this micro-batch.
        in_evaluation: it happens in the evaluation after this step, before a rank's first video.
        rank: on this rank alone.
    """

    def __init__(
        self, before_batch: int | None = None, in_evaluation: int | None = None, rank: int | None = None
    ) -> None:
        self._before_batch, self._in_evaluation, self._rank = before_batch, in_evaluation, rank

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self._before_batch:
            self._once(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.global_step == self._in_evaluation:
            self._once(trainer)

    def _once(self, trainer: pl.Trainer) -> None:
        run, rank = Path(trainer.default_root_dir), trainer.global_rank
        mark = happened(run, rank)
        if self._rank in (None, rank) and not mark.exists():
            mark.touch()
            self.happen(run)

    def happen(self, run: Path) -> None:
        """The fault itself."""
        raise NotImplementedError


class WaitsForSignal(Fault):
    """Goes on when the process has been asked to end, so that the signal comes at this very place."""

    def happen(self, run: Path) -> None:
        before = {number: signal.getsignal(number) for number in ENDING}
        came: list[int] = []

        def hear(number: int, frame: FrameType | None) -> None:
            came.append(number)
            handler = before[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)

        for number in ENDING:
            signal.signal(number, hear)
        end = time.monotonic() + DEADLINE_S
        while not came:
            if time.monotonic() > end:
                raise TimeoutError(f"no signal came within {DEADLINE_S:g} s")
            time.sleep(0.02)
        for number, handler in before.items():
            signal.signal(number, handler)


class DiesAtOnce(Fault):
    """As when the kernel runs out of memory."""

    def happen(self, run: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class FillsDisk(Fault):
    """Leaves no room on the disk of the run directory; `filler` there is what took it."""

    def happen(self, run: Path) -> None:
        with (run / "filler").open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 10, 1):
                try:
                    while file.write(b"\0" * size) == size:
                        pass
                except OSError:  # no room for so much
                    continue


class LimitsFiles(Fault):
    """As `FillsDisk`, for this process alone: no file may become as large as a checkpoint."""

    def happen(self, run: Path) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))


class Fails(pl.Callback):
    """The first start of a run with this seed ends in a bug."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        mark = happened(Path(trainer.default_root_dir), 0)
        if pl_module.config.seed == self._seed and not mark.exists():
            mark.touch()
            raise LookupError("a bug of the test's")


def happened(run: Path, rank: int) -> Path:
    """The file that says that a fault has come about on a rank."""
    return run / "log" / f"fault-{rank}"
