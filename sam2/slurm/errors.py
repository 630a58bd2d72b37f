"""What goes wrong between us and the batch system."""

from __future__ import annotations


class BatchError(RuntimeError):
    """SLURM is not here, or refused; the message says what to do."""
