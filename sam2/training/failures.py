"""What a failure means to the person who meets it: a line that says all, and an exit code; others are tracebacks."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass

from sam2.training.errors import Interrupted, Superseded, of_another_rank
from sam2.training.exit_codes import FAILED, RANK_LOST, REFUSED
from sam2.training.typed import ConfigError

# packages whose absence means that nothing was installed
REQUIRED = ("av", "hydra", "lightning", "numpy", "omegaconf", "pycocotools", "rich", "timm", "torch", "yaml")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Verdict:
    """What to print and how to exit."""

    text: str
    code: int


def verdict(error: Exception) -> Verdict | None:
    """What `error` comes to; None: it deserves its traceback."""
    match error:
        case ConfigError():
            return Verdict(f"error: {error}", REFUSED)
        case ModuleNotFoundError():
            return _not_installed(error)
        case Interrupted() | Superseded():
            return Verdict(str(error), error.code)
        case OSError() if error.errno in _NO_ROOM:
            again = "When there is room, the same command continues from the last checkpoint"
            return Verdict(f"error: {error}. {again}", FAILED)
    if news := of_another_rank(error):
        text = f"error: another rank of the run went away or does not answer ({news}); its own last words say why"
        return Verdict(text, RANK_LOST)
    if not isinstance(error, known_failures()):
        return None
    code = getattr(error, "code", FAILED)
    return Verdict(
        f"error: {error}", code if isinstance(code, int) else FAILED
    )  # of data it is the kind of fault


def known_failures() -> tuple[type[Exception], ...]:
    """Failures of a run whose message says all; imported when needed, because they come with torch."""
    from data.clip import DataError
    from sam2.checkpoint import CheckpointError
    from sam2.evaluation.errors import EvaluationError
    from sam2.policies import PolicyError
    from sam2.pretrained import PretrainedError
    from sam2.reference_settings import SettingError
    from sam2.slurm.errors import BatchError
    from sam2.training.errors import TrainingError
    from sam2.training.launch import LaunchError
    from sam2.variants import UnknownVariantError

    of_models = (CheckpointError, PolicyError, PretrainedError, SettingError, UnknownVariantError)
    return (BatchError, DataError, EvaluationError, TrainingError, LaunchError, *of_models)


def _not_installed(error: ModuleNotFoundError) -> Verdict | None:
    if (error.name or "").partition(".")[0] not in REQUIRED:
        return None
    text = (
        f"error: {sys.executable} has no package {error.name}: sam2-train is not installed for this Python. "
        "`source .venv/bin/activate` after `make demo`, or `pip install -e .` here"
    )
    return Verdict(text, REFUSED)
