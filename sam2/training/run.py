"""The main job: from a command line to a finished run directory. `train.py` and `sam2 train` are this.

`main` composes and checks the settings, `start` fixes the run directory and starts the ranks, `execute` is one rank.
Imports are inside the functions, so that help and mistakes are answered before torch is loaded.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2.closed_output import flushed, nobody_reads
from sam2.slurm import last_word
from sam2.training.errors import Interrupted, Superseded
from sam2.training.exit_codes import FAILED, RANK_LOST, STOPPED, UNEXPECTED
from sam2.training.failures import known_failures, verdict
from sam2.training.signals import hold, ignore, release
from sam2.training.typed import ConfigError

if TYPE_CHECKING:
    from sam2.training.compose import Invocation
    from sam2.training.config import RunConfig
    from sam2.training.evaluation_config import EvaluationConfig
    from sam2.training.job import Job
    from sam2.training.rundir import RunDirectory
    from sam2.training.sweeps.ended import Finished

    Build = Callable[[RunConfig, RunDirectory, int], Job]

log = logging.getLogger("sam2.training.run")  # also where this file runs as a program
_FENCED_S = 30.0  # for an older start of the same job to leave the run directory

USAGE = """\
usage: {program} [RECIPE] [key=value ...] [-m] [--cfg] [--help]

Train as a recipe says: from video shards to a scored, exported model in one run directory. Recipes that begin with
`task: evaluate`, `evaluate_interactive` or `evaluate_image` score a model on videos or images instead.

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
  {program} recipes/finetune_video.yaml data.root=/path/to/shards trainer.nodes=2 launcher=slurm cluster=gpus
"""


def as_program(argv: Sequence[str] | None = None, program: str = "python train.py") -> int:
    """As `main`, for a process of its own: what deserves a traceback has an exit code of its own, too."""
    if last_word.is_wanted():
        hold()
    try:
        code = main(argv, program)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():
            return FAILED
        traceback.print_exc()
        code = UNEXPECTED
    if last_word.is_wanted():
        ignore()
    return code if flushed() else code or FAILED


def main(argv: Sequence[str] | None = None, program: str = "python train.py") -> int:
    """Run a command line.

    Returns:
        The exit code: 0; 2 for settings that make no sense; 130 after Ctrl-C; otherwise that of the run.
    """
    code = UNEXPECTED
    try:
        code = _answered(sys.argv[1:] if argv is None else argv, program)
    finally:
        if code != RANK_LOST:  # the rank that went away may have left none
            last_word.leave(code)
    return code


def _answered(argv: Sequence[str], program: str) -> int:
    """Run a command line; what it raises deserves its traceback."""
    from sam2.training.compose import compose, parse

    try:
        invocation = parse(argv)
        if invocation.help:
            print(_usage(program), end="")
            return 0
        if invocation.show and not invocation.is_sweep:
            _show(_for_a_look(invocation))
            return 0

        command = [*program.split(), *argv]
        if invocation.is_sweep:
            release()
            return _sweep(invocation, command)
        config = _settings(invocation, compose(invocation))
        if config.launcher.kind == "slurm":
            from sam2.training.submission import submit

            release()
            submit(config, command)
        else:
            _begun(config, command)
    except (KeyboardInterrupt, SystemExit) as leaving:
        # Lightning turns Ctrl-C into a plain exit
        if isinstance(leaving, SystemExit) and not isinstance(leaving.__context__, KeyboardInterrupt):
            raise
        print("stopped; the same command continues from the last checkpoint", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # who reads may have gone, which is no failure: as_program finds out
        raise
    except Exception as error:
        found = verdict(error)
        if found is None:
            raise
        print(found.text, file=sys.stderr)
        return found.code
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
    from sam2.training.fence import Fence, Incarnation
    from sam2.training.rundir import check, choose, held
    from sam2.training.synthetic import make
    from sam2.training.trainer import target

    around = processes()
    place = target(config, around)
    directory = choose(config, around)
    if around.rank == 0:  # which may be writing there already when a slower rank arrives
        check(directory, config)
    if directory.is_finished and config.resume != "force":
        print(f"{directory.path} is finished: see report.html there. run_id=NAME starts another run")
        return directory
    if around.rank > 0:
        _wait_for_data(config)
        execute(config, directory, command)
        return directory
    own = Incarnation.current()
    if own.restart:
        Fence(directory.path, own, is_writer=True).claim()  # an older start of the job is to leave
    with _mistakes_undone(directory), held(directory, _FENCED_S if own.restart else 0.0):
        if config.synthetic is not None:
            make(config.synthetic, config.runs)
        if place.world > 1 and around.scheduler is None:
            release()
            _launch(config, directory, command, place.world)
        else:
            execute(config, directory, command)
    return directory


def execute(
    config: RunConfig, directory: RunDirectory, command: Sequence[str], build: Build | None = None
) -> None:
    """Train as one rank of a run, from its last checkpoint if there is one.

    Args:
        config: the settings.
        directory: of the run.
        command: how the run was started, for its record.
        build: makes the job; by default SAM 2 and its clips.
    """
    from rich.console import Console

    from sam2.training.beginning import Beginning
    from sam2.training.checkpointing import newest_readable, remove_leftovers
    from sam2.training.cost import Bill
    from sam2.training.environment import processes
    from sam2.training.fence import Fence, Incarnation
    from sam2.training.logs import logged
    from sam2.training.rundir import begin
    from sam2.training.signals import listening
    from sam2.training.trainer import Start, build_trainer, prepare, target
    from sam2.training.watchdog import guarded

    console = Console()
    rank = int(os.environ.get("RANK", processes().rank))
    fence = Fence(directory.path, Incarnation.current(), is_writer=rank == 0)
    world = int(os.environ.get("WORLD_SIZE", processes().world))
    own_log = directory.log(rank)
    guard = guarded(own_log, rank, world, config.launcher.timeout_s)
    with logged(own_log, rank, console), guard, listening() as asked, fence.watched():
        if rank == 0:
            fence.claim()
        place = target(config, processes())
        log.info("run %s on %s", directory.path, place)
        prepare(config, place)
        bill = Bill(directory, place)
        job = (build or _sam2_job())(config, directory, place.world)
        job = dataclasses.replace(job, callbacks=[*job.callbacks, bill])
        _refuse_to_do_nothing(directory, job)
        beginning = Beginning(lambda: begin(directory, config, command, job.facts))
        trainer = build_trainer(config, directory, place, job, Start(beginning, asked, fence), console)
        if rank == 0:
            remove_leftovers(directory.checkpoints)
        checkpoint = newest_readable(directory.checkpoints)
        trainer.fit(job.module, datamodule=job.data, ckpt_path=checkpoint, weights_only=True)
        fence.check()
        job.after(trainer)
        fence.check()
        bill.write()
        if rank == 0:
            directory.finish(step=trainer.global_step)


def _refuse_to_do_nothing(directory: RunDirectory, job: Job) -> None:
    """See that a finished run that is forced to go on has steps left to do."""
    done = (directory.read_record().get("finished") or {}).get("step", -1)
    if done >= job.max_steps:
        raise ConfigError(
            f"{directory.path} is finished at step {done}, and {job.max_steps} are asked for: no setting would change "
            f"anything. Ask for more steps (trainer.max_steps={2 * done}), or start another run from its weights: "
            f"run_id=NAME model.checkpoint={directory.exported}"
        )


def _launch(config: RunConfig, directory: RunDirectory, command: Sequence[str], world: int) -> None:
    """One process for each of `world` devices of this machine."""
    from sam2.training.launch import run_ranks
    from sam2.training.rundir import propose

    propose(directory, config, command)
    # -P: a folder of the user's called `data` must not hide ours
    worker = [sys.executable, "-P", "-m", __name__, str(directory.path)]
    try:
        run_ranks(worker, world, directory.log, config.launcher.threads)
    finally:
        directory.proposal.unlink(missing_ok=True)


@contextmanager
def _mistakes_undone(directory: RunDirectory) -> Iterator[None]:
    """Remove a directory that was made for a run which a mistake of the user's kept from beginning."""
    was_there = directory.path.exists()
    try:
        yield
    except Exception as error:
        is_mistake = (
            isinstance(error, (ConfigError, *known_failures())) and getattr(error, "code", 1) != UNEXPECTED
        )
        if is_mistake and not was_there and not directory.config.is_file():
            shutil.rmtree(directory.path, ignore_errors=True)
        raise


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


def _settings(invocation: Invocation, values: Mapping[str, Any]) -> RunConfig | EvaluationConfig:
    """Typed settings; those of a run directory are bound to it, unless the user names another place."""
    from sam2.training.config import resolve
    from sam2.training.evaluation_config import is_evaluation, resolve_evaluation

    if is_evaluation(values):
        return resolve_evaluation(values)
    recipe = invocation.recipe
    config = resolve(values, recipe.stem)
    is_run = (recipe.parent / "run.json").is_file() and recipe.name == "config.yaml"
    moved = config.run_dir is not None or any(word.startswith("run_id=") for word in invocation.overrides)
    return dataclasses.replace(config, run_dir=recipe.parent) if is_run and not moved else config


def _for_a_look(invocation: Invocation) -> Mapping[str, Any]:
    """All settings of a recipe, complete or not."""
    from sam2.training.compose import compose
    from sam2.training.config import is_complete, unchecked
    from sam2.training.evaluation_config import is_evaluation, shown
    from sam2.training.typed import to_plain

    values = compose(invocation, is_complete=False)
    if is_evaluation(values):
        return shown(values)
    if is_complete(values):
        plain: Mapping[str, Any] = to_plain(_settings(invocation, values))
        return plain
    return unchecked(values, invocation.recipe.stem)


def _begun(config: RunConfig | EvaluationConfig, command: Sequence[str]) -> Finished:
    """Train or evaluate, to the end."""
    from sam2.training.evaluation_config import EvaluationConfig
    from sam2.training.sweeps.ended import Finished

    if isinstance(config, EvaluationConfig):
        release()
        from rich.console import Console

        from sam2.training.evaluation_job import run_evaluation

        return Finished.evaluation(
            run_evaluation(config, Console(highlight=False, markup=False, soft_wrap=True))
        )
    return Finished.training(start(config, command))


def _sweep(invocation: Invocation, command: Sequence[str]) -> int:
    """All runs of a sweep, or a look at the settings of each."""
    from sam2.training.sweeps.command import Sweep, run_sweep, settings_of_all

    if invocation.show:
        for settings in settings_of_all(invocation):
            _show(settings)
        return 0
    return run_sweep(invocation, Sweep(lambda config: _begun(config, command), command, known_failures()))


def _show(settings: Mapping[str, Any]) -> None:
    from sam2.training.settings_text import as_yaml

    print(as_yaml(settings), end="")


def _worker(path: str) -> int:
    """One rank, started by `run_ranks`: all it needs is in the run directory."""
    from sam2.training.launch import die_with_parent

    die_with_parent()
    from sam2.training.rundir import RunDirectory, proposed

    directory = RunDirectory(Path(path))
    try:
        config, command = proposed(directory)
        execute(config, directory, command)
    except (Interrupted, Superseded) as leaving:  # the process that started the ranks says it once
        return leaving.code
    except Exception as error:
        found = verdict(error)
        if found is None:
            traceback.print_exc()
            return UNEXPECTED
        print(found.text, file=sys.stderr)
        return found.code
    return 0


if __name__ == "__main__":
    sys.exit(_worker(sys.argv[1]))
