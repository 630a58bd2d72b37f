"""Which start of a run may write: the newest one.

A node that is given up for dead can go on working, and SLURM starts the job again elsewhere; then two starts have one
run directory. Each start writes down who it is (`.incarnation.json`); one that finds a newer one there stops itself,
before its next write and within seconds anyway.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from sam2.evaluation.files import write_atomically
from sam2.training.errors import Superseded

log = logging.getLogger(__name__)

_FILE = ".incarnation.json"
_EVERY_S = 5.0


@dataclass(frozen=True)
class Incarnation:
    """One start of a run.

    `job` is the scheduler's name of the job, None without one; `restart` counts how often it was requeued. `token` is
    new in every start and known to rank 0, which writes, alone.
    """

    job: str | None
    restart: int
    token: str = ""
    host: str = ""
    pid: int = 0

    @classmethod
    def current(cls, environment: Mapping[str, str] = os.environ) -> Incarnation:
        """That of this process."""
        job = environment.get("SLURM_ARRAY_JOB_ID", environment.get("SLURM_JOB_ID"))
        task = environment.get("SLURM_ARRAY_TASK_ID")
        name = f"{job}_{task}" if job and task else job
        restart = int(environment.get("SLURM_RESTART_COUNT", 0))
        return cls(name, restart, secrets.token_hex(8), socket.gethostname(), os.getpid())

    def is_newer_than(self, other: Incarnation) -> bool:
        """Whether it is a later start of the same job."""
        return self.job is not None and self.job == other.job and self.restart > other.restart

    def __str__(self) -> str:
        what = f"restart {self.restart} of job {self.job}" if self.job else "another start"
        return f"{what} (process {self.pid} on {self.host})"


def was_claimed(folder: Path) -> bool:
    """Whether a start has been here; none takes a folder with files of somebody else's."""
    return (folder / _FILE).is_file()


class Fence:
    """Keeps one start of a run from writing once a newer one has begun."""

    def __init__(self, folder: Path, own: Incarnation, is_writer: bool) -> None:
        self._path, self._own, self._is_writer = folder / _FILE, own, is_writer

    def claim(self) -> None:
        """Take the run over.

        Raises:
            Superseded: a later start of the same job has it.
        """
        there = self._read()
        if there is not None and there.is_newer_than(self._own):
            raise Superseded(self._refusal(there))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps(asdict(self._own)) + "\n")

    def check(self) -> None:
        """To be called before anything is written.

        Raises:
            Superseded: this start has no business here any more.
        """
        there = self._read()
        if there is None:
            return
        if there.is_newer_than(self._own) or (self._is_writer and there.token != self._own.token):
            raise Superseded(self._refusal(there))

    @contextmanager
    def watched(self, every_s: float = _EVERY_S) -> Iterator[None]:
        """Look every few seconds, from a thread: whoever waits for ranks that are gone would never look himself."""
        is_over = threading.Event()

        def look() -> None:
            while not is_over.wait(every_s):
                try:
                    self.check()
                except OSError as error:  # a network disk that is away for a moment
                    log.warning("%s cannot be read (%s)", self._path, error)
                except Superseded as leaving:
                    print(leaving, file=sys.stderr, flush=True)
                    os._exit(leaving.code)

        thread = threading.Thread(target=look, name="fence", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def _read(self) -> Incarnation | None:
        try:
            return Incarnation(**json.loads(self._path.read_text()))
        except FileNotFoundError:
            return None

    def _refusal(self, there: Incarnation) -> str:
        return f"{self._path.parent} has been taken over by {there}; this start writes nothing any more"
