"""slurm/train.sbatch, run by a plain shell with an `srun` that does what SLURM's would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
JOB = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NAME": "sam2-train",
    "SLURM_JOB_NODELIST": "localhost",
    "SLURM_NODELIST": "localhost",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
}
# starts the command behind srun's options twice, numbered as SLURM numbers tasks; the worst exit code is its own
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
pids=()
for task in 0 1; do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" & pids+=($!)
done
worst=0
for pid in "${pids[@]}"; do wait "$pid" || worst=$?; done
exit $worst
"""


def submit(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What sbatch would do with the template in `folder`."""
    (folder / "bin").mkdir(exist_ok=True)
    srun = folder / "bin" / "srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, **JOB, "PATH": path, "SLURM_SUBMIT_DIR": str(folder), **variables}
    script = ["bash", str(ROOT / "slurm" / "train.sbatch"), *arguments]
    return subprocess.run(script, env=environment, capture_output=True, text=True, timeout=300)


def test_every_task_gets_the_arguments_and_one_run_directory(tmp_path: Path) -> None:
    words = "' '.join([os.environ['SLURM_PROCID'], *sys.argv[1:]])"
    (tmp_path / "train.py").write_text(f"import os, sys\nos.write(1, ({words} + '\\n').encode())\n")
    done = submit(tmp_path, "recipes/smoke.yaml", "goal=two words", PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    place = "run_dir=runs/slurm-77 trainer.nodes=1 trainer.devices=2"
    wanted = [f"{task} recipes/smoke.yaml goal=two words {place}" for task in (0, 1)]
    assert sorted(done.stdout.splitlines())[:2] == wanted
    done = submit(tmp_path, "smoke", PYTHON=sys.executable, RUN_DIR="elsewhere")
    assert "run_dir=elsewhere" in done.stdout


def test_the_exit_code_is_the_trainings(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import sys\nsys.exit(7)\n")
    assert submit(tmp_path, "smoke", PYTHON=sys.executable).returncode == 7


def test_outside_of_slurm_it_says_how_it_is_meant(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
    script = ["bash", str(ROOT / "slurm" / "train.sbatch"), "smoke"]
    done = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "sbatch" in done.stderr and "unbound" not in done.stderr


@pytest.mark.slow
def test_two_tasks_train_together_and_a_requeued_job_finds_its_run(tmp_path: Path) -> None:
    variables = {"PYTHON": sys.executable, "SAM2_HOME": str(ROOT), "MASTER_ADDR": "127.0.0.1"}
    settings = (
        "smoke",
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "evaluate.at_start=false",
        "trainer.max_steps=2",
    )
    done = submit(tmp_path, *settings, **variables)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "slurm-77"
    assert (run / "export" / "model.pt").is_file()
    assert (run / "log" / "rank-0.txt").is_file() and (run / "log" / "rank-1.txt").is_file()
    again = submit(tmp_path, *settings, **variables, SLURM_RESTART_COUNT="1")
    assert again.returncode == 0 and again.stdout.count("is finished") == 2
