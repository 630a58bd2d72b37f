"""Signals that ask a run to end: USR1, USR2 and TERM, sent by schedulers before a time limit or a preemption.

A handler does nothing but remember. Saving in a handler, as Lightning 2.6.6 does, deadlocks where one rank is waiting
for another, and happens once more in every data worker; what is remembered here is acted on between two steps, by all
ranks together (preempt.py).
"""

from __future__ import annotations

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


@contextmanager
def listening() -> Iterator[Asked]:
    """Remember the signals instead of dying of them; at the end what was in force before is again."""
    asked = Asked()
    before = {number: signal.signal(number, asked.note) for number in ENDING}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
