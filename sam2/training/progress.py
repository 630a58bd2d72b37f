"""The live display of a run: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from data.plural import plural
from sam2.training.callbacks import MetricsWriter
from sam2.training.checkpointing import JF

LOSS = "train/loss"


class ProgressDisplay(pl.Callback):
    """Shows step, loss, J&F, clips a second, share of time waiting for data, memory and time left, on rank 0.

    Off a terminal a line is printed at most every `every_s` seconds, after each evaluation and at the end; the rows
    of all steps are in `metrics.csv`.
    """

    def __init__(self, metrics: MetricsWriter, console: Console | None = None, every_s: float = 10.0) -> None:
        self._metrics, self._every_s = metrics, every_s
        self._console = console or Console()
        self._bar: Progress | None = None
        self._task: Any = None
        self._began, self._began_step, self._printed_at, self._printed_step = 0.0, 0, 0.0, -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the display."""
        self._began, self._began_step, self._printed_at = time.monotonic(), trainer.global_step, 0.0
        if trainer.is_global_zero and self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(20),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, TextColumn("{task.fields[facts]}"), console=self._console)
            total = trainer.max_steps if trainer.max_steps > 0 else None
            self._task = self._bar.add_task("train", total=total, completed=trainer.global_step, facts="")
            self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance."""
        if not trainer.is_global_zero or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, facts=self._facts(trainer))
        elif time.monotonic() - self._printed_at >= self._every_s:
            self._print(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the last step; not at that step, whose evaluation is yet to come and shows it with its own score."""
        if self._bar is None and trainer.is_global_zero and trainer.global_step > self._began_step:
            self._print(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that evaluation has begun; it can be long."""
        if self._bar is not None:
            self._bar.update(self._task, description="evaluate")
            self._bar.refresh()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the new score at once."""
        if self._bar is not None:
            self._bar.update(self._task, description="train", facts=self._facts(trainer))
        elif trainer.is_global_zero and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._print(trainer, is_new=True)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the display, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, trainer: pl.Trainer, is_new: bool = False) -> None:
        if not is_new and trainer.global_step == self._printed_step:
            return
        self._printed_at, self._printed_step = time.monotonic(), trainer.global_step
        of = f"/{trainer.max_steps}" if trainer.max_steps > 0 else ""
        self._console.print(
            f"step {trainer.global_step}{of}  {self._facts(trainer)}", highlight=False, soft_wrap=True
        )

    def _facts(self, trainer: pl.Trainer) -> str:
        left = None
        done = trainer.global_step - self._began_step
        if done > 0 and trainer.max_steps > 0:
            left = (time.monotonic() - self._began) / done * (trainer.max_steps - trainer.global_step)
        return describe(self._metrics.latest, left)


def describe(metrics: Mapping[str, float], left_s: float | None = None) -> str:
    """The facts that are known, in one line."""
    shown = (
        (LOSS, "loss {:.4g}"),
        (JF, "J&F {:.1f}"),
        ("clips_per_s", "{:.3g} clips/s"),
        ("waiting_for_data", "waiting for data {:.0%}"),
        ("memory_gb", "{:.2f} GB"),
    )
    facts = [text.format(metrics[name]) for name, text in shown if name in metrics]
    if bad := metrics.get("bad_samples"):
        facts.append(plural(round(bad), "bad sample"))
    if left_s is not None:
        facts.append(f"{timedelta(seconds=round(left_s))} left")
    return "  ".join(facts)
