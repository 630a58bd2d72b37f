"""`hydra/sweeper=optuna`: Optuna chooses the next run by the scores of those before (the extra `search`).

The space is written in Hydra's words: `optim.lr=tag(log,interval(1e-5,1e-3))`, `data.frames=range(2,9)`,
`model.memory_slots=int(interval(2,7))`, `model.mem_dim=32,64,128`, on the command line or in `hydra.sweeper.params`
of a recipe. Hydra's own plug-in of this name holds Optuna below version 3; here Hydra reads the words and composes each
trial, and no plug-in is needed. A trial is a run like any other: a directory of its own, not run again where it is
done. What came of the trials is kept in the sweep's folder (`trials.log`), so that the same command goes on where it
was, and with a larger `hydra.sweeper.trials` beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sam2.training.sweeps.failure import RunFailed
from sam2.training.typed import ConfigError, from_mapping

NAME = "optuna"
_NOT_THERE = (
    "hydra/sweeper=optuna needs Optuna: pip install 'sam2-train[search]', or -e '.[search]' in a checkout"
)


@dataclass(frozen=True)
class SearchConfig:
    """How to search; `hydra.sweeper` of `hydra/sweeper=optuna`.

    Attributes:
        trials: how many in all, those of earlier starts and failed ones included.
        startup: so many are drawn at random before Optuna's TPE chooses.
        direction: of the score, which is J&F at the end (the first number of an evaluation).
        seed: of the draws.
        params: the space of a recipe, by setting.
    """

    trials: int = 20
    startup: int = 10
    direction: Literal["maximize", "minimize"] = "maximize"
    seed: int = 0
    params: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.trials < 1 or self.startup < 0:
            raise ValueError("hydra.sweeper.trials must be at least 1 and hydra.sweeper.startup at least 0")


def search(
    words: Sequence[str],
    settings: Mapping[str, Any],
    folder: Path,
    run: Callable[[Sequence[str], Sequence[str], int], float],
) -> str:
    """Run trial after trial; those that fail are told as failed, and the search goes on.

    Args:
        words: of the command line and the recipe's space; those with several values are searched.
        settings: of `SearchConfig`, as they were composed.
        folder: of the sweep, where the trials are kept.
        run: does one trial, given its own words, those that all share and its number; gives its score.

    Returns:
        One line: the best trial.

    Raises:
        ConfigError: Optuna is not there, or the space is none, or another one than that of earlier trials.
        RunFailed: somebody stopped a run, and with it the search.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    how = from_mapping(SearchConfig, {key: value for key, value in settings.items() if key[:1] != "_"})
    given = {o.key_or_group: o for o in OverridesParser.create().parse_overrides(list(words))}
    space = {key: _distribution(key, o) for key, o in given.items() if o.is_sweep_override()}
    if not space:
        raise ConfigError(
            "there is nothing to search: give a setting several values, such as 'optim.lr=tag(log,interval(1e-5,1e-3))'"
        )
    is_hydras = ("hydra.", "hydra/")
    fixed = [
        str(o.input_line)
        for key, o in given.items()
        if not o.is_sweep_override() and not key.startswith(is_hydras)
    ]
    study = _study(folder, how)
    while (number := _ended(study)) < how.trials:
        trial = _ask(study, space, folder)
        try:
            score = run(_words(trial), fixed, number + 1)
        except RunFailed as error:
            if error.ends_all:
                raise  # the trial is left open, to be taken up again
            study.tell(trial, state=_states().FAIL)
        else:
            study.tell(trial, score)
    return _best(study)


def _study(folder: Path, how: SearchConfig) -> Any:
    """The trials so far."""
    optuna = _optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    folder.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / "trials.log"))),  # on network disks, too
        study_name=NAME,
        load_if_exists=True,
        direction=how.direction,
        sampler=optuna.samplers.TPESampler(seed=how.seed, n_startup_trials=how.startup),
    )


def _ask(study: Any, space: Mapping[str, Any], folder: Path) -> Any:
    """The next trial: one that was interrupted, or what Optuna suggests."""
    for left in study.get_trials(states=(_states().RUNNING,)):
        study.tell(left.number, state=_states().FAIL)
        study.set_user_attr(_interrupted(left), True)
        study.enqueue_trial(left.params)
    try:
        return study.ask(dict(space))
    except ValueError as error:
        raise ConfigError(
            f"{error}; the trials in {folder} were drawn from another space: remove that folder to begin anew"
        ) from error


def _ended(study: Any) -> int:
    """How many trials came to an end, good or bad."""
    return sum(t.state.is_finished() and _interrupted(t) not in study.user_attrs for t in study.trials)


def _interrupted(trial: Any) -> str:
    return f"interrupted {trial.number}"


def _best(study: Any) -> str:
    scored = [trial for trial in study.trials if trial.value is not None]
    if not scored:
        return f"none of {len(study.trials)} trials gave a score"
    best = study.best_trial
    return f"best of {len(scored)} trials: {best.value:.4g} with {' '.join(_words(best))}"


def _words(trial: Any) -> list[str]:
    """What is its own; six digits of a number are enough."""
    return [
        f"{key}={f'{value:.6g}' if isinstance(value, float) else value}"
        for key, value in trial.params.items()
    ]


def _distribution(key: str, override: Any) -> Any:
    """What Optuna draws from, for what Hydra's words say."""
    _optuna()
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    is_log = "log" in getattr(sweep, "tags", ())
    if isinstance(sweep, IntervalSweep):
        is_whole = isinstance(sweep.start, int) and isinstance(sweep.end, int)
        kind: Any = IntDistribution if is_whole else FloatDistribution
        return kind(sweep.start, sweep.end, log=is_log)
    if isinstance(sweep, RangeSweep) and isinstance(values := sweep.range(), range):
        return IntDistribution(values[0], values[-1], step=values.step)
    if isinstance(sweep, ChoiceSweep | RangeSweep):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    raise ConfigError(f"{key}: a search takes intervals, ranges and choices, not a {type(sweep).__name__}")


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState


def _optuna() -> Any:
    """The package.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError(_NOT_THERE) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def register() -> None:
    """Make `hydra/sweeper=optuna` a choice that Hydra composes."""
    from hydra.core.config_store import ConfigStore

    fields = {name: field.default for name, field in SearchConfig.__dataclass_fields__.items()}
    node = {"_target_": f"{__name__}.search", **fields}
    ConfigStore.instance().store(group="hydra/sweeper", name=NAME, node=node, provider="sam2-train")
