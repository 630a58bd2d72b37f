"""The demo shows learning: what `make demo` runs after the installation, on two of the seeds of recipes/README.md."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sam2.build_sam import build_sam2
from sam2.evaluation.report import read_results

ROOT = Path(__file__).parents[1]
MARGIN = 30.0  # points of J&F above the best of the baselines
MEMORY_GB = 4.0


SEEDS = (0, 3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The demo with two seeds at a time, each with one thread: its folder, what it printed and its exit code."""
    env = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    started = {}
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp(f"demo-{seed}")
        words = [f"seed={seed}", f"runs={folder}", f"run_id=seed-{seed}"]
        with (folder / "output.txt").open("w") as output:
            command = [sys.executable, str(ROOT / "train.py"), *words]
            process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT)
        started[seed] = (folder, process)
    try:
        ended = {seed: process.wait(timeout=1500) for seed, (_, process) in started.items()}
    finally:
        for _, process in started.values():
            process.kill()
    return {
        seed: (folder, (folder / "output.txt").read_text(), ended[seed])
        for seed, (folder, _) in started.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_demo_learns_to_track_far_beyond_its_baselines(runs, seed):
    folder, printed, code = runs[seed]
    assert code == 0, printed

    run = folder / "demo" / f"seed-{seed}"
    report = read_results(run / "eval" / "results.json")
    scores = {found.name: found.jf for found in report.results}
    print(f"seed {seed}: " + ", ".join(f"{name} {score:.1f}" for name, score in scores.items()))
    assert set(scores) == {"untrained", "copy first mask", "every pixel", "all foreground", "trained"}
    assert scores["trained"] >= report.best_baseline.jf + MARGIN
    with (run / "metrics.csv").open() as file:
        memory = [float(row["memory_gb"]) for row in csv.DictReader(file) if row["memory_gb"]]
    assert max(memory) < MEMORY_GB
    build_sam2("demo", run / "export" / "model.pt", device="cpu")
    for shown in ("export/model.pt", "eval/results.json", "metrics.csv", "report.html"):
        assert str(run / shown) in printed
    assert list((run / "eval").glob("*.mp4"))
