"""The main job: from a command line to a finished run directory. `train.py` and `sam2 train` are this.

`main` composes and checks the settings, `start` fixes the run directory and starts the ranks, `execute` is one rank.
Imports are inside the functions, so that help and mistakes are answered before torch is loaded.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2.training.typed import ConfigError

if TYPE_CHECKING:
    from sam2.training.compose import Invocation
    from sam2.training.config import RunConfig
    from sam2.training.job import Job
    from sam2.training.rundir import RunDirectory

    Build = Callable[[RunConfig, RunDirectory, int], Job]

USAGE = """\
usage: {program} [RECIPE] [key=value ...] [-m] [--cfg] [--help]

Train as a recipe says: from video shards to a scored, exported model in one run directory.

  RECIPE      a file, a run directory to continue, or the name of a shipped recipe; demo if left out
  key=value   change a setting (optim.lr=1e-5) or choose from a group (logger=wandb)
  -m          one run for each combination of comma-separated values
  --cfg       print the resolved settings and stop

recipes: {recipes}
groups:  {groups}

examples:
  {program} recipes/smoke.yaml
  {program} recipes/finetune_video.yaml data.root=/path/to/shards trainer.devices=4
  {program} -m recipes/smoke.yaml optim.lr=1e-4,3e-4
"""


def main(argv: Sequence[str] | None = None, program: str = "python train.py") -> int:
    """Run a command line.

    Returns:
        The exit code: 0; 2 for settings that make no sense; 130 after Ctrl-C; otherwise that of the run.
    """
    from sam2.training.compose import compose, parse, sweep

    argv = sys.argv[1:] if argv is None else argv
    try:
        invocation = parse(argv)
        if invocation.help:
            print(_usage(program), end="")
            return 0

        def check(values: Mapping[str, Any]) -> RunConfig:
            return _settings(invocation, values)

        def job(values: Mapping[str, Any]) -> None:
            config = check(values)
            _show(config) if invocation.show else start(config, [*program.split(), *argv])

        if invocation.is_sweep:
            sweep(invocation, check, job)
        else:
            job(compose(invocation))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, SystemExit) as leaving:
        # Lightning turns Ctrl-C into a plain exit
        if isinstance(leaving, SystemExit) and not isinstance(leaving.__context__, KeyboardInterrupt):
            raise
        print("stopped; the same command continues from the last checkpoint", file=sys.stderr)
        return 130
    except _known_failures() as error:
        print(f"error: {error}", file=sys.stderr)
        return int(getattr(error, "code", 1))
    return 0


def start(config: RunConfig, command: Sequence[str]) -> RunDirectory:
    """Fix the run directory, then train in it: here, or in one process per device.

    Args:
        config: the settings.
        command: how the run was started, for its record.

    Raises:
        ConfigError: the directory holds another run, or is in use.
    """
    from sam2.training.environment import processes
    from sam2.training.launch import run_ranks
    from sam2.training.rundir import begin, check, choose, held
    from sam2.training.synthetic import make
    from sam2.training.trainer import target

    around = processes()
    place = target(config, around)
    directory = choose(config, around)
    check(directory, config)
    if directory.is_finished and config.resume != "force":
        print(f"{directory.path} is finished: see report.html there. run_id=NAME starts another run")
        return directory
    if around.rank > 0:
        _wait_for_data(config)
        execute(config, directory)
        return directory
    with held(directory):
        begin(directory, config, command)
        if config.synthetic is not None:
            make(config.synthetic, config.runs)
        if place.world > 1 and around.scheduler is None:
            # -P: a folder of the user's called `data` must not hide ours
            worker = [sys.executable, "-P", "-m", __name__, str(directory.path)]
            run_ranks(worker, place.world, directory.log, config.launcher.threads)
        else:
            execute(config, directory)
    return directory


def execute(config: RunConfig, directory: RunDirectory, build: Build | None = None) -> None:
    """Train as one rank of a run whose directory is ready, from its last checkpoint if there is one.

    Args:
        config: the settings.
        directory: of the run.
        build: makes the job; by default SAM 2 and its clips.
    """
    from rich.console import Console

    from sam2.training.checkpointing import newest_readable, remove_leftovers
    from sam2.training.environment import processes
    from sam2.training.logs import logged
    from sam2.training.trainer import build_trainer, prepare, target

    console = Console()
    rank = int(os.environ.get("RANK", processes().rank))
    with logged(directory.log(rank), rank, console):
        place = target(config, processes())
        prepare(config, place)
        job = (build or _sam2_job())(config, directory, place.world)
        trainer = build_trainer(config, directory, place, job, console)
        if rank == 0:
            remove_leftovers(directory.checkpoints)
            directory.note(**job.facts)
        checkpoint = newest_readable(directory.checkpoints)
        trainer.fit(job.module, datamodule=job.data, ckpt_path=checkpoint, weights_only=True)
        job.after(trainer)
        if rank == 0:
            directory.finish(step=trainer.global_step)


def _sam2_job() -> Build:
    from sam2.training.outcome import build_job

    return build_job


def _wait_for_data(config: RunConfig) -> None:
    """Wait for rank 0, which was started from outside as this rank was, to make the videos."""
    from sam2.training.synthetic import is_made

    deadline = time.monotonic() + config.launcher.timeout_s
    while config.synthetic is not None and not is_made(config.synthetic, config.runs):
        if time.monotonic() > deadline:
            raise ConfigError(
                f"rank 0 made no videos within launcher.timeout_s={config.launcher.timeout_s:g}"
            )
        time.sleep(0.5)


def _usage(program: str) -> str:
    from sam2.shipped import shipped
    from sam2.training.compose import recipe_names

    groups = sorted(child.name for child in shipped("configs").iterdir() if child.is_dir())
    return USAGE.format(program=program, recipes=" ".join(recipe_names()), groups=" ".join(groups))


def _settings(invocation: Invocation, values: Mapping[str, Any]) -> RunConfig:
    """Typed settings; those of a run directory are bound to it, unless the user names another place."""
    from sam2.training.config import resolve

    recipe = invocation.recipe
    config = resolve(values, recipe.stem)
    is_run = (recipe.parent / "run.json").is_file() and recipe.name == "config.yaml"
    moved = config.run_dir is not None or any(word.startswith("run_id=") for word in invocation.overrides)
    return dataclasses.replace(config, run_dir=recipe.parent) if is_run and not moved else config


def _show(config: RunConfig) -> None:
    import yaml

    from sam2.training.typed import to_plain

    print(yaml.safe_dump(to_plain(config), sort_keys=False), end="")


def _known_failures() -> tuple[type[Exception], ...]:
    """Failures whose message says all; anything else deserves its traceback."""
    from data.clip import DataError
    from sam2.checkpoint import CheckpointError
    from sam2.training.callbacks import TrainingError
    from sam2.training.launch import LaunchError

    return (DataError, CheckpointError, TrainingError, LaunchError)


def _worker(path: str) -> int:
    """One rank, started by `run_ranks`: all it needs is in the run directory."""
    from sam2.training.launch import die_with_parent

    die_with_parent()
    from sam2.training.rundir import RunDirectory, read_config

    directory = RunDirectory(Path(path))
    try:
        execute(read_config(directory), directory)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except _known_failures() as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_worker(sys.argv[1]))
