"""What goes wrong between us and the batch system."""

from __future__ import annotations


class BatchError(RuntimeError):
    """SLURM is not here, or refused; the message says what to do."""


class NoSlurmError(BatchError):
    """There is no SLURM on this machine."""


class NoAnswerError(BatchError):
    """SLURM did not answer in time; it may have done what it was asked for."""
