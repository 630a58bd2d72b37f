"""Hand a batch file to SLURM."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sam2.slurm.errors import BatchError

# what SLURM itself needs; the rest is about a job that we may stand in, and not about the one that is submitted
_KEPT = ("SLURM_CONF", "SLURM_TIME_FORMAT")
_TIMEOUT_S = 60


def sbatch(script: Path, options: Sequence[str] = ()) -> str:
    """Submit a file.

    Args:
        script: the batch file.
        options: more words for sbatch; they win over those in the file.

    Returns:
        The job's id; that of the whole array for an array.

    Raises:
        BatchError: there is no SLURM here, or it refused.
    """
    said = slurm("sbatch", "--parsable", *options, str(script))
    return said.strip().splitlines()[-1].partition(";")[0]  # a federation adds ;CLUSTER


def slurm(program: str, *words: str) -> str:
    """What a program of SLURM's says.

    Raises:
        BatchError: it is not here, does not answer, or refuses.
    """
    try:
        done = subprocess.run(
            [program, *words],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env=_environment(os.environ),
        )
    except FileNotFoundError as error:
        raise BatchError(
            f"there is no {program} on this machine; run this on a login node of the cluster, or look at the job with "
            "launcher.dry_run=true"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise BatchError(
            f"{program} did not answer within {_TIMEOUT_S} s; is the SLURM controller up? (`scontrol ping`)"
        ) from error
    if done.returncode != 0:
        raise BatchError(f"{program} refused: {_one_line(done.stderr or done.stdout)}")
    return done.stdout


def _environment(around: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in around.items() if not name.startswith("SLURM_") or name in _KEPT}


def _one_line(said: str) -> str:
    lines = (text.strip().removeprefix("sbatch: error: ") for text in said.splitlines())
    return "; ".join(text for text in lines if text) or "it gave no reason"
