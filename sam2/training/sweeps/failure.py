"""A run of a sweep that did not come to its end."""

from __future__ import annotations

import signal

from sam2.training.exit_codes import INTERRUPTED, STOPPED

PASSED_ON = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # what a sweep is told is for its run


class RunFailed(RuntimeError):
    """The message says where to look; `code` is the run's exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code

    @property
    def ends_all(self) -> bool:
        """Whether somebody stopped it, which means the whole sweep."""
        return self.code in (STOPPED, INTERRUPTED, *(128 + number for number in PASSED_ON))
