"""`python train.py -m ...`: from the words of a sweep to its runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sam2.training.batch_jobs import for_cluster
from sam2.training.compose import (
    Combination,
    Expansion,
    Invocation,
    SweepWords,
    compose,
    expand,
    sweep,
    words_of_sweep,
)
from sam2.training.config import RunConfig, resolve
from sam2.training.environment import processes
from sam2.training.evaluation_config import EvaluationConfig, is_evaluation, resolve_evaluation
from sam2.training.members import Member, plan_members, sweep_id
from sam2.training.submission import show_sweep, submit_each, submit_sweep
from sam2.training.sweeps.ended import Finished
from sam2.training.sweeps.failure import RunFailed
from sam2.training.sweeps.record import FOLDER, RecordedMember, SweepRecord, factors_of, write_record
from sam2.training.sweeps.running import Tally, run_all, run_member
from sam2.training.sweeps.runs import told_apart
from sam2.training.sweeps.search import NAME as SEARCH
from sam2.training.sweeps.search import search
from sam2.training.typed import ConfigError, to_plain

_ONE_BY_ONE = (
    "launcher=slurm submits all runs of a sweep at once, but a plug-in of Hydra chooses them one by one; leave "
    "launcher=slurm out, or let the plug-in start jobs: hydra/launcher=submitit_slurm (slurm/README.md)"
)


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
    asked = words_of_sweep(invocation)
    if not asked.is_grid:
        return _one_by_one(invocation, asked, how)
    expansion = expand(invocation, asked)
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
    record = partial(record_members, invocation, expansion, members, how.command)
    if is_slurm:
        configs = [member.config for member in members]
        return submit_sweep(members, _folder(configs[0], sweep_id(configs)), record, how.command)
    record()
    return run_all([(each.combination, partial(run_member, each)) for each in members], how.failures)


def settings_of_all(invocation: Invocation) -> list[Any]:
    """All settings of each run, as plain mappings, for a look.

    Raises:
        ConfigError: a setting is wrong, or a plug-in of Hydra chooses the runs.
    """
    asked = words_of_sweep(invocation)
    if not asked.is_grid:
        raise ConfigError(
            "the runs are chosen one after the other, so there is nothing to show; leave out --cfg"
        )
    expansion = expand(invocation, asked)
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
    members: Sequence[Member],
    command: Sequence[str],
    submitted: int = 0,
) -> None:
    """Write the record of a sweep beside its runs, and say where, and how many of its members have a job already."""
    configs = [member.config for member in members]
    folder = _folder(configs[0], sweep_id(configs))
    path = write_record(folder, _record(members, command, _of_the_recipe(invocation, expansion.common)))
    left = sum(member.state != "done" for member in members) - submitted
    waiting = f", {submitted} submitted already" if submitted else ""
    print(f"sweep of {len(members)} runs, {left} to do{waiting}: {path}", flush=True)


def _folder(config: RunConfig, name: str) -> Path:
    return config.runs.absolute() / config.name / FOLDER / name


def _record(members: Sequence[Member], command: Sequence[str], recipe: Mapping[str, Any]) -> SweepRecord:
    plain = [told_apart(to_plain(member.config)) for member in members]
    every = dict.fromkeys(key for settings in plain for key in settings)
    keys = [key for key in every if any(settings.get(key) != plain[0].get(key) for settings in plain)]
    recorded = [
        RecordedMember(
            " ".join(member.combination.overrides),
            member.directory.path,
            {key: settings[key] for key in keys if key in settings},
        )
        for member, settings in zip(members, plain, strict=True)
    ]
    factors = factors_of([member.combination.overrides for member in members])
    return SweepRecord(
        shlex.join(command), factors, recorded, {key: recipe[key] for key in keys if key in recipe}
    )


def _of_the_recipe(invocation: Invocation, words: Sequence[str]) -> dict[str, Any]:
    """The settings of the recipe with `words` and without a sweep; nothing if they are incomplete."""
    try:
        values = compose(dataclasses.replace(invocation, overrides=tuple(words)))
        return told_apart(to_plain(resolve(values, invocation.recipe.stem)))
    except ConfigError:  # such as a setting that only the sweep gives: then no run is the recipe's own
        return {}


def _one_by_one(invocation: Invocation, asked: SweepWords, how: Sweep) -> int:
    """Let a sweeper choose each run by the scores of those before, or a plug-in of Hydra start them.

    Raises:
        ConfigError: a run has nothing that could be optimised, or is for SLURM.
    """
    tally, members, name = Tally(), list[Member](), _name(invocation)
    recipe = _of_the_recipe(invocation, ())

    def one(settings: Mapping[str, Any], combination: Combination) -> float:
        config = _of_one(invocation, settings)
        print(combination, flush=True)
        if config.launcher.kind == "slurm":
            raise ConfigError(_ONE_BY_ONE)
        if isinstance(config, RunConfig) and processes().scheduler is None:
            members.extend(plan_members([(combination, config)], name))
            write_record(_folder(config, name), _record(members, how.command, recipe))
            finished = run_member(members[-1])
        else:  # an evaluation; or the plug-in's launcher started all ranks of the run, and this is one
            finished = how.begin(config)
        tally.add(combination, finished)
        if not finished.scores:
            raise ConfigError(f"{finished.path} has no score to choose by; set data.val_root")
        return next(iter(finished.scores.values()))

    def trial(own: Sequence[str], common: Sequence[str], number: int) -> float:
        settings = compose(dataclasses.replace(invocation, overrides=(*own, *common)))
        combination = Combination(tuple(own), number)
        try:
            return one(settings, combination)
        except RunFailed as error:
            tally.fail(combination, error)
            raise

    try:
        if asked.sweeper == SEARCH:
            print(search(asked.words, asked.settings, _beside_the_runs(invocation, name), trial))
        else:
            sweep(invocation, asked, one)
    except RunFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    finally:
        code = tally.conclude()
    return code


def _beside_the_runs(invocation: Invocation, sweep_name: str) -> Path:
    """The folder of a sweep, before any of its runs is known."""
    where = tuple(word for word in invocation.overrides if word.startswith(("runs=", "name=")))
    values = compose(dataclasses.replace(invocation, overrides=where), is_complete=False)
    runs, name = values.get("runs") or "runs", values.get("name") or invocation.recipe.stem
    return Path(runs).expanduser().absolute() / name / FOLDER / sweep_name


def _name(invocation: Invocation) -> str:
    """Of a sweep whose runs are not known beforehand: by what was asked for, but not by how long to search."""
    asked = sorted(word for word in invocation.overrides if not word.startswith("hydra"))
    text = json.dumps([invocation.recipe.stem, *asked])
    return hashlib.sha256(text.encode()).hexdigest()[:6]
