"""Signs of life: work that can be long says that it goes on, to whoever watches over this process.

Only the main thread counts. Others copy ahead or display, and may well go on while the work itself is stuck.
"""

from __future__ import annotations

import threading
from typing import Protocol


class Listener(Protocol):
    """Is told what the main thread does, and that the next sign will come within so many seconds (None: some time)."""

    def __call__(self, doing: str, within_s: float | None) -> None:
        """Take note."""


_listeners: list[Listener] = []


def alive(doing: str, within_s: float | None = None) -> None:
    """Say that the main thread gets on, and with what; costs nothing where nobody listens."""
    if _listeners and threading.current_thread() is threading.main_thread():
        for listener in _listeners:
            listener(doing, within_s)


def listen(listener: Listener) -> None:
    """Have `listener` called at every sign of life from now on."""
    _listeners.append(listener)


def leave(listener: Listener) -> None:
    """Have it called no more."""
    _listeners.remove(listener)
