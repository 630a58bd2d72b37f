"""Where an evaluation runs: which share of the work is this process's, on which device, with which weights exactly."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch

from sam2.evaluation.errors import EvaluationError
from sam2.training.environment import Processes


def find_place(share: str | None, around: Processes) -> tuple[int, int]:
    """Which share of how many is this process's, from 0: `share` K/N from 1, or else what started it says.

    Raises:
        EvaluationError: `share` is not such a pair.
    """
    if share is None:
        return around.rank, around.world
    first, _, last = share.partition("/")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise EvaluationError(f"share is {share!r}; expected K/N with K from 1 to N, such as 2/8")
    return int(first) - 1, int(last)


def find_device(name: str | None) -> torch.device:
    """The device that was named, else this process's GPU, else the CPU.

    Raises:
        EvaluationError: there is none of that name.
    """
    if name is not None:
        try:
            return torch.zeros(1, device=name).device
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise EvaluationError(f"device {name}: there is none; give cpu, cuda or cuda:N") from error
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
    return torch.device("cuda", int(local) % torch.cuda.device_count())


def sha256_of(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
