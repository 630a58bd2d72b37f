"""What ends a run before its time."""

from __future__ import annotations

from sam2.training.exit_codes import INTERRUPTED, SUPERSEDED


class TrainingError(RuntimeError):
    """Training cannot go on; the message says since when and what to try."""


class Interrupted(Exception):
    """The run was asked to end and all ranks left it together; the same start continues it."""

    code = INTERRUPTED


class Superseded(Exception):
    """A newer start of the run has taken over; this one writes nothing any more."""

    code = SUPERSEDED
