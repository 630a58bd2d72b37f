"""The most memory that a process has held."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands a peak down to child processes")
def test_memory_of_a_process_leaves_out_the_one_that_started_it():
    held = bytearray(1 << 31)
    held[:: 1 << 12] = b"x" * (1 << 19)
    command = [sys.executable, "-c", "from sam2.peak_memory import memory_gb; print(memory_gb())"]
    own = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0.05 < own < len(held) / 1e9
