"""A run that is killed and started again ends exactly like one that was left alone."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sam2.training.errors import TrainingError
from sam2.training.rundir import RunDirectory
from tests.sam2.training.toy import run_toy, toy_config

ROOT = Path(__file__).parents[3]
TIMED = {"clips_per_s", "waiting_for_data", "memory_gb"}


class Killed(Exception):
    pass


def rows(directory: RunDirectory) -> list[dict[str, str]]:
    """The metrics that do not depend on the clock."""
    with directory.metrics.open() as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]


def weights(directory: RunDirectory, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    content = torch.load(directory.checkpoints / name, weights_only=True)
    return {**content["state_dict"], **moments(content)}


def moments(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What the optimiser remembers; none in a file of weights alone."""
    found = {}
    for states in content.get("optimizer_states", []):
        for number, state in states["state"].items():
            found |= {f"{number}.{key}": value for key, value in state.items()}
    return found


def assert_same_run(actual: RunDirectory, expected: RunDirectory) -> None:
    assert rows(actual) == rows(expected)
    for name in ("last.ckpt", "best.ckpt"):
        if name == "best.ckpt" and not (expected.checkpoints / name).exists():
            continue
        a, b = weights(actual, name), weights(expected, name)
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), name


def killed_at(stage: str, number: int) -> Any:
    def crash(now: str, at: int) -> None:
        if (now, at) == (stage, number):
            raise Killed

    return crash


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    directory = RunDirectory(tmp_path_factory.mktemp("undisturbed"))
    run_toy(directory, toy_config())
    return directory


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "trainer__accumulate": 1,
            "trainer__max_steps": 8,
            "checkpoint__every_steps": 4,
            "evaluate__every_steps": 2,
        },
        {
            "trainer__accumulate": 3,
            "trainer__max_steps": 4,
            "checkpoint__every_steps": 1,
            "evaluate__every_steps": None,
        },
        {"trainer__max_steps": 4, "data__workers": 2},
    ],
    ids=["accumulating", "evaluating-often", "saving-often", "workers"],
)
def test_a_run_killed_at_every_micro_batch_in_turn_ends_like_an_undisturbed_one(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = toy_config(**settings)
    directory, undisturbed = RunDirectory(tmp_path / "killed"), RunDirectory(tmp_path / "undisturbed")
    run_toy(undisturbed, config)
    for micro_batch in range(int(config.trainer.max_steps or 0) * config.trainer.accumulate):
        with pytest.raises(Killed):
            run_toy(directory, config, killed_at("train", micro_batch))
    run_toy(directory, config)
    assert_same_run(directory, undisturbed)


@pytest.mark.parametrize("step", [3, 6, 9])
def test_a_run_killed_during_an_evaluation_repeats_that_evaluation(
    tmp_path: Path, undisturbed: RunDirectory, step: int
) -> None:
    directory = RunDirectory(tmp_path)
    with pytest.raises(Killed):
        run_toy(directory, toy_config(), killed_at("val", step))
    run_toy(directory, toy_config())
    assert_same_run(directory, undisturbed)


def test_a_run_killed_after_its_last_step_only_concludes(tmp_path: Path, undisturbed: RunDirectory) -> None:
    directory = RunDirectory(tmp_path)
    with pytest.raises(Killed):
        run_toy(directory, toy_config(), killed_at("after", 1))
    assert not directory.is_finished
    run_toy(directory, toy_config(), killed_at("train", 19))
    assert directory.is_finished
    assert_same_run(directory, undisturbed)


def start(directory: Path, settings: dict[str, Any], kill: str = "", nan: str = "") -> int:
    """One start of a toy run as a program; its exit code."""
    command = [sys.executable, "-m", "tests.sam2.training.toy", str(directory), json.dumps(settings)]
    environment = {**os.environ, "TOY_KILL": kill, "TOY_NAN": nan, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, timeout=300).returncode


def on_cpus(devices: int, workers: int) -> dict[str, Any]:
    return {"data__workers": workers, "trainer__devices": devices, "trainer__accelerator": "cpu"}


@pytest.mark.slow
def test_ranks_leave_out_the_same_step_when_one_of_them_has_no_finite_gradient(tmp_path: Path) -> None:
    assert start(tmp_path, on_cpus(2, workers=0), nan="1:6") == 0
    skipped = [row["skipped_steps"] for row in rows(RunDirectory(tmp_path))]
    assert skipped == ["0.0"] * 3 + ["1.0"] * 7
    logs = [RunDirectory(tmp_path).log(rank).read_text() for rank in (0, 1)]
    assert all("step 4: gradients are not finite" in log for log in logs)


def test_a_full_disk_ends_the_run_with_the_reason_and_costs_what_came_after_the_last_checkpoint(
    tmp_path: Path, undisturbed: RunDirectory
) -> None:
    directory = RunDirectory(tmp_path)

    def fill(stage: str, number: int) -> None:
        if (stage, number) == ("train", 10):
            (directory.checkpoints / "last.ckpt.tmp").symlink_to("/dev/full")

    with pytest.raises(TrainingError, match=r"last\.ckpt of step 6 could not be written: .*No space left"):
        run_toy(directory, toy_config(), fill)
    assert not list(directory.checkpoints.glob("*.tmp"))
    assert (directory.checkpoints / "step.txt").read_text() == "4\n"
    run_toy(directory, toy_config())
    assert_same_run(directory, undisturbed)
