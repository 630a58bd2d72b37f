"""Signals that ask a run to end: USR1, USR2 and TERM, sent by schedulers before a time limit or a preemption.

A handler does nothing but remember. Saving in a handler, as Lightning 2.6.6 does, deadlocks where one rank is waiting
for another, and happens once more in every data worker; what is remembered here is acted on between two steps, by all
ranks together (preempt.py).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


class Asked:
    """Whether this process was asked to end: by which signal first, or None."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        self.by = self.by or signal.Signals(number)

    def __bool__(self) -> bool:
        return self.by is not None


_for_life: list[Asked] = []  # at most one


def hold() -> None:
    """Remember the signals from now on until this process ends, or `release`.

    For a task of a batch job: one that comes while packages are imported costs no restart. And srun ends the tasks that
    are left when one has failed; a task that is on its way out by itself is not to die of that with another exit code.
    """
    asked = Asked()
    _for_life.append(asked)
    for number in ENDING:
        signal.signal(number, asked.note)


def release() -> None:
    """End what `hold` began, for work that does not ask whether it was asked; what came meanwhile is felt now."""
    while _for_life:
        asked = _for_life.pop()
        for number in ENDING:
            signal.signal(number, signal.SIG_DFL)
        if asked.by is not None:
            os.kill(os.getpid(), asked.by)


def ignore() -> None:
    """Feel the signals no more: for a process whose exit code is settled.

    Python forgets its handlers before a process ends, which torch takes a while to; who is hit then would end with the
    signal's exit code instead.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def listening() -> Iterator[Asked]:
    """Remember the signals instead of dying of them; at the end what was in force before is again."""
    if _for_life:
        yield _for_life[-1]
        return
    asked = Asked()
    before = {number: signal.signal(number, asked.note) for number in ENDING}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
