"""Submit a training, a sweep or an evaluation to SLURM: `python train.py ... launcher=slurm`.

Everything is checked here, on the login node, with the same errors as a run. The directory is fixed before the job
exists, so that a requeued job comes back to it and the same command finds it again; what is in it stands in
sam2/slurm/folder.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sam2.evaluation.files import write_atomically
from sam2.slurm.folder import JobFolder
from sam2.slurm.jobs import live
from sam2.slurm.render import Job, job_name, render
from sam2.slurm.submit import sbatch
from sam2.training.batch_jobs import (
    Member,
    array_job,
    evaluation_job,
    for_cluster,
    task_of,
    training_job,
)
from sam2.training.config import RunConfig
from sam2.training.environment import Processes
from sam2.training.evaluation_config import SHARDS, EvaluationConfig
from sam2.training.launcher_config import LauncherConfig
from sam2.training.rundir import RunDirectory, check, choose, held
from sam2.training.submitted import tell_places, tell_sweep, tell_training
from sam2.training.typed import ConfigError, to_plain


def submit(configs: Sequence[RunConfig | EvaluationConfig], command: Sequence[str]) -> None:
    """Submit one run, or all of a sweep: trainings as one array, evaluations each as its own.

    Args:
        configs: their settings.
        command: the command line, for the record.

    Raises:
        ConfigError: the settings make no sense on a cluster, a directory holds another run, or is being worked on.
        BatchError: SLURM is not here, or refuses.
    """
    runs = [config for config in configs if isinstance(config, RunConfig)]
    if len(runs) > 1:
        submit_sweep(runs, command)
    elif runs:
        submit_run(runs[0], command)
    for config in configs:
        if isinstance(config, EvaluationConfig):
            submit_evaluation(config, command)


def submit_run(config: RunConfig, command: Sequence[str]) -> None:
    """Submit one training and say what was submitted."""
    member = _member(config)
    job = training_job(member, command)
    if config.launcher.dry_run:
        _show(render(job), member.directory.path)
    elif member.directory.is_finished and config.resume != "force":
        print(f"{member.directory.path} is finished: see report.html there. run_id=NAME starts another run")
    else:
        _refuse_twice(member.folder)
        with held(member.directory):
            number = _hand_over(member, job, command)
        tell_training(member, number)


def submit_sweep(configs: Sequence[RunConfig], command: Sequence[str]) -> None:
    """Submit the members of a sweep as one array and say what was submitted."""
    is_dry = configs[0].launcher.dry_run
    members = to_submit([_placed(config, is_dry) for config in configs])
    if not members:
        print("all members of the sweep are finished or submitted already; nothing is left to do")
        return
    _check_one_shape(members)
    folder = _sweep_folder(members)
    job = array_job(members, folder, command)
    if is_dry:
        _show(render(job), folder.path, *(str(member.directory.path) for member in members))
        return
    write_atomically(folder.members, "".join(f"{member.directory.path}\n" for member in members))
    number = _sbatch(folder, job, members[0].config.launcher, command)
    for k, member in enumerate(members):
        member.folder.note(f"{number}_{k}", command)
    tell_sweep(members, folder, number)


def to_submit(members: Sequence[Member]) -> list[Member]:
    """The members that there is something to do for; the others are named and left out."""
    wanted = []
    for member in members:
        waiting = live([job]) if (job := member.folder.job()) else []
        if member.directory.is_finished and member.config.resume != "force":
            print(f"finished already: {member.directory.path}")
        elif waiting:
            print(f"submitted already as job {waiting[0].id} ({waiting[0].state}): {member.directory.path}")
        else:
            wanted.append(member)
    return wanted


def submit_evaluation(config: EvaluationConfig, command: Sequence[str]) -> None:
    """Submit an evaluation, divided into shares, and say what was submitted."""
    if config.share is not None:
        raise ConfigError("share is one process's part; with launcher=slurm give launcher.shares=N alone")
    out = getattr(config, "out", None) or default_out(config)
    config = dataclasses.replace(config, out=Path(out).absolute())  # type: ignore[call-arg]
    folder = JobFolder(Path(out).absolute())
    job = evaluation_job(config, folder, command)
    if config.launcher.dry_run:
        _show(render(job), folder.path)
        return
    _refuse_twice(folder)
    write_atomically(folder.config, _yaml(_evaluation_settings(config)))
    number = _sbatch(folder, job, config.launcher, command)
    print(f"job {number}: {task_of(config)} in {config.launcher.shares} share(s); the last one to end scores")
    tell_places(folder, number, is_array=config.launcher.shares > 1)
    print(f"results         {folder.path / 'results.json'}")


def default_out(config: EvaluationConfig) -> Path:
    """Where an evaluation's results go whose settings do not say."""
    words = [getattr(config, name, "") for name in ("dataset", "checkpoint", "prompt", "policy")]
    names = [
        Path(str(word).removeprefix(SHARDS)).as_posix().strip("/").split("/")[-2:] for word in words if word
    ]
    return Path("runs") / "eval" / job_name("-".join("-".join(parts) for parts in names))


def _member(config: RunConfig) -> Member:
    config = for_cluster(config)
    directory = choose(config, Processes())
    check(directory, config)
    _check_unbegun(directory, config)
    return Member(config, directory)


def _placed(config: RunConfig, is_dry: bool) -> Member:
    """A member of a sweep with its directory, which is made, because the next one's number is counted from it."""
    member = _member(config)
    if not is_dry:
        write_atomically(member.folder.config, _yaml(_run_settings(member.config)))
    return member


def _check_unbegun(directory: RunDirectory, config: RunConfig) -> None:
    """See that a run which was submitted and has not begun is the one that is meant."""
    submitted = JobFolder(directory.path).config
    if directory.config.is_file() or not submitted.is_file() or config.resume == "force":
        return
    check(RunDirectory(submitted.parent), config)


def _check_one_shape(members: Sequence[Member]) -> None:
    first = members[0]
    for member in members:
        if member.shape != first.shape:
            raise ConfigError(
                f"{first.directory.path.name} and {member.directory.path.name} ask SLURM for different things; members "
                "of an array have the same trainer.nodes, trainer.devices, cluster and launcher: submit two sweeps"
            )
    paths = [member.directory.path for member in members]
    if len(set(paths)) < len(paths):
        raise ConfigError(
            "several members of the sweep have the same run directory; leave run_dir and run_id out"
        )


def _sweep_folder(members: Sequence[Member]) -> JobFolder:
    first = members[0].config
    paths = "\n".join(str(member.directory.path) for member in members)
    name = f"sweep-{hashlib.sha256(paths.encode()).hexdigest()[:6]}"
    return JobFolder(first.runs.absolute() / first.name / name)


def _refuse_twice(folder: JobFolder) -> None:
    """See that no job for this directory waits or runs."""
    job = folder.job()
    for state in live([job] if job else []):
        raise ConfigError(
            f"{folder.path} has a job already: {state.id} is {state.state} (sam2 slurm status {folder.path}); stop it "
            f"with `sam2 slurm cancel {job}`, or give run_id=NAME to start another run"
        )


def _hand_over(member: Member, job: Job, command: Sequence[str]) -> str:
    write_atomically(member.folder.config, _yaml(_run_settings(member.config)))
    return _sbatch(member.folder, job, member.config.launcher, command)


def _sbatch(folder: JobFolder, job: Job, launcher: LauncherConfig, command: Sequence[str]) -> str:
    """Write the batch file and submit it."""
    write_atomically(folder.script, render(job))
    (folder.path / "log").mkdir(
        exist_ok=True
    )  # SLURM does not make it, and a job without a log fails silently
    number = sbatch(folder.script, _dependency(launcher))
    folder.note(number, command)
    return number


def _dependency(launcher: LauncherConfig) -> list[str]:
    """What the job waits for."""
    if launcher.after is None:
        return []
    job = launcher.after
    if not job.replace("_", "").isdecimal():
        found = JobFolder(Path(job).expanduser().absolute()).job()
        if found is None:
            raise ConfigError(
                f"launcher.after: {job} is neither the id of a job nor a directory from which one was submitted"
            )
        job = found
    return [f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes"]


def _run_settings(config: RunConfig) -> dict[str, Any]:
    """The settings as the job reads them: it is started by srun, in a directory that it is told."""
    resume = "force" if config.resume == "force" else "auto"
    return {**to_plain(config), "run_dir": None, "resume": resume, "launcher": _as_started(config.launcher)}


def _evaluation_settings(config: EvaluationConfig) -> dict[str, Any]:
    return {"task": task_of(config), **to_plain(config), "launcher": _as_started(config.launcher)}


def _as_started(launcher: LauncherConfig) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(dataclasses.replace(launcher, kind="local", dry_run=False, after=None))
    return plain


def _yaml(settings: Any) -> str:
    return yaml.safe_dump(settings, sort_keys=False)


def _show(text: str, *places: object) -> None:
    """The job on standard output, where it would lie on standard error."""
    print(text, end="")
    for place in places:
        print(f"not submitted; run directory: {place}", file=sys.stderr)
