"""A run whose ranks torchrun starts, as slurm/README.md has it for machines without a scheduler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_two_processes_of_torchrun_train_one_run(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["smoke", "trainer=ddp", "trainer.accelerator=cpu", "run_id=first", "evaluate.at_start=false"]
    short = ["evaluate.every_steps=null", "evaluate.overlay=false", "trainer.max_steps=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*torchrun, str(ROOT / "train.py"), *words, *short]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "smoke" / "first"
    assert json.loads((run / "run.json").read_text())["finished"]["step"] == 2
    assert (run / "log" / "rank-1.txt").is_file() and (run / "export" / "model.pt").is_file()
    assert "2 CPU processes" in (run / "log" / "rank-0.txt").read_text()
