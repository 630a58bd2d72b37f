"""The main job as a user starts it: real shards, the real model, real processes, killed and started again."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sam2.build_sam import build_sam2
from sam2.checkpoint import load
from tests.sam2.training.witness import seen

ROOT = Path(__file__).parents[3]
TIMED = {"clips_per_s", "waiting_for_data", "memory_gb"}
STEPS = 6

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def train(
    runs: Path, name: str, *settings: str, kill: str = "", recipe: str = "smoke"
) -> subprocess.CompletedProcess[str]:
    """`python train.py RECIPE ...` in a folder that is not the repository's."""
    command = [sys.executable, str(ROOT / "train.py"), recipe, f"runs={runs}", f"run_id={name}"]
    command += [
        f"synthetic.folder={runs / 'videos'}",
        "synthetic.train=7",  # no multiple of the global batch: shards and epochs are uneven
        f"trainer.max_steps={STEPS}",
        "evaluate.at_start=false",
        "evaluate.overlay=false",
        "launcher.threads=1",
        "+callbacks.witness._target_=tests.sam2.training.witness.Witness",
        *settings,
    ]
    env = {**os.environ, "WITNESS_KILL": kill, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=runs, env=env, capture_output=True, text=True, timeout=600, check=False
    )


def finished(runs: Path, name: str, *settings: str) -> Path:
    result = train(runs, name, *settings)
    assert result.returncode == 0, result.stdout + result.stderr
    return runs / "smoke" / name


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]


def weights(path: Path) -> dict[str, torch.Tensor]:
    content = torch.load(path, weights_only=True)
    return content.get("state_dict") or content["model"]


@pytest.fixture(scope="module")
def undisturbed(runs):
    """Uninterrupted runs, by number of processes."""
    return {n: finished(runs, f"undisturbed-{n}", f"trainer.devices={n}", "data.workers=0") for n in (1, 2)}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_killed_and_started_again_equals_an_undisturbed_one(runs, undisturbed, processes, workers):
    name = f"killed-{processes}-{workers}"
    settings = [f"trainer.devices={processes}", f"data.workers={workers}"]
    killed = train(runs, name, *settings, kill=f"{processes - 1}:5")
    run, expected = runs / "smoke" / name, undisturbed[processes]
    assert killed.returncode != 0
    assert not json.loads((run / "run.json").read_text())["finished"]

    finished(runs, name, *settings)

    for rank in range(processes):
        assert sorted(seen(run, rank)) == list(range(STEPS))
        assert seen(run, rank) == seen(expected, rank)
    assert rows(run) == rows(expected)
    for file in ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "export/model.pt"):
        actual, wanted = weights(run / file), weights(expected / file)
        assert actual.keys() == wanted.keys()
        assert all(torch.equal(actual[key], wanted[key]) for key in wanted), file


def test_two_processes_see_different_clips_and_keep_equal_weights(undisturbed):
    run = undisturbed[2]
    first, second = seen(run, 0), seen(run, 1)
    assert all(first[step] != second[step] for step in range(STEPS))
    hashes = {(run / "log" / f"weights-{rank}.txt").read_text() for rank in range(2)}
    assert len(hashes) == 1


def test_the_exported_model_loads_through_build_sam2(undisturbed):
    run = undisturbed[1]
    model = build_sam2("test", run / "export" / "model.pt", device="cpu")
    trained = weights(run / "checkpoints" / "last.ckpt")
    for key, value in model.state_dict().items():
        assert torch.equal(value, trained[f"model.{key}"])
    report = load(model, run / "checkpoints" / "last.ckpt")
    assert set(report.matched) == set(model.state_dict())
