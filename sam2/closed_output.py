"""Who read what we print may have gone: `python train.py ... | head -1` is no failure that deserves a traceback."""

from __future__ import annotations

import os
import select
import sys


def flushed() -> bool:
    """Write out what was printed so far; whether there is anybody to read it.

    At the end of a program, because Python's own flush comes when nobody can answer for it.
    """
    try:
        if sys.stdout is not None:  # as after `>&-`
            sys.stdout.flush()
    except BrokenPipeError:
        if not nobody_reads():
            raise
        return False
    return True


def nobody_reads() -> bool:
    """Whether the reader of standard output or standard error has gone; what is still printed there is thrown away.

    A BrokenPipeError alone does not tell: it can come from a process or a server that we talk to.
    """
    gone = [fd for fd in (1, 2) if _is_closed(fd)]
    # as Python's documentation of SIGPIPE has it; else the interpreter complains once more at its end
    for fd in gone:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, fd)
        os.close(nowhere)
    return bool(gone)


def _is_closed(fd: int) -> bool:
    """Whether the other end of a pipe is closed."""
    look = select.poll()
    look.register(fd, 0)  # errors are told unasked
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in look.poll(0))
