"""`python train.py -m ...`: from the words of a sweep to its runs."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sam2.training.batch_jobs import for_cluster
from sam2.training.compose import Combination, Expansion, Invocation, compose, expand, sweep
from sam2.training.config import RunConfig, resolve
from sam2.training.environment import processes
from sam2.training.evaluation_config import EvaluationConfig, is_evaluation, resolve_evaluation
from sam2.training.members import Member, plan_members, sweep_id
from sam2.training.submission import show_sweep, submit_each, submit_sweep
from sam2.training.sweeps.ended import Finished
from sam2.training.sweeps.record import FOLDER, RecordedMember, SweepRecord, factors_of, write_record
from sam2.training.sweeps.running import RunFailed, Tally, run_all, run_member
from sam2.training.sweeps.runs import told_apart
from sam2.training.typed import ConfigError, to_plain


@dataclasses.dataclass(frozen=True)
class Sweep:
    """How the main job takes part.

    Attributes:
        begin: one training or evaluation in this process, to its end.
        command: how the sweep was started.
        failures: exceptions whose message says all.
    """

    begin: Callable[[RunConfig | EvaluationConfig], Finished]
    command: Sequence[str]
    failures: tuple[type[Exception], ...]


def run_sweep(invocation: Invocation, how: Sweep) -> int:
    """Start all runs of a sweep, or what is left of them; gives the exit code.

    Raises:
        ConfigError: a setting of any run is wrong; nothing was started.
    """
    expansion = expand(invocation)
    if expansion is None:
        return _by_plugin(invocation, how)
    typed = _typed(invocation, expansion)
    trainings = [(combination, config) for combination, config in typed if isinstance(config, RunConfig)]
    is_slurm = typed[0][1].launcher.kind == "slurm"
    if not trainings:
        if is_slurm:
            return submit_each([config for _, config in typed], how.command)
        evaluations = [
            (combination, partial(how.begin, config))
            for combination, config in typed
            if not isinstance(config, RunConfig)
        ]
        return run_all(evaluations, how.failures)
    if len(trainings) < len(typed):
        raise ConfigError("a sweep is of trainings or of evaluations; `task` cannot be swept")
    members = plan_members(trainings)
    if is_slurm and trainings[0][1].launcher.dry_run:
        return show_sweep(members, how.command)
    record = record_members(invocation, expansion, trainings, members, how.command)
    if is_slurm:
        return submit_sweep(members, record.parent, how.command)
    return run_all([(each.combination, partial(run_member, each)) for each in members], how.failures)


def settings_of_all(invocation: Invocation) -> list[Any]:
    """All settings of each run, as plain mappings, for a look.

    Raises:
        ConfigError: a setting is wrong, or a plug-in of Hydra chooses the runs.
    """
    expansion = expand(invocation)
    if expansion is None:
        raise ConfigError("the runs are chosen one after the other by a plug-in of Hydra; leave out --cfg")
    return [to_plain(config) for _, config in _typed(invocation, expansion)]


def _typed(
    invocation: Invocation, expansion: Expansion
) -> list[tuple[Combination, RunConfig | EvaluationConfig]]:
    return [(combination, _of_one(invocation, settings)) for combination, settings in expansion.runs]


def _of_one(invocation: Invocation, settings: Mapping[str, Any]) -> RunConfig | EvaluationConfig:
    if is_evaluation(settings):
        return resolve_evaluation(settings)
    config = resolve(settings, invocation.recipe.stem)
    return for_cluster(config) if config.launcher.kind == "slurm" else config


def record_members(
    invocation: Invocation,
    expansion: Expansion,
    trainings: Sequence[tuple[Combination, RunConfig]],
    members: Sequence[Member],
    command: Sequence[str],
) -> Path:
    """Write the record of a sweep beside its runs, and say where."""
    first = trainings[0][1]
    folder = first.runs.absolute() / first.name / FOLDER / sweep_id([config for _, config in trainings])
    plain = [told_apart(to_plain(config)) for _, config in trainings]
    every = dict.fromkeys(key for settings in plain for key in settings)
    keys = [key for key in every if any(settings.get(key) != plain[0].get(key) for settings in plain)]
    recorded = [
        RecordedMember(
            " ".join(each.combination.overrides), each.directory.path, _picked(to_plain(each.config), keys)
        )
        for each in members
    ]
    factors = factors_of([combination.overrides for combination, _ in trainings])
    own = _values_of_the_recipe(invocation, expansion, keys)
    record = SweepRecord(shlex.join(command), factors, recorded, own)
    path = write_record(folder, record)
    left = sum(member.state != "done" for member in members)
    print(f"sweep of {len(members)} runs, {left} to do: {path}", flush=True)
    return path


def _values_of_the_recipe(
    invocation: Invocation, expansion: Expansion, keys: Sequence[str]
) -> dict[str, Any]:
    """What the settings `keys` are without the sweep; nothing if the recipe is incomplete without it."""
    try:
        values = compose(dataclasses.replace(invocation, overrides=expansion.common))
        return _picked(to_plain(resolve(values, invocation.recipe.stem)), keys)
    except ConfigError:  # such as a setting that only the sweep gives: then no run is the recipe's own
        return {}


def _picked(settings: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    own = told_apart(settings)
    return {key: own[key] for key in keys if key in own}


def _by_plugin(invocation: Invocation, how: Sweep) -> int:
    """Leave it to a sweeper or launcher of Hydra, which gets each run's leading score.

    Raises:
        ConfigError: a run has nothing that could be optimised.
    """
    tally = Tally()

    def one(settings: Mapping[str, Any], combination: Combination) -> float:
        print(combination, flush=True)
        finished = _once(how, _of_one(invocation, settings), combination)
        tally.add(combination, finished)
        if not finished.scores:
            raise ConfigError(f"{finished.path} has no score to choose by; set data.val_root")
        return next(iter(finished.scores.values()))

    try:
        sweep(invocation, one)
    except RunFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    finally:
        code = tally.conclude()
    return code


def _once(how: Sweep, config: RunConfig | EvaluationConfig, combination: Combination) -> Finished:
    """One run that a plug-in asks for.

    Raises:
        ConfigError: SLURM should get it.
    """
    if config.launcher.kind == "slurm":
        raise ConfigError(
            "launcher=slurm submits all runs of a sweep at once, but a plug-in of Hydra chooses them one by one; leave "
            "launcher=slurm out, or let the plug-in start jobs: hydra/launcher=submitit_slurm (slurm/README.md)"
        )
    if not isinstance(config, RunConfig):
        return how.begin(config)
    if (
        processes().scheduler is not None
    ):  # the plug-in's launcher started all ranks of the run, and this is one
        return how.begin(config)
    (member,) = plan_members([(combination, config)])
    return run_member(member)
