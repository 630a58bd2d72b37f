"""`sam2 replay`: a step of a run once more, on one process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

DEVICES = ("auto", "cpu", "cuda")


def replay_step(
    path: Path, step: int | None, rank: int | None, device: str, backward: bool, anomaly: bool
) -> int:
    """Play a step again and say what is found.

    Returns:
        The exit code: 0 if the step came out as in the run, 1 if not or if it cannot be played, 2 for options that
        cannot be meant.
    """
    if device not in DEVICES:
        print(f"error: --device {device}: choose one of {', '.join(DEVICES)}", file=sys.stderr)
        return 2
    from data.clip import DataError
    from sam2.checkpoint import CheckpointError
    from sam2.training.errors import TrainingError
    from sam2.training.replay import Wanted, replay
    from sam2.training.typed import ConfigError

    try:
        found = replay(Wanted(path, step, rank, cast(Any, device), backward, anomaly), print)
    except (DataError, CheckpointError, TrainingError, ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if found else 1
