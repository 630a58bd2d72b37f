"""`sam2 eval` in processes of its own: killed in its work, or several at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = Path(sys.executable).with_name("sam2")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
TIMEOUT_S = 120


def kill_after(words: list[object], has_begun: Callable[[], object], folder: Path) -> None:
    """Start `sam2 eval WORDS` in a folder and kill it as soon as something is there."""
    command = [str(PROGRAM), "eval", *map(str, words)]
    process = subprocess.Popen(command, env=ENVIRONMENT, cwd=folder, stdout=subprocess.PIPE)
    deadline = time.monotonic() + TIMEOUT_S
    while not has_begun() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"


def run_two(words: list[object], folder: Path) -> None:
    """`sam2 eval WORDS` in two processes of torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    program = ["--no-python", str(PROGRAM), "eval", *map(str, words)]
    subprocess.run(
        [*torchrun, *program], check=True, env=ENVIRONMENT, cwd=folder, capture_output=True, timeout=TIMEOUT_S
    )
