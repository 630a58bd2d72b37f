"""A run that is asked to end leaves between two steps, and ends later like one that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from sam2.training.errors import Interrupted
from sam2.training.exit_codes import INTERRUPTED
from sam2.training.rundir import RunDirectory
from sam2.training.signals import ENDING, listening
from tests.sam2.training.test_resume import assert_same_run, rows
from tests.sam2.training.toy import run_toy, toy_config

ROOT = Path(__file__).parents[3]
EVALUATING = {"trainer__accumulate": 2, "evaluate__every_steps": 2, "trainer__max_steps": 4}


def asked(stage: str, number: int, by: signal.Signals = signal.SIGUSR1) -> Any:
    """What a toy does that is asked to end at a moment."""

    def crash(now: str, at: int) -> None:
        if (now, at) == (stage, number):
            os.kill(os.getpid(), by)

    return crash


def step_of(directory: RunDirectory) -> int:
    return int(torch.load(directory.checkpoints / "last.ckpt", weights_only=True)["global_step"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    directory = RunDirectory(tmp_path_factory.mktemp("undisturbed"))
    run_toy(directory, toy_config(**EVALUATING))
    return directory


@pytest.mark.parametrize("by", ENDING)
def test_it_leaves_after_the_step_that_follows_and_has_saved_it(tmp_path: Path, by: signal.Signals) -> None:
    directory, config = (
        RunDirectory(tmp_path),
        toy_config(checkpoint__every_steps=None, evaluate__every_steps=None),
    )
    with pytest.raises(Interrupted, match=f"{by.name} after step 2 of 10"):
        run_toy(directory, config, asked("train", 2, by))  # the first micro-batch of step 2
    assert step_of(directory) == 2
    assert (directory.checkpoints / "step.txt").read_text() == "2\n"
    assert not directory.is_finished


@pytest.mark.parametrize("offset", [0, 1], ids=["first", "second"])
def test_asked_in_every_step_it_ends_like_an_undisturbed_run(
    tmp_path: Path, undisturbed: RunDirectory, offset: int
) -> None:
    """In the first or the second of each step's two micro-batches."""
    directory, config, starts = RunDirectory(tmp_path), toy_config(**EVALUATING), 0
    while not directory.is_finished:
        first = 2 * step_of(directory) if starts else 0
        with suppress(Interrupted):
            run_toy(directory, config, asked("train", first + offset))
        starts += 1
    assert starts == (5 if offset == 0 else 3)  # asked in the second one, it leaves a step later
    assert_same_run(directory, undisturbed)


@pytest.mark.parametrize("step", [2, 4])
def test_an_evaluation_that_is_left_is_done_again_from_its_beginning(
    tmp_path: Path, undisturbed: RunDirectory, step: int
) -> None:
    """That of step 4 comes after the last step."""
    directory, config = RunDirectory(tmp_path), toy_config(**EVALUATING)
    for _ in range(2):  # left again where it went on
        with pytest.raises(Interrupted):
            run_toy(directory, config, asked("val", step))
        assert step_of(directory) == step
        assert not rows(directory)[-1].get("val/J&F")
    trained = []
    run_toy(directory, config, lambda stage, number: trained.append(number) if stage == "train" else None)
    assert trained == list(range(2 * step, 8))
    assert_same_run(directory, undisturbed)


def test_asked_in_the_last_step_it_has_nothing_left_but_to_conclude(tmp_path: Path) -> None:
    config = toy_config(trainer__max_steps=2, evaluate__every_steps=None)
    directory, undisturbed = RunDirectory(tmp_path / "asked"), RunDirectory(tmp_path / "undisturbed")
    run_toy(undisturbed, config)
    with pytest.raises(Interrupted):
        run_toy(directory, config, asked("train", 2))
    run_toy(directory, config, asked("train", 3))
    assert directory.is_finished
    assert_same_run(directory, undisturbed)


def test_asked_before_the_first_step_it_leaves_at_once(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with pytest.raises(Interrupted, match="after step 0"):
        run_toy(directory, toy_config(), asked("build", 1))
    assert not directory.config.is_file() and not directory.checkpoints.is_dir()
    run_toy(directory, toy_config())
    assert directory.is_finished


def test_the_handlers_of_before_are_in_force_again() -> None:
    before = {number: signal.getsignal(number) for number in ENDING}
    with listening() as heard:
        assert not heard
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard and heard.by == signal.SIGUSR2
    assert {number: signal.getsignal(number) for number in ENDING} == before


def test_lightning_leaves_the_signals_alone(tmp_path: Path) -> None:
    """Its own handler talks to other ranks from inside the handler."""
    found = []

    def crash(stage: str, number: int) -> None:
        found.append([signal.getsignal(each) for each in ENDING])

    run_toy(RunDirectory(tmp_path), toy_config(trainer__max_steps=1, evaluate__every_steps=None), crash)
    assert {handler.__qualname__ for handlers in found for handler in handlers} == {"Asked.note"}


def test_a_data_worker_dies_of_its_parents_signal_alone() -> None:
    """SLURM signals every process of a job; a worker that died of it would end the run before it could save."""
    code = (
        "import sys, time\nfrom data.loader import settle\nsettle(0)\nprint('in', flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == b"in\n"
        for number in ENDING:
            subprocess.run(["kill", f"-{number.value}", str(worker.pid)], check=True)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(0.3)
        worker.terminate()
        worker.wait(20)


@pytest.mark.slow
def test_two_ranks_leave_together_though_one_is_behind_and_every_process_is_signalled(tmp_path: Path) -> None:
    """What SLURM does: the signal goes to the ranks, to their data workers and, here, to their parent."""
    settings = {
        "data__workers": 2,
        "trainer__devices": 2,
        "checkpoint__every_steps": None,
        "evaluate__every_steps": None,
        "trainer__max_steps": 6,
    }
    undisturbed, directory = RunDirectory(tmp_path / "undisturbed"), RunDirectory(tmp_path / "asked")
    with started(undisturbed, settings) as run:
        assert run.wait(120) == 0
    with started(directory, settings, TOY_SLOW="0:0.5") as run:
        deadline = time.monotonic() + 120
        while not directory.metrics.is_file() or len(rows(directory)) < 2:
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(run.pid, signal.SIGTERM)
        assert run.wait(60) == INTERRUPTED
    assert 2 <= step_of(directory) < 6
    with started(directory, settings) as run:
        assert run.wait(120) == 0
    assert_same_run(directory, undisturbed)


def started(directory: RunDirectory, settings: dict[str, Any], **variables: str) -> subprocess.Popen[bytes]:
    """A start of a toy run as a program, with a process group of its own."""
    command = [sys.executable, "-m", "tests.sam2.training.toy", str(directory.path), json.dumps(settings)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL
    )
