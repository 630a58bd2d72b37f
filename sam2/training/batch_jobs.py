"""From settings to a `Job`: what a run, a sweep or an evaluation asks SLURM for."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.storage.place import is_url
from sam2.slurm.folder import JobFolder
from sam2.slurm.profile import Cluster
from sam2.slurm.render import RUN_DIR, Job, job_name, pattern, quoted
from sam2.training.config import RunConfig
from sam2.training.evaluation_config import SHARDS, TASKS, EvaluationConfig
from sam2.training.launcher_config import LauncherConfig
from sam2.training.rundir import RunDirectory
from sam2.training.typed import ConfigError

CODE = Path(__file__).resolve().parents[2]

_WRITTEN = "Written by the launcher; slurm/README.md explains it."


@dataclass(frozen=True)
class Placed:
    """A run that is to be submitted: its settings, made whole for the cluster, and its directory."""

    config: RunConfig
    directory: RunDirectory

    @property
    def folder(self) -> JobFolder:
        """Of its job."""
        return JobFolder(self.directory.path)

    @property
    def asks(self) -> tuple[object, ...]:
        """What it asks SLURM for."""
        trainer = self.config.trainer
        return trainer.nodes, trainer.devices, trainer.accelerator, self.config.cluster, self.config.launcher


def for_cluster(config: RunConfig) -> RunConfig:
    """The settings with everything that is counted on the machine of a run, which this one is not, written out.

    Raises:
        ConfigError: it cannot be known here.
    """
    trainer, cluster = config.trainer, config.cluster
    devices = trainer.devices if isinstance(trainer.devices, int) else cluster.gpus_per_node
    if devices is None:
        raise ConfigError(
            "trainer.devices is auto, but the job runs on other machines than this one: give trainer.devices=N, the "
            "GPUs (or processes) of a node, or gpus_per_node in the profile"
        )
    accelerator = trainer.accelerator if trainer.accelerator != "auto" else "gpu"
    trainer = dataclasses.replace(trainer, devices=devices, accelerator=accelerator)
    return dataclasses.replace(config, trainer=trainer)


def training_job(run: Placed, command: Sequence[str]) -> Job:
    """One training."""
    path = run.directory.path
    places = _places(f"run_dir={quoted(path)}", run.config.cluster)
    return _run_job(run, f"{path}, from `{shlex.join(command)}`", _log(run.folder, False), places, None)


def array_job(runs: Sequence[Placed], folder: JobFolder, command: Sequence[str]) -> Job:
    """Several trainings as one array; the members find their directories in a list.

    Raises:
        ConfigError: they ask SLURM for different things.
    """
    for run in runs:
        if run.asks != runs[0].asks:
            raise ConfigError(
                f"{runs[0].directory.path.name} and {run.directory.path.name} ask SLURM for different things; runs of "
                "one array have the same trainer.nodes, trainer.devices, cluster and launcher: make two sweeps of it"
            )
    members = folder.members([run.directory.path for run in runs])
    places = _places(
        f'run_dir=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {quoted(members)})',
        runs[0].config.cluster,
    )
    array = _array(len(runs), runs[0].config.launcher, first=0)
    about = f"{len(runs)} runs, from `{shlex.join(command)}`"
    return _run_job(runs[0], about, _log(folder, True), places, array)


def _run_job(run: Placed, about: str, log: str, places: tuple[str, ...], array: str | None) -> Job:
    config = run.config
    assert isinstance(config.trainer.devices, int)  # for_cluster has seen to it
    return Job(
        about=(about, _WRITTEN),
        name=job_name(config.name),
        cluster=config.cluster,
        nodes=config.trainer.nodes,
        tasks=config.trainer.devices,
        wants_gpus=config.trainer.accelerator == "gpu",
        cpus=config.cluster.cpus_per_task or 1 + config.data.workers,
        log=log,
        places=places,
        entry=_entry(),
        arguments=f'"$run_dir/job/config.yaml" {RUN_DIR}',
        mounts=_seen_by(config),
        array=array,
        preflight=config.launcher.preflight,
    )


def evaluation_job(config: EvaluationConfig, folder: JobFolder, command: Sequence[str]) -> Job:
    """An evaluation in shares of one process each."""
    shares = config.launcher.shares
    share = f' share="$SLURM_ARRAY_TASK_ID/{shares}"' if shares > 1 else ""
    return Job(
        about=(
            f"{folder.path}, from `{shlex.join(command)}`",
            _WRITTEN,
        ),
        name=job_name(task_of(config)),
        cluster=config.cluster,
        nodes=1,
        tasks=1,
        wants_gpus=not (config.device or "cuda").startswith("cpu"),
        cpus=config.cluster.cpus_per_task or 4,
        log=_log(folder, shares > 1),
        places=_places(f"run_dir={quoted(folder.path)}", config.cluster),
        entry=_entry(),
        arguments=f'"$run_dir/job/config.yaml"{share}',
        mounts=_seen_by_evaluation(config),
        array=_array(shares, config.launcher, first=1) if shares > 1 else None,
        preflight=config.launcher.preflight,
        is_training=False,
    )


def task_of(config: EvaluationConfig) -> str:
    """Its word for `task`."""
    return next(name for name, kind in TASKS.items() if isinstance(config, kind))


def _log(folder: JobFolder, is_array: bool) -> str:
    return f"{pattern(folder.path)}/log/slurm-{'%A_%a' if is_array else '%j'}.txt"


def _places(run_dir: str, cluster: Cluster) -> tuple[str, ...]:
    is_elsewhere = cluster.venv or cluster.conda or cluster.container
    python = cluster.python or ("python" if is_elsewhere else sys.executable)
    return (run_dir, f"python={quoted(python)}", f"code={quoted(CODE)}", f"cd {quoted(os.getcwd())}")


def _entry() -> str:
    """Words of shell that run the main job: of the checkout, or of the installed package."""
    return '"$code/train.py"' if (CODE / "train.py").is_file() else "-P -m sam2_train train"


def _array(count: int, launcher: LauncherConfig, first: int) -> str:
    limit = f"%{launcher.parallel}" if launcher.parallel else ""
    return f"{first}-{count - 1 + first}{limit}"


def _seen_by(config: RunConfig) -> tuple[str, ...]:
    """Folders that a training reads from or writes to, in words of shell, for a container to mount."""
    data = config.data
    roots = [part.root for part in data.parts()] + [data.val_root]
    folders = [] if config.synthetic else [Path(root) for root in roots if root and not is_url(root)]
    files = [Path(file).parent for file in (config.model.checkpoint, config.model.trunk) if file]
    return _mounts([*folders, *files, config.runs])


def _seen_by_evaluation(config: EvaluationConfig) -> tuple[str, ...]:
    """The same of an evaluation: its folders, that of its weights, and shards of one's own."""
    named = [getattr(config, name, None) for name in ("root", "frames", "data", "images")]
    shards = str(getattr(config, "dataset", "")).partition(SHARDS)[2]
    weights = Path(config.checkpoint)
    given = [Path(shards)] if shards and not is_url(shards) else []
    given += [weights if weights.is_dir() else weights.parent] if weights.exists() else []
    return _mounts([*(folder for folder in named if folder), *given])


def _mounts(folders: Sequence[Path]) -> tuple[str, ...]:
    """With where the job is submitted, which is where it runs."""
    return tuple(
        quoted(folder) for folder in dict.fromkeys(path.absolute() for path in [*folders, Path.cwd()])
    )
