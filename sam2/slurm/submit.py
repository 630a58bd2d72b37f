"""Hand a batch file to SLURM."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sam2.slurm.errors import BatchError, NoAnswerError, NoSlurmError

# what SLURM itself needs; the rest is about a job that we may stand in, and not about the one that is submitted
_KEPT = ("SLURM_CONF", "SLURM_TIME_FORMAT")
_TIMEOUT_S = 60
_SILENT_S = 4


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
        NoSlurmError: it is not here.
        NoAnswerError: it does not answer in time.
        BatchError: it refuses.
    """
    _check_settings(os.environ)
    try:
        process = subprocess.Popen(
            [program, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(os.environ),
        )
    except FileNotFoundError as error:
        raise NoSlurmError(
            f"there is no {program} on this machine; run this on a login node of the cluster, or look at the job with "
            "launcher.dry_run=true"
        ) from error
    with process:
        said, objected = _patiently(process, program)
    if process.returncode != 0:
        objection = _one_line(objected or said)
        # such as "Socket timed out on send/recv operation": it may have been heard all the same
        kind = NoAnswerError if "timed out" in objection.lower() else BatchError
        raise kind(f"{program} refused: {objection}")
    return said


def _patiently(process: subprocess.Popen[str], program: str) -> tuple[str, str]:
    """What a program puts out; it tries for a minute to reach a controller that is down, and is silent meanwhile."""
    try:
        return process.communicate(timeout=_SILENT_S)
    except subprocess.TimeoutExpired:
        print(f"waiting for the SLURM controller ({program}), for up to {_TIMEOUT_S} s ...", file=sys.stderr)
    try:
        return process.communicate(timeout=_TIMEOUT_S - _SILENT_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise NoAnswerError(
            f"{program} did not answer within {_TIMEOUT_S} s; is the SLURM controller up? (`scontrol ping`)"
        ) from error
    except BaseException:
        process.kill()
        raise


def _check_settings(around: Mapping[str, str]) -> None:
    """See that the settings of SLURM are there, which its programs look for during a minute."""
    settings = around.get("SLURM_CONF")
    if settings and not Path(settings).is_file():
        raise BatchError(
            f"SLURM_CONF names {settings}, which is not there; name the slurm.conf of your cluster, or unset it"
        )


def _environment(around: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in around.items() if not name.startswith("SLURM_") or name in _KEPT}


def _one_line(said: str) -> str:
    lines = (text.strip().removeprefix("sbatch: error: ") for text in said.splitlines())
    return "; ".join(text for text in lines if text) or "it gave no reason"
