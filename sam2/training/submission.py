"""Submit a training, a sweep or an evaluation to SLURM: `python train.py ... launcher=slurm`.

Everything is checked here, on the login node, with the same errors as a run. The directory is fixed before the job
exists, so that a requeued job comes back to it and the same command finds it again; what is in it stands in
sam2/slurm/folder.py.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sam2.evaluation.files import write_atomically
from sam2.slurm.folder import JobFolder
from sam2.slurm.jobs import JobState, live
from sam2.slurm.render import Job, job_name, render
from sam2.slurm.submit import sbatch
from sam2.slurm.undo import undone_if_refused
from sam2.training.awaited import awaited
from sam2.training.batch_jobs import (
    Placed,
    array_job,
    evaluation_job,
    for_cluster,
    task_of,
    training_job,
)
from sam2.training.config import RunConfig
from sam2.training.environment import Processes
from sam2.training.evaluation_config import SHARDS, EvaluationConfig
from sam2.training.evaluation_done import results_at_hand
from sam2.training.launcher_config import LauncherConfig
from sam2.training.members import Member
from sam2.training.rundir import RunDirectory, check, choose, held
from sam2.training.settings_text import as_yaml
from sam2.training.submitted import tell_places, tell_sweep, tell_training
from sam2.training.typed import ConfigError, to_plain
from sam2.training.unseen import warn_of_unseen


def submit(config: RunConfig | EvaluationConfig, command: Sequence[str]) -> None:
    """Submit one training or evaluation and say what was submitted.

    Args:
        config: the settings.
        command: the command line, for the record.

    Raises:
        ConfigError: the settings make no sense on a cluster, the directory holds another run, or is being worked on.
        BatchError: SLURM is not here, or refuses.
    """
    if isinstance(config, EvaluationConfig):
        _submit_evaluation(config, command)
    else:
        _submit_run(for_cluster(config), command)


def submit_each(configs: Sequence[RunConfig | EvaluationConfig], command: Sequence[str]) -> int:
    """Submit evaluations, each as a job or an array of its own; gives the exit code."""
    for config in configs:
        submit(config, command)
    return 0


def submit_sweep(
    members: Sequence[Member], folder: Path, record: Callable[[int], object], command: Sequence[str]
) -> int:
    """Submit what is left of a sweep as one array and say what was submitted; gives the exit code.

    Args:
        members: all of them.
        folder: of the sweep.
        record: writes the sweep down there, and says how many members have a job already.
        command: the command line, for the record.

    Raises:
        ConfigError: they differ in what they ask SLURM for, or one is being worked on here.
        BatchError: SLURM is not here, or refuses.
    """
    left, waiting = to_submit(members)
    if not left:
        record(waiting)
        print("all runs of the sweep are done or submitted already")
        return 0
    place = JobFolder(folder)
    job = array_job(left, place, command)
    after = awaited(left[0].config.launcher)
    warn_of_unseen(*(run.config for run in left), weights=after is None)
    paths = [run.directory.path for run in left]
    with undone_if_refused(folder, *paths):
        record(waiting)
        for run in left:
            with held(run.directory):
                write_atomically(run.folder.config, as_yaml(_run_settings(run.config)))
        write_atomically(place.members(paths), "".join(f"{path}\n" for path in paths))
        number = _sbatch(place, job, after, command)
    for k, run in enumerate(left):
        run.folder.note(f"{number}_{k}", command)
    tell_sweep(left, place, number)
    return 0


def show_sweep(members: Sequence[Member], command: Sequence[str]) -> int:
    """Print the array that a sweep would become; gives the exit code."""
    left = [Placed(member.config, member.directory) for member in members if member.state != "done"]
    if left:
        first = left[0].config
        job = array_job(left, JobFolder(first.runs / first.name / "sweeps" / "ID"), command)
        after = awaited(first.launcher)
        warn_of_unseen(*(run.config for run in left), weights=after is None)
        _show(render(job), after, *(run.directory.path for run in left))
    else:
        print("all runs of the sweep are done", file=sys.stderr)
    return 0


def to_submit(members: Sequence[Member]) -> tuple[list[Placed], int]:
    """The members that there is something to do for, and how many have a job; those left out are named."""
    wanted, submitted = [], 0
    for member in members:
        run = Placed(member.config, member.directory)
        waiting = _waiting(run.folder)
        if member.remark:
            print(f"{member.remark}: it is run again")
        if member.state == "done":
            print(f"done already: {member.directory.path}")
        elif waiting:
            print(f"submitted already as job {waiting.id} ({waiting.state}): {member.directory.path}")
            submitted += 1
        else:
            wanted.append(run)
    return wanted, submitted


def _submit_run(config: RunConfig, command: Sequence[str]) -> None:
    directory = choose(config, Processes())
    check(directory, config)
    _check_unbegun(directory, config)
    run = Placed(config, directory)
    job = training_job(run, command)
    after = awaited(config.launcher)
    warn_of_unseen(config, weights=after is None)
    if config.launcher.dry_run:
        _show(render(job), after, directory.path)
    elif directory.is_finished and config.resume != "force":
        print(f"{directory.path} is finished: see report.html there. run_id=NAME starts another run")
    else:
        _refuse_twice(run.folder)
        with undone_if_refused(directory.path), held(directory):
            write_atomically(run.folder.config, as_yaml(_run_settings(config)))
            number = _sbatch(run.folder, job, after, command)
        tell_training(run, number)


def _submit_evaluation(config: EvaluationConfig, command: Sequence[str]) -> None:
    """Submit an evaluation, divided into shares, and say what was submitted."""
    if config.share is not None:
        raise ConfigError("share is one process's part; with launcher=slurm give launcher.shares=N alone")
    out = getattr(config, "out", None) or default_out(config)
    config = dataclasses.replace(config, out=Path(out).absolute())  # type: ignore[call-arg]
    folder = JobFolder(Path(out).absolute())
    job = evaluation_job(config, folder, command)
    after = awaited(config.launcher)
    if config.launcher.dry_run:
        _show(render(job), after, folder.path)
        return
    _refuse_twice(folder)
    # weights that a job is still to make are other ones than those that were evaluated
    if not live(after) and (results := results_at_hand(config, folder.path)):
        print(f"done already: {results}")
        return
    with undone_if_refused(folder.path):
        write_atomically(folder.config, as_yaml(_evaluation_settings(config)))
        number = _sbatch(folder, job, after, command)
    shares = config.launcher.shares
    print(
        f"job {number}: {task_of(config)}"
        + (f" in {shares} shares; the last to end scores" if shares > 1 else "")
    )
    tell_places(folder, number, is_array=config.launcher.shares > 1)
    print(f"results         {folder.path / 'results.json'}")


def default_out(config: EvaluationConfig) -> Path:
    """Where an evaluation's results go whose settings do not say."""
    words = [getattr(config, name, "") for name in ("dataset", "checkpoint", "prompt", "policy")]
    names = [
        Path(str(word).removeprefix(SHARDS)).as_posix().strip("/").split("/")[-2:] for word in words if word
    ]
    return Path("runs") / "eval" / job_name("-".join("-".join(parts) for parts in names))


def _check_unbegun(directory: RunDirectory, config: RunConfig) -> None:
    """See that a run which was submitted and has not begun is the one that is meant."""
    submitted = JobFolder(directory.path).config
    if directory.config.is_file() or not submitted.is_file() or config.resume == "force":
        return
    check(RunDirectory(submitted.parent), config)


def _waiting(folder: JobFolder) -> JobState | None:
    """The job for this directory that waits or runs."""
    return next(iter(live(folder.job())), None)


def _refuse_twice(folder: JobFolder) -> None:
    """See that no job for this directory waits or runs."""
    if state := _waiting(folder):
        raise ConfigError(
            f"{folder.path} has a job already: {state.id} is {state.state} (sam2 slurm status {state.id}); stop it "
            f"with `sam2 slurm cancel {state.id}`, or give run_id=NAME to start another run"
        )


def _sbatch(folder: JobFolder, job: Job, after: str | None, command: Sequence[str]) -> str:
    """Write the batch file and submit it, to begin after the job `after`."""
    write_atomically(folder.script, render(job))
    (folder.path / "log").mkdir(
        exist_ok=True
    )  # SLURM does not make it, and a job without a log fails silently
    dependency = [] if after is None else [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"]
    number = sbatch(folder.script, dependency)
    folder.note(number, command)
    return number


def _run_settings(config: RunConfig) -> dict[str, Any]:
    """The settings as the job reads them: it is started by srun, in a directory that it is told."""
    resume = "force" if config.resume == "force" else "auto"
    return {**to_plain(config), "run_dir": None, "resume": resume, "launcher": _as_started(config.launcher)}


def _evaluation_settings(config: EvaluationConfig) -> dict[str, Any]:
    return {"task": task_of(config), **to_plain(config), "launcher": _as_started(config.launcher)}


def _as_started(launcher: LauncherConfig) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(dataclasses.replace(launcher, kind="local", dry_run=False, after=None))
    return plain


def _show(text: str, after: str | None, *places: Path) -> None:
    """The job on standard output, where it would lie on standard error."""
    print(text, end="")
    begins = f" and begin when {after} has ended well" if after else ""
    for path in places:
        print(f"not submitted; it would lie in {path}{begins}", file=sys.stderr)
    print(
        "this is to look at: sbatch alone would find no run directory, and its job would end without a log; submit "
        "with `sam2 slurm submit`, or launcher=slurm without launcher.dry_run",
        file=sys.stderr,
    )
