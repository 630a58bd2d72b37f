"""The most memory that a process has held."""

from __future__ import annotations

import sys
from pathlib import Path

import torch


def memory_gb() -> float:
    """Peak memory of this process so far, 1e9 bytes: of its GPU if it has one, else resident."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e9
    if sys.platform == "linux":
        # ru_maxrss would count the process that started this one: Linux hands that peak down through fork and exec
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
