"""`launcher.after`: the job that has to end well before one that is submitted begins."""

from __future__ import annotations

import sys
from pathlib import Path

from sam2.slurm.errors import NoSlurmError
from sam2.slurm.folder import JobFolder
from sam2.slurm.jobs import JobState, is_id, look
from sam2.slurm.progress import is_finished
from sam2.training.launcher_config import LauncherConfig
from sam2.training.typed import ConfigError


def awaited(launcher: LauncherConfig) -> str | None:
    """Id of the job to wait for; None: there is nothing to wait for.

    SLURM itself takes a job that it does not know for one that has ended well.

    Raises:
        ConfigError: nothing would ever begin after it, or nobody knows what it is.
        BatchError: SLURM does not answer.
    """
    if launcher.after is None:
        return None
    try:
        return _job(launcher.after) if is_id(launcher.after) else _job_of(launcher.after)
    except NoSlurmError as error:
        if not launcher.dry_run:
            raise
        print(f"launcher.after={launcher.after} cannot be checked here: {error}", file=sys.stderr)
        return launcher.after


def _job(job: str) -> str:
    states = look(job)
    if not states:
        raise ConfigError(
            f"launcher.after: SLURM does not know job {job} (it forgets jobs some minutes after their end); name the "
            "directory of the run instead, which knows whether it is finished: launcher.after=RUN_DIR"
        )
    _refuse_failed(job, states)
    return job


def _job_of(name: str) -> str | None:
    """The job of a directory, unless it is finished already."""
    path = Path(name).expanduser().absolute()
    job = JobFolder(path).job()
    states = look(job) if job else []
    if not any(state.is_live for state in states) and is_finished(path):
        return None
    if job is None:
        raise ConfigError(
            f"launcher.after: {name} is neither the id of a job nor a directory that is finished or from which a job "
            "was submitted"
        )
    if not states:
        raise ConfigError(
            f"launcher.after: {name} is not finished, and SLURM does not know its job {job} any more; take it up "
            f"first: sam2 slurm requeue {name}"
        )
    _refuse_failed(f"{job} of {name}", states)
    return job


def _refuse_failed(job: str, states: list[JobState]) -> None:
    failed = [state for state in states if not state.is_live and state.state != "COMPLETED"]
    if failed:
        raise ConfigError(
            f"launcher.after: nothing would ever begin after job {job}, as {failed[0].id} is {failed[0].state}; take "
            "it up first: sam2 slurm requeue"
        )
