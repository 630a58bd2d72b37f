"""Where a process stands: the stacks of its threads, and what its data workers are doing."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_WORKERS_S = 0.5  # for workers to write their own stacks
_WAITS = {  # by the file of the code that waits
    "torch/utils/data/dataloader.py": "waits for a data worker",
    "torch/distributed/distributed_c10d.py": "waits for other ranks",
}


def write_stacks(log: Path, reason: str) -> None:
    """Add to `log` why, the stacks of all threads, and the state of every worker process.

    Workers that can (data/loader.py) add their own stacks.
    """
    workers = multiprocessing.active_children()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n==== {time.strftime('%Y-%m-%d %H:%M:%S')} {reason}\n")
        if waits := _main_thread_waits():
            file.write(f"the main thread {waits}\n")
        for worker in workers:
            file.write(f"worker process {worker.pid} ({worker.name}): {_state(worker.pid or 0)}\n")
        file.flush()
        faulthandler.dump_traceback(file, all_threads=True)
    asked = [worker.pid for worker in workers if worker.pid and _can_tell(worker.pid)]
    for pid in asked:
        os.kill(pid, signal.SIGQUIT)
    if asked:
        time.sleep(_WORKERS_S)


def end_workers() -> None:
    """Kill the worker processes: one that hangs would not notice that nobody wants its batches any more."""
    for worker in multiprocessing.active_children():
        worker.kill()


def _main_thread_waits() -> str:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        for place, waits in _WAITS.items():
            if frame.f_code.co_filename.endswith(place):
                return waits
        frame = frame.f_back
    return ""


def _status(pid: int) -> Iterator[tuple[str, str]]:
    """What Linux tells about a process; nothing elsewhere, or if it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return
    for line in text.splitlines():
        name, _, value = line.partition(":")
        yield name, value.strip()


def _state(pid: int) -> str:
    """As in `S (sleeping)`; `D (disk sleep)` is a disk that does not answer."""
    return dict(_status(pid)).get("State", "state unknown")


def _can_tell(pid: int) -> bool:
    """Whether the process answers SIGQUIT with its stacks; any other would die of it."""
    caught = int(dict(_status(pid)).get("SigCgt", "0"), 16)
    return bool(caught >> (signal.SIGQUIT - 1) & 1)
