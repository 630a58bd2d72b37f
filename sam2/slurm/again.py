"""Take up a job again that has ended."""

from __future__ import annotations

import shlex
from pathlib import Path

from sam2.slurm import jobs
from sam2.slurm.errors import BatchError
from sam2.slurm.folder import JobFolder
from sam2.slurm.jobs import is_id, look
from sam2.slurm.status import job_of
from sam2.slurm.submit import sbatch


def take_up(name: str) -> str:
    """Requeue the job, or submit its file again when SLURM has forgotten it; says what was done.

    Args:
        name: of a directory from which a job was submitted, or the id of a job.

    Raises:
        BatchError: it waits or runs, it is gone and no directory is named, or SLURM refuses.
    """
    job = job_of(name)
    states = look(job)
    waiting = [state for state in states if state.is_live]
    if waiting:
        raise BatchError(f"job {waiting[0].id} is {waiting[0].state}; there is nothing to take up")
    if states:
        jobs.requeue(job)
        return f"job {job} is back in the queue"
    if is_id(name):
        raise BatchError(
            f"SLURM does not know job {job} any more; name its directory: sam2 slurm requeue RUN_DIR"
        )
    folder = JobFolder(Path(name).absolute())
    if not folder.script.is_file():
        raise BatchError(
            f"{folder.path} was a member of array {job}, which SLURM does not know any more; give the sweep's command "
            "again: it runs what is left"
        )
    number = sbatch(folder.script)
    folder.note(number, shlex.split(f"sam2 slurm requeue {shlex.quote(name)}"))
    return f"job {number} takes up {folder.path}, as job {job} is forgotten"
