"""What ends a run before its time."""

from __future__ import annotations

import re

from sam2.training.exit_codes import INTERRUPTED, SUPERSEDED

# what gloo, NCCL and the store say where another process has gone or is silent
_OF_ANOTHER = re.compile(
    "Connection closed by peer|Connection reset by peer|Broken pipe|Timed out waiting|Application timeout"
    "|remote process exited|recvValue failed|sendBytes failed"
)


class TrainingError(RuntimeError):
    """Training cannot go on; the message says since when and what to try."""


class Interrupted(Exception):
    """The run was asked to end and all ranks left it together; the same start continues it."""

    code = INTERRUPTED


class Superseded(Exception):
    """A newer start of the run has taken over; this one writes nothing any more."""

    code = SUPERSEDED


def of_another_rank(error: BaseException) -> str:
    """What `error` says of another rank that has gone or is silent, in few words; empty if it is about this one."""
    # not an error of a subclass of ours, which may speak of a data server
    is_torchs = type(error) is RuntimeError or type(error).__module__.startswith("torch")
    found = _OF_ANOTHER.search(str(error)) if is_torchs else None
    return found[0] if found else ""
