"""How runs that were submitted are doing: what SLURM knows, how far they are, what they said last."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from sam2.slurm.errors import BatchError
from sam2.slurm.folder import JobFolder
from sam2.slurm.jobs import JobState, is_id, look

_TAIL_BYTES = 8192


@dataclass(frozen=True)
class Standing:
    """A run or an evaluation that was submitted.

    Attributes:
        job: its id.
        path: its directory; None for a job that was not submitted from here.
        state: what SLURM knows; None when it has forgotten the job.
        is_finished: whether the run says that it came to its end.
        step: the last one that it logged or saved.
        steps: of how many, if that is known.
        said: the last line of its log.
    """

    job: str
    path: Path | None
    state: JobState | None
    is_finished: bool
    step: str
    steps: str
    said: str

    @property
    def word(self) -> str:
        """Its state in one word."""
        if self.state is not None:
            return self.state.state
        return "finished" if self.is_finished else "gone"

    @property
    def about(self) -> str:
        """What else SLURM says: why it waits, where it runs, how it ended."""
        if self.state is None:
            return "" if self.is_finished else "SLURM does not know the job any more; sam2 slurm requeue"
        waits = self.state.state == "PENDING"
        words = [self.state.reason if waits else f"{self.state.elapsed} on {self.state.nodes or 'no node'}"]
        if self.state.restarts:
            words.append(f"restarts {self.state.restarts}")
        if self.state.exit_code:
            words.append(f"exit code {self.state.exit_code}")
        return ", ".join(words)


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
    path = Path(state.script).parents[1] if state.script else None
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
    folders = [Path(state.script).parents[1]] if state and state.script else []
    log = _log([*folders, *([path] if path else [])], state.id if state else job)
    if path is None:
        return Standing(job, None, state, False, "", "", _last_line(log))
    record = path / "run.json"
    is_finished = record.is_file() and bool(json.loads(record.read_text()).get("finished"))
    return Standing(job, path, state, is_finished, _step(path), _steps(path), _last_line(log))


def _log(folders: Sequence[Path], job: str) -> Path | None:
    """What the job said: of a member of an array in the folder of the sweep, else of the run."""
    places = (folder / "log" / f"slurm-{job}.txt" for folder in folders)
    return next((place for place in places if place.is_file()), None)


def _step(path: Path) -> str:
    """The last one in `metrics.csv`, or that of the last checkpoint."""
    metrics, saved = path / "metrics.csv", path / "checkpoints" / "step.txt"
    if metrics.is_file():
        with metrics.open(newline="", encoding="utf-8") as file:
            steps = [row["step"] for row in csv.DictReader(file) if row.get("step")]
        if steps:
            return steps[-1]
    return saved.read_text().strip() if saved.is_file() else ""


def _steps(path: Path) -> str:
    """How many steps the settings ask for, where they count steps."""
    config = JobFolder(path).config
    if not config.is_file():
        return ""
    trainer = (yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("trainer") or {}
    return str(trainer.get("max_steps") or "")


def _last_line(log: Path | None) -> str:
    if log is None or not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
