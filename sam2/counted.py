"""A bar for work that can be counted; where there is no terminal, a line a minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

_SECONDS = 60.0  # between two lines of a log


@contextmanager
def counted(verb: str, unit: str, scale: float = 1) -> Iterator[Callable[[int, int], None]]:
    """Show how much is done and the time left: a bar on a terminal, else (a batch job's log) a line a minute.

    Args:
        verb: what is going on.
        unit: of what is counted, after `scale`.
        scale: from what is passed in to what is shown.

    Yields:
        A function to call with (done, in all).
    """
    if not sys.stderr.isatty():
        yield _lines(verb, unit, scale)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn(verb),
        BarColumn(),
        TextColumn("{task.fields[count]} " + unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(verb, total=None, count="")

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, count=f"{done * scale:.0f}/{total * scale:.0f}")

        yield update


def _lines(verb: str, unit: str, scale: float) -> Callable[[int, int], None]:
    """Lines on stderr; none for work that is done within the first minute."""
    began = last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _SECONDS or not 0 < done < total:
            return
        last, passed = now, now - began
        left = timedelta(seconds=round(passed / done * (total - done)))
        count = f"{done * scale:.0f}/{total * scale:.0f} {unit}"
        line = f"{verb}: {count}, {timedelta(seconds=round(passed))}, about {left} left"
        print(line, file=sys.stderr, flush=True)

    return update
