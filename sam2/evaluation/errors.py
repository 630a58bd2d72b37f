"""What stops an evaluation."""

from __future__ import annotations


class EvaluationError(ValueError):
    """Input that cannot be scored; the message names the file, what was expected and found, and what to do."""
