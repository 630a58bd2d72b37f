"""Ends a process in which nothing goes on any more, and first says where every rank stands.

A rank that hangs (in a collective that another rank never reached, on a network disk, in a data worker, in a driver)
would otherwise wait until the process group gives up, without a word about where, or for ever where it is alone.
So that of `launcher.timeout_s` seconds without a sign of life (data/alive.py) none is exceeded,

- a thread of each process looks every second. A little before the time is over it writes the stacks of all threads
  and the state of the data workers into `log/rank-N.txt`, tells the other ranks through `log/hung.txt`, which then do
  the same, gives them time for it, and leaves with exit code 87. Whatever touches a file does so in a thread of its
  own, because a disk that hangs is what it may have to report;
- the kernel's alarm clock is for a process that does not even run that thread, because code in C holds the
  interpreter's lock: faulthandler writes the stacks without that lock, and SIGALRM ends the process (a shell and SLURM
  call that 142).

The process group's own time-out is `GRACE_S` longer, so the stacks come first.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from data.alive import leave, listen
from sam2.evaluation.files import write_atomically
from sam2.training.exit_codes import HUNG
from sam2.training.stacks import end_workers, write_stacks

GRACE_S = 30.0  # at most, from the stacks of the first rank to the end: the others need time for theirs


@contextmanager
def guarded(log: Path, rank: int, world: int, timeout_s: float) -> Iterator[None]:
    """Watch over this process while the block runs.

    Args:
        log: of this rank; stacks are added to it, and `hung.txt` lies beside it.
        rank: of this process; 0 also says on the terminal what happened.
        world: number of processes that end together.
        timeout_s: without a sign of life, by the end of which the process has ended.
    """
    with _alarm(log) as has_alarm:
        watchdog = Watchdog(log, rank, world, timeout_s, has_alarm)
        listen(watchdog.feed)
        watchdog.start()
        try:
            yield
        finally:
            watchdog.stop()
            leave(watchdog.feed)


@dataclass
class Watchdog:
    """Knows when this process last gave a sign of life, and acts if that is too long ago."""

    log: Path
    rank: int
    world: int
    timeout_s: float
    has_alarm: bool
    _sign: tuple[float, str, float] = field(init=False)  # when, doing what, until the next
    _told: str = ""  # by another rank
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._grace_s = min(GRACE_S, self.timeout_s / 4)
        self._notice = self.log.with_name("hung.txt")
        self.feed("starting")

    def feed(self, doing: str, within_s: float | None = None) -> None:
        """A sign of life; the next comes within so many seconds, at most the limit of all."""
        limit = self.timeout_s if within_s is None else min(within_s, self.timeout_s)
        self._sign = (time.monotonic(), doing, limit)

    def start(self) -> None:
        """Begin to watch."""
        self._wind(self.timeout_s)
        for work in (self._watch, self._listen):
            threading.Thread(target=work, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._over.set()

    def _watch(self) -> None:
        """Touches no file, so nothing can hold it up but the interpreter's lock; should it fail, the alarm rings."""
        while not self._over.wait(min(1.0, self._grace_s / 8)):
            at, doing, limit = self._sign
            self._wind(limit)
            if self._told:
                self._end(self._told)
            silent = time.monotonic() - at
            if silent > limit - min(self._grace_s, limit / 4):
                where = f"rank {self.rank} on {socket.gethostname()}"
                self._end(f"{where} hangs: no sign of life for {silent:.0f} s, the last was: {doing}")

    def _wind(self, seconds: float) -> None:
        """Have the alarm ring so many seconds from now, unless it is wound up again before."""
        if self.has_alarm:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def _listen(self) -> None:
        """Hear from the other ranks; what a start before this one left behind is not meant for us."""
        before = self._read()
        while not self._over.wait(min(5.0, self._grace_s / 4)):
            text = self._read()
            if text and text != before:
                self._told = text.strip()
                return

    def _read(self) -> str:
        try:
            return self._notice.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def _end(self, reason: str) -> NoReturn:
        if self.rank == 0:
            text = f"\nerror: {reason}. The stacks of all ranks are in {self.log.parent}/rank-*.txt\n"
            os.write(2, text.encode())
        testimony = threading.Thread(target=self._testify, args=(reason,), daemon=True)
        testimony.start()
        if self.world > 1:
            time.sleep(self._grace_s)  # the first bad exit takes the others with it
        else:
            testimony.join(self._grace_s)
        end_workers()
        os._exit(HUNG)

    def _testify(self, reason: str) -> None:
        if not self._told:
            when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            write_atomically(self._notice, f"{reason} ({when}, process {os.getpid()})\n")
        write_stacks(self.log, f"{reason}. The last sign of life of rank {self.rank}: {self._sign[1]}")


@contextmanager
def _alarm(log: Path) -> Iterator[bool]:
    """Have SIGALRM write all stacks and end the process; False where somebody else uses that signal."""
    if not hasattr(signal, "setitimer") or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        yield False
        return
    with log.open("ab") as file:
        # chain: what the signal does by itself, which is to end the process, comes after the stacks
        faulthandler.register(signal.SIGALRM, file, all_threads=True, chain=True)
        try:
            yield True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.unregister(signal.SIGALRM)
