"""A bar for work that can be counted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counted(verb: str, unit: str, scale: float = 1) -> Iterator[Callable[[int, int], None]]:
    """Show how much is done and the time left, on a terminal; nothing elsewhere.

    Args:
        verb: what is going on.
        unit: of what is counted, after `scale`.
        scale: from what is passed in to what is shown.

    Yields:
        A function to call with (done, in all).
    """
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
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(verb, total=None, count="")

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, count=f"{done * scale:.0f}/{total * scale:.0f}")

        yield update
