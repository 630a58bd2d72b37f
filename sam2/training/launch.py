"""Start the ranks of a run on this machine, one process each, and end together with them.

The parent only watches: no rank outlives it (the kernel kills them, even after a kill -9), a rank that fails takes
the others with it, and its last words are repeated. What asks the parent to end is passed on to the ranks, which save
and leave together. Ranks get the run directory and read their settings there, so
neither Hydra nor the command line is involved again. Under SLURM and torchrun this file is not used.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sam2.training.environment import usable_cores
from sam2.training.errors import Interrupted
from sam2.training.exit_codes import HUNG, INTERRUPTED, RANK_LOST
from sam2.training.signals import ENDING

_GRACE_S = 10.0  # between asking the other ranks to end and killing them
_LEAVING_S = 60.0  # for ranks that leave together, between the first and the last one
PARENT = "SAM2_PARENT_PID"  # of the process that this one is not to outlive
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_HUNG = " (it hung; log/hung.txt says which rank did first, log/rank-*.txt where each of them stood)"
_CAUSES = {
    137: " (killed from outside; most likely the machine ran out of memory)",
    HUNG: _HUNG,
    128 + signal.SIGALRM: _HUNG,  # code in C held the interpreter's lock, see watchdog.py
}


class LaunchError(RuntimeError):
    """A rank failed; `code` is its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def run_ranks(
    command: Sequence[str], count: int, log: Callable[[int], Path], threads: int | None = None
) -> None:
    """Run `command` once for every rank and wait for all of them.

    Args:
        command: the same for all; they differ in RANK and LOCAL_RANK.
        count: number of ranks.
        log: names the file a rank speaks into; rank 0 speaks on our own terminal.
        threads: of each rank; None: OMP_NUM_THREADS, or the cores divided among them.

    Raises:
        LaunchError: a rank ended with an error; the others are stopped.
        Interrupted: the ranks were asked to end, and did.
    """
    port = _free_port()
    ranks: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: object) -> None:
        for rank in ranks:
            rank.send_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in ENDING}
    try:
        for rank in range(count):
            environment = {**os.environ, **_variables(rank, count, port, threads)}
            log(rank).parent.mkdir(parents=True, exist_ok=True)
            said = None if rank == 0 else log(rank).open("ab")
            ranks.append(
                subprocess.Popen(command, env=environment, stdout=said, stderr=said and subprocess.STDOUT)
            )
            if said is not None:
                said.close()
        failed = _wait(ranks)
        if failed is not None and ranks[failed].returncode in (INTERRUPTED, RANK_LOST):
            _await(ranks, _LEAVING_S)
            failed = _to_blame(ranks, failed)
    finally:
        _end(ranks)
        for number, handler in previous.items():
            signal.signal(number, handler)
    if failed is not None:
        code = ranks[failed].returncode
        code = 128 - code if code < 0 else code
        if code == INTERRUPTED:
            raise Interrupted("interrupted; everything is saved, the same command continues")
        cause = _CAUSES.get(code, "")
        last_words = f"; it said:\n{_tail(log(failed))}" if failed else ""
        raise LaunchError(f"rank {failed} of {count} ended with exit code {code}{cause}{last_words}", code)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the one that started it ends. Linux only; elsewhere it does nothing."""
    parent = os.environ.get(PARENT)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before we asked
        os.kill(os.getpid(), signal.SIGKILL)


def _variables(rank: int, count: int, port: int, threads: int | None) -> dict[str, str]:
    share = threads or int(os.environ.get("OMP_NUM_THREADS") or max(1, usable_cores() // count))
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(share),
        PARENT: str(os.getpid()),
    }


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait until all ranks ended well, or one did not; then that one's number."""
    while True:
        codes = [rank.poll() for rank in ranks]
        failed = next((number for number, code in enumerate(codes) if code), None)
        if failed is not None or all(code == 0 for code in codes):
            return failed
        time.sleep(0.05)


def _to_blame(ranks: Sequence[subprocess.Popen[bytes]], found: int) -> int:
    """The rank that others lost, where `found` is one of those."""
    ended_badly = (n for n, rank in enumerate(ranks) if rank.returncode not in (None, 0, RANK_LOST))
    return next(ended_badly, found) if ranks[found].returncode == RANK_LOST else found


def _end(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask the ranks that still run to end, then make them: one that waits for a dead one would not hear."""
    for rank in ranks:
        rank.terminate()
    _await(ranks, _GRACE_S)
    for rank in ranks:
        rank.kill()
        rank.wait()


def _await(ranks: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    """Wait until all ranks have ended, but not longer than this."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(rank.poll() is None for rank in ranks):
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(path: Path, lines: int = 15) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
