"""Take up a job again that has ended."""

from __future__ import annotations

import shlex
from pathlib import Path

from sam2.slurm import jobs
from sam2.slurm.errors import BatchError
from sam2.slurm.folder import JobFolder
from sam2.slurm.jobs import is_id, look
from sam2.slurm.progress import is_finished
from sam2.slurm.status import job_of, standings
from sam2.slurm.submit import sbatch


def take_up(name: str) -> str:
    """Requeue the job, or submit its file again when SLURM has forgotten it; says what was done.

    Args:
        name: of a directory from which a job was submitted, or the id of a job.

    Raises:
        BatchError: it is finished, it waits or runs, it is gone and no directory is named, or SLURM refuses.
    """
    job = job_of(name)
    states = look(job)
    waiting = [state for state in states if state.is_live]
    if waiting:
        raise BatchError(f"job {waiting[0].id} is {waiting[0].state}; there is nothing to take up")
    if states:
        return _requeue(name, job)
    if not is_id(name) and is_finished(Path(name)):
        raise BatchError(f"{name} is finished; there is nothing to take up")
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


def _requeue(name: str, job: str) -> str:
    """Put back into the queue what SLURM knows; of an array the members that are not finished."""
    found = standings([name], Path())
    left = [one for one in found if not one.is_finished and one.kind != "finished"]
    if not left:
        raise BatchError(f"{name} is finished (job {job}); there is nothing to take up")
    ids = [job] if len(left) == len(found) else [one.job for one in left]
    for each in ids:
        jobs.requeue(each)
    return "\n".join(f"job {each} is back in the queue" for each in ids)
