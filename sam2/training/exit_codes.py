"""What the exit code of a training process says; batch scripts and schedulers act on it."""

from __future__ import annotations

FAILED = 1  # the message says all: settings, data, weights, disk
REFUSED = 2  # settings that make no sense, before anything was written
UNEXPECTED = 70  # a traceback says what (EX_SOFTWARE)
INTERRUPTED = 85  # asked to end by a signal; everything is saved, the same start continues
SUPERSEDED = 86  # a newer start of the same run has taken over; nothing was written since
HUNG = 87  # no sign of life for `launcher.timeout_s`; the stacks of all ranks are in log/ (142: not even Python ran)
RANK_LOST = 88  # another rank went away or does not answer; what became of that one says why
STOPPED = 130  # Ctrl-C
