"""What watches over training: skipped steps, seeds, pace, rows, the display."""

from __future__ import annotations

import csv
import io
import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from sam2.training import callbacks
from sam2.training.callbacks import GradientGuard, MetricsWriter, StepSeeds, Stopwatch
from sam2.training.errors import TrainingError
from sam2.training.metrics import MetricsFile
from sam2.training.progress import ProgressDisplay, describe
from sam2.training.run import execute
from sam2.training.rundir import RunDirectory
from tests.sam2.training.toy import Job, ToyBatch, ToyData, ToyModule, run_toy, toy_config


class Poisoned(ToyModule):
    """Its loss is not a number at some micro-batches."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__()
        self._bad = bad
        self.before: dict[int, list[Tensor]] = {}

    def training_step(self, batch: ToyBatch, batch_idx: int) -> Tensor:
        self.before[batch_idx] = [p.detach().clone() for p in self.parameters()]
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if batch.step in self._bad else loss


def train(module: ToyModule, directory: Path, **settings: Any) -> RunDirectory:
    config = toy_config(**{"trainer__accumulate": 1, "evaluate__every_steps": None, **settings})
    run = RunDirectory(directory)
    execute(
        config,
        run,
        ["toy"],
        lambda made, where, world: Job(module, ToyData(0), int(config.trainer.max_steps or 0)),
    )
    return run


def rows(run: RunDirectory) -> dict[int, dict[str, str]]:
    with run.metrics.open() as file:
        return {int(row["step"]): row for row in csv.DictReader(file)}


def test_a_step_without_finite_gradients_changes_no_weight_and_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = Poisoned({3})
    run = train(module, tmp_path, trainer__max_steps=6)
    weights = [torch.cat([p.flatten() for p in module.before[k]]) for k in range(6)]
    same = [torch.equal(weights[k], weights[k + 1]) for k in range(5)]
    assert same == [False, False, False, True, False]
    assert [row["skipped_steps"] for row in rows(run).values()] == ["0.0"] * 3 + ["1.0"] * 3
    log = run.log(0).read_text()
    assert "step 4: gradients are not finite" in log and "clips of the step left out: a, b" in log


def test_too_many_such_steps_in_a_row_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match="not finite in 3 steps in a row, up to step 5; try a lower optim.lr"
    ):
        train(Poisoned({0, 2, 3, 4}), tmp_path, trainer__max_bad_steps=3)


def test_counts_of_skipped_steps_survive_a_resume() -> None:
    guard, again = GradientGuard(5), GradientGuard(5)
    guard.skipped = 4
    again.load_state_dict(guard.state_dict())
    assert again.skipped == 4


@pytest.mark.parametrize(("clip", "expected"), [(0.5, 0.5), (0.0, 5.0), (10.0, 5.0)])
def test_gradients_longer_than_the_limit_are_shortened_to_it(clip: float, expected: float) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, -4.0])
    guard = GradientGuard(3, clip)
    trainer: Any = SimpleNamespace(global_step=0)
    guard.on_before_optimizer_step(trainer, ToyModule(), torch.optim.SGD(parameters, lr=1.0))
    gradients = torch.cat([p.grad for p in parameters if p.grad is not None])
    assert guard.norm == 5.0
    assert float(gradients.norm()) == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(gradients / gradients.norm(), torch.tensor([0.6, 0.0, 0.0, -0.8]))


def test_a_loader_that_continues_at_another_batch_is_noticed() -> None:
    trainer: Any = SimpleNamespace(global_rank=0)
    batch = ToyBatch(torch.zeros(1), 7, ())
    with pytest.raises(TrainingError, match="micro-batch 7 where 5 was due"):
        StepSeeds(0).on_train_batch_start(trainer, ToyModule(), batch, 5)


@pytest.mark.parametrize("changed", ["seed", "step", "rank"])
def test_draws_depend_on_seed_step_and_rank(changed: str) -> None:
    def draw(seed: int = 0, step: int = 0, rank: int = 0) -> Tensor:
        trainer: Any = SimpleNamespace(global_rank=rank)
        StepSeeds(seed).on_train_batch_start(trainer, ToyModule(), None, step)
        return torch.rand(4)

    with torch.random.fork_rng():
        assert torch.equal(draw(), draw())
        assert not torch.equal(draw(), draw(**{changed: 1}))


def test_a_row_is_the_mean_over_the_micro_batches_of_its_step(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run_toy(run, toy_config(trainer__accumulate=4, trainer__max_steps=3, evaluate__every_steps=None))
    assert [float(row["train/batch"]) for row in rows(run).values()] == [1.5, 5.5, 9.5]


def test_rows_come_every_so_many_steps_and_at_the_end(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run_toy(run, toy_config(trainer__log_every=4, evaluate__every_steps=5))
    assert list(rows(run)) == [4, 5, 8, 10]
    assert [step for step, row in rows(run).items() if row["val/J&F"]] == [5, 10]


def test_waiting_for_data_is_told_from_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now))
    watch, trainer, module = Stopwatch(), SimpleNamespace(), nn.Module()
    batch = ToyBatch(torch.zeros(1), 0, ("a", "b", "c"))
    watch.on_train_start(trainer, module)  # type: ignore[arg-type]
    now = 1.0
    watch.on_train_batch_start(trainer, module, batch, 0)  # type: ignore[arg-type]
    now = 4.0
    watch.on_train_batch_end(trainer, module, None, batch, 0)  # type: ignore[arg-type]
    now = 100.0
    watch.on_validation_end(trainer, module)  # type: ignore[arg-type]
    pace = watch.take()
    assert (pace.clips_per_s, pace.waiting) == (0.75, 0.25)
    assert watch.take().clips == 0


def test_the_display_tells_what_is_known() -> None:
    metrics = {
        "train/loss": 12.3456,
        "val/J&F": 71.26,
        "clips_per_s": 3.5,
        "waiting_for_data": 0.12,
        "memory_gb": 1.5,
    }
    wanted = "loss 12.35  J&F 71.3  3.5 clips/s  waiting for data 12%  1.50 GB  1:01:01 left"
    assert describe(metrics, 3661.2) == wanted
    assert describe({}) == ""


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_display_is_a_bar_on_a_terminal_and_lines_elsewhere(tmp_path: Path, is_terminal: bool) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=200)
    metrics = MetricsWriter(MetricsFile(tmp_path / "m.csv"), 1, Stopwatch(), GradientGuard(1))
    metrics.latest = {"train/loss": 2.0}
    display = ProgressDisplay(metrics, console, every_s=0)
    trainer: Any = SimpleNamespace(
        global_step=0, max_steps=4, is_global_zero=True, accumulate_grad_batches=1, sanity_checking=False
    )
    module = nn.Module()
    display.on_train_start(trainer, module)  # type: ignore[arg-type]
    for step in (1, 2):
        trainer.global_step = step
        display.on_train_batch_end(trainer, module, None, None, step - 1)  # type: ignore[arg-type]
    display.teardown(trainer, module, "fit")  # type: ignore[arg-type]
    printed = text.getvalue()
    if is_terminal:
        assert "2/4" in printed and "loss 2" in printed and "\x1b[" in printed
    else:
        assert [line.split("  ")[0] for line in printed.splitlines()] == ["step 1/4", "step 2/4"]


@pytest.mark.parametrize(("evaluates", "every_s"), [(True, math.inf), (False, math.inf), (False, 0.0)])
def test_the_last_step_is_printed_once_with_its_own_score(
    tmp_path: Path, evaluates: bool, every_s: float
) -> None:
    text = io.StringIO()
    metrics = MetricsWriter(MetricsFile(tmp_path / "m.csv"), 1, Stopwatch(), GradientGuard(1))
    display = ProgressDisplay(metrics, Console(file=text, width=200), every_s=every_s)
    trainer: Any = SimpleNamespace(
        global_step=0, max_steps=2, is_global_zero=True, accumulate_grad_batches=1, sanity_checking=False
    )
    trainer.state = SimpleNamespace(fn="fit")
    metrics.latest = {"val/J&F": 10.0}
    module: Any = nn.Module()
    display.on_train_start(trainer, module)
    for step in (1, 2):
        trainer.global_step = step
        display.on_train_batch_end(trainer, module, None, None, step - 1)
    if evaluates:
        metrics.latest = {"val/J&F": 20.0}
        display.on_validation_end(trainer, module)
    display.on_train_end(trainer, module)
    last = [line for line in text.getvalue().splitlines() if line.startswith("step 2/2")]
    assert len(last) == 1 and f"J&F {20 if evaluates else 10}.0" in last[0]


def test_what_a_run_says_and_how_it_ends_is_in_its_log(tmp_path: Path) -> None:
    def crash(stage: str, number: int) -> None:
        if number == 3:
            logging.getLogger("sam2").info("so far so good")
            raise ZeroDivisionError("a fault")

    with pytest.raises(ZeroDivisionError):
        run_toy(RunDirectory(tmp_path), toy_config(), crash)
    log = (tmp_path / "log" / "rank-0.txt").read_text()
    assert "so far so good" in log and "ZeroDivisionError: a fault" in log
    assert not logging.getLogger("sam2").handlers
