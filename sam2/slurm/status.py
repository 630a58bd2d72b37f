"""How runs that were submitted are doing: what SLURM knows, how far they are, what they said last."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sam2.slurm import cause, progress
from sam2.slurm.errors import BatchError
from sam2.slurm.folder import JobFolder
from sam2.slurm.jobs import JobState, is_id, look

Kind = Literal["waiting", "running", "failed", "finished"]
_SAVED = 85  # exit code of a run that was told to end (sam2/training/exit_codes.py)
_WAITS = frozenset("PENDING PREEMPTED NODE_FAIL REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT".split())


@dataclass(frozen=True)
class Standing:
    """A run or an evaluation that was submitted.

    Attributes:
        job: its id.
        path: its directory; None for a job that was not submitted from here.
        state: what SLURM knows; None when it has forgotten the job.
        is_finished: whether the run says that it came to its end.
        step: the last one that it logged or saved.
        saved: the last one that it saved.
        steps: of how many, if that is known.
        done: videos or images that an evaluation is done with; None of a training.
        log: what the log says of the last start.
        code: exit code that a task left behind in the last start.
    """

    job: str
    path: Path | None
    state: JobState | None
    is_finished: bool = False
    step: str = ""
    saved: str = ""
    steps: str = ""
    done: int | None = None
    log: cause.Said = cause.Said()
    code: int | None = None

    @property
    def kind(self) -> Kind:
        """What is to be done: wait, watch, look into it, or nothing."""
        if self.state is not None and self.state.is_live:
            return "waiting" if self.state.state in _WAITS else "running"
        is_well = self.is_finished if self.state is None else self.state.state == "COMPLETED"
        return "finished" if is_well else "failed"

    @property
    def word(self) -> str:
        """Its state in one word."""
        if self.state is not None:
            return self.state.state
        if self.is_finished:
            return "finished"
        if self.code == _SAVED or self.log.cause.startswith("interrupted "):
            return "stopped"
        return "failed" if self.code or self.log.cause else "gone"

    @property
    def about(self) -> str:
        """What else is known: why it waits, where it runs, how it ended."""
        if self.state is None:
            return self._about_forgotten()
        if self.state.state == "PENDING":
            words = [self.state.reason]
        else:  # one that never began has no node, and a time since 1970
            words = [f"{self.state.elapsed} on {self.state.nodes}"] if self.state.nodes else []
        if self.state.restarts:
            words.append(f"restarts {self.state.restarts}")
        if self.state.exit_code:
            words.append(f"exit code {self.state.exit_code}")
        return ", ".join(words)

    @property
    def progress(self) -> str:
        """How far it is, and from where it would continue if that is less; empty if it counts nothing."""
        if self.done is not None:
            return f"{self.done} done"
        if not self.step and not self.steps:
            return ""
        is_less = self.step and self.saved != self.step and not self.is_finished
        return f"step {self.step or '-'} of {self.steps or '?'}" + (
            f", saved {self.saved or 0}" if is_less else ""
        )

    @property
    def said(self) -> str:
        """The line of its log that tells most: why it ended, or what it said last."""
        return self.log.last if self.kind in ("running", "finished") else self.log.cause or self.log.last

    def _about_forgotten(self) -> str:
        if self.is_finished:
            return ""
        known = f"exit code {self.code}, " if self.code else ""
        return f"{known}SLURM does not know the job any more; sam2 slurm requeue"


def standings(names: Sequence[str], runs: Path) -> list[Standing]:
    """Those of the named jobs or directories; with no name, of all that were submitted from `runs`.

    Raises:
        BatchError: a name is neither, or SLURM does not answer.
    """
    found: list[Standing] = []
    for name in names:
        found += _of_job(name) if is_id(name) else _of_folder(Path(name))
    if not names:
        for path in sorted(runs.glob("*/*/job/submitted.json")):
            found += _of_folder(path.parents[1])
    return found


def job_of(name: str) -> str:
    """The id of the job that is meant by a job's id or by a directory.

    Raises:
        BatchError: nothing was submitted from there.
    """
    if is_id(name):
        return name
    job = JobFolder(Path(name)).job()
    if job is None:
        raise BatchError(f"{name} is neither the id of a job nor a directory from which one was submitted")
    return job


def _of_job(job: str) -> list[Standing]:
    states = look(job)
    if not states:
        raise BatchError(
            f"SLURM does not know job {job} (any more); sam2 slurm status RUN_DIR tells how far a run came"
        )
    return [standing for state in states for standing in _of_state(state)]


def _of_state(state: JobState) -> Iterator[Standing]:
    """Of the directory that the job was submitted from; of an array, of that of the member."""
    path = _folder(state)
    if path is not None and "_" in state.id:
        member = (found.parents[1] for found in path.parents[1].glob("*/job/submitted.json"))
        path = next((each for each in member if JobFolder(each).job() == state.id), path)
    yield _standing(state.id, path, state)


def _of_folder(path: Path) -> list[Standing]:
    job = job_of(str(path))
    states = look(job)
    if not states:
        return [_standing(job, path, None)]
    of_array = len(states) > 1 or "_" in states[0].id and "_" not in job
    return (
        [each for state in states for each in _of_state(state)]
        if of_array
        else [_standing(job, path, states[0])]
    )


def _standing(job: str, path: Path | None, state: JobState | None) -> Standing:
    number = state.id if state else job
    folders = [folder for folder in (state and _folder(state), path) if folder]
    file = _log(folders, number)
    if state is not None and path is None and (path := _of_template(state)):
        file = Path(state.output)
    log = cause.read(file)
    if path is None:
        return Standing(job, None, state, log=log)
    return Standing(
        job,
        path,
        state,
        is_finished=progress.is_finished(path),
        step=progress.steps_done(path),
        saved=progress.steps_saved(path),
        steps=progress.steps_asked(path),
        done=progress.pieces_done(path, number),
        log=log,
        code=progress.exit_code(path, number, log.restart),
    )


def _folder(state: JobState) -> Path | None:
    """From where a job was submitted, by us."""
    script = Path(state.script)
    return script.parents[1] if script.parts[-2:] == ("job", "job.sbatch") else None


def _of_template(state: JobState) -> Path | None:
    """The run directory of a job that was submitted by hand with a file of `slurm/`, once it has begun."""
    output = Path(state.output)
    return cause.folder(output) if output.is_file() and os.access(output, os.R_OK) else None


def _log(folders: Sequence[Path], job: str) -> Path | None:
    """What the job said: of a member of an array in the folder of the sweep, of an array what one of them said last."""
    name = f"slurm-{job}.txt"
    places = [folder / "log" / name for folder in folders]
    for folder in folders:
        places += folder.parent.glob(f"sweeps/*/log/{name}")
        of_members = (folder / "log").glob(f"slurm-{job}_*.txt")
        places += sorted(of_members, key=lambda file: file.stat().st_mtime, reverse=True)
    return next((place for place in places if place.is_file()), None)
