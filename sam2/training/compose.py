"""From a command line to composed settings: the recipe is Hydra's primary config and draws groups from `configs/`.

Hydra composes and expands sweeps; nothing else of it is used. One run goes through its compose API, `-m` through
`hydra.main`, so that every sweeper and launcher plug-in works. Two things are done before Hydra sees the command line:
`key=value` becomes `++key=value` unless it chooses a group, because which keys exist is for the typed schema to say
(sam2/training/typed.py), not for the YAML that happens to be drawn in; and a group that the recipe does not draw is
added instead of refused. Hydra's own folder is temporary: the run directory holds all there is to keep.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sam2.shipped import shipped
from sam2.training.evaluation_config import is_evaluation
from sam2.training.typed import ConfigError, closest

HYDRA_VERSION_BASE = "1.3"
# evaluations draw no groups; some of their settings are called like one (model, data, policy), which Hydra would take
# for a choice, so that settings from the command line go through it below this key
_GIVEN = "_given"
# groups that evaluations may choose from as well
_OF_ALL = ("launcher", "cluster")


@dataclass(frozen=True)
class Invocation:
    """A command line taken apart: `recipe` is a file that exists, `overrides` are the user's `key=value`."""

    recipe: Path
    overrides: tuple[str, ...] = ()
    is_sweep: bool = False
    show: bool = False
    help: bool = False


def parse(argv: Sequence[str]) -> Invocation:
    """Take `[recipe] [key=value ...] [-m] [--cfg] [--help]` apart.

    Raises:
        ConfigError: an unknown option, two recipes, or a recipe that does not exist.
    """
    flags = {"-m": "sweep", "--multirun": "sweep", "--cfg": "show", "-h": "help", "--help": "help"}
    recipes, overrides, seen = [], [], set()
    for word in argv:
        if word in flags:
            seen.add(flags[word])
        elif word.startswith("-"):
            near = closest(word, flags)
            raise ConfigError(
                f"unknown option '{word}'" + (f"; did you mean '{near}'?" if near else "; see --help")
            )
        elif ("=" in word or word.startswith(("~", "+"))) and not Path(word).is_file():
            overrides.append(word)
        elif word == "job" and "show" in seen:
            continue  # Hydra's spelling, `--cfg job`
        else:
            recipes.append(word)
    if len(recipes) > 1:
        raise ConfigError(
            f"one recipe at a time, got {' and '.join(recipes)}; settings are written key=value"
        )
    if "help" in seen:
        return Invocation(Path(), help=True)
    recipe = find_recipe(recipes[0] if recipes else "demo")
    return Invocation(recipe, tuple(overrides), is_sweep="sweep" in seen, show="show" in seen)


def recipe_names() -> list[str]:
    """Names of the recipes that come with the project."""
    return sorted(path.stem for path in shipped("recipes").glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """The file meant by `name`: a path with or without `.yaml`, a run directory, or the name of a shipped recipe."""
    given = Path(name).expanduser()
    if (given / "config.yaml").is_file():
        return (given / "config.yaml").resolve()
    for folder in (Path.cwd(), shipped("recipes").parent, shipped("recipes")):
        for spelling in (given, Path(f"{given}.yaml")):
            if (folder / spelling).is_file() and spelling.suffix == ".yaml":
                return (folder / spelling).resolve()
    near = closest(given.stem, recipe_names())
    hint = f"did you mean recipes/{near}.yaml?" if near else f"shipped recipes: {', '.join(recipe_names())}"
    raise ConfigError(f"no recipe {name!r} here or in {shipped('recipes')}; {hint}")


def compose(invocation: Invocation, is_complete: bool = True) -> Mapping[str, Any]:
    """The settings of one run as plain mappings, interpolations resolved; what must be given has to be, if complete.

    Raises:
        ConfigError: whatever Hydra or OmegaConf objects to, in one line.
    """
    with _readable_errors(invocation), _hydra(invocation) as rewritten:
        settings = _plain(_composed(invocation, rewritten), is_complete)
    if not is_evaluation(settings) and "trainer" not in settings:
        raise ConfigError(
            f"{invocation.recipe.name} does not say how long to train (trainer.max_steps or trainer.epochs); a recipe "
            "that changes another one begins with `defaults: [finetune_video, _self_]`"
        )
    return settings


@dataclass(frozen=True)
class Combination:
    """One run of a sweep: its own settings as words, which one it is, and of how many if that is known beforehand."""

    overrides: tuple[str, ...]
    number: int
    count: int | None = None

    def __str__(self) -> str:
        of = f" of {self.count}" if self.count else ""
        return f"run {self.number}{of}: {' '.join(self.overrides)}"


@dataclass(frozen=True)
class Expansion:
    """All runs of a sweep over a grid.

    Attributes:
        common: the words of the command line that all runs share.
        runs: the settings of each.
    """

    common: tuple[str, ...]
    runs: tuple[tuple[Combination, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class SweepWords:
    """What a sweep is asked for.

    Attributes:
        sweeper, launcher: of Hydra, by name.
        settings: of the sweeper.
        words: those of the recipe's grid that the command line leaves as they are, then those of the command line.
    """

    sweeper: str
    launcher: str
    settings: Mapping[str, Any]
    words: tuple[str, ...]

    @property
    def is_grid(self) -> bool:
        """Whether all runs are known beforehand, and nobody but us starts them."""
        return self.sweeper == self.launcher == "basic"


def words_of_sweep(invocation: Invocation) -> SweepWords:
    """Who expands a sweep, and what: the recipe's grid is `hydra.sweeper.params`, the command line wins.

    Raises:
        ConfigError: there is no such sweeper, or the recipe is none.
    """
    from omegaconf import OmegaConf

    with _readable_errors(invocation), _hydra(invocation):
        chosen = _composed(invocation, [o for o in invocation.overrides if o.startswith("hydra")]).hydra
        settings: Any = OmegaConf.to_container(chosen.sweeper)
        params = settings.get("params") or {}
        given = {_key(word) for word in invocation.overrides}
        grid = (f"{key}={value}" for key, value in params.items() if _key(key) not in given)
        choices = chosen.runtime.choices
        return SweepWords(
            choices["hydra/sweeper"], choices["hydra/launcher"], settings, (*grid, *invocation.overrides)
        )


def expand(invocation: Invocation, asked: SweepWords) -> Expansion:
    """All runs of a grid, with the settings of each."""
    found: list[tuple[Combination, Mapping[str, Any]]] = []

    def collect(settings: Mapping[str, Any], combination: Combination) -> None:
        found.append((combination, settings))

    sweep(invocation, asked, collect)
    own = [combination.overrides for combination, _ in found]
    common = tuple(word for word in own[0] if all(word in other for other in own)) if own[1:] else ()

    def special(combination: Combination) -> Combination:
        kept = tuple(word for word in combination.overrides if word not in common)
        return Combination(kept, combination.number, len(found))

    return Expansion(common, tuple((special(combination), settings) for combination, settings in found))


def _key(word: str) -> str:
    """What a word of the command line sets, however it sets it."""
    return word.partition("=")[0].lstrip("+~")


def sweep(
    invocation: Invocation, asked: SweepWords, job: Callable[[Mapping[str, Any], Combination], Any]
) -> None:
    """Let Hydra call `job` with the settings of each run that its sweeper wants; the sweeper gets what that returns."""
    with _readable_errors(invocation), _hydra(invocation):
        words = _rewrite(replace(invocation, overrides=asked.words))
    if asked.settings.get("params"):
        words.append("hydra.sweeper.params=null")  # they are among the words
    _multirun(invocation, words, job)


def _multirun(
    invocation: Invocation, overrides: Sequence[str], task: Callable[[Mapping[str, Any], Combination], Any]
) -> None:
    """Let `hydra.main` expand the sweep; it takes its arguments from `sys.argv` only."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    def run(settings: Any) -> Any:
        job = HydraConfig.get()
        words = tuple(word.lstrip("+").removeprefix(f"{_GIVEN}.") for word in job.overrides.task)
        return task(_plain(settings), Combination(words, int(job.job.num) + 1))

    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    with tempfile.TemporaryDirectory(prefix="sam2-sweep-") as folder, _readable_errors(invocation):
        quiet = [f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=.", "hydra.output_subdir=null"]
        quiet += ["hydra/job_logging=none", "hydra/hydra_logging=none"]
        sys.argv = [argv[0], "--multirun", *quiet, *overrides]
        os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come through instead of sys.exit(1)
        try:
            hydra.main(str(invocation.recipe.parent), invocation.recipe.stem, HYDRA_VERSION_BASE)(run)()
        finally:
            sys.argv = argv
            os.environ.pop("HYDRA_FULL_ERROR")
            if full_error is not None:
                os.environ["HYDRA_FULL_ERROR"] = full_error


@contextmanager
def _hydra(invocation: Invocation) -> Iterator[list[str]]:
    """Hydra, initialised on the recipe's folder and cleared afterwards; gives the rewritten overrides."""
    from hydra import initialize_config_dir

    from sam2.training.sweeps.search import register

    _join_search_path()
    register()
    with initialize_config_dir(str(invocation.recipe.parent), "sam2", HYDRA_VERSION_BASE):
        yield _rewrite(invocation)


def _rewrite(invocation: Invocation) -> list[str]:
    drawn, is_flat = _choices(invocation, []), _evaluates(invocation)
    folders = _group_folders(invocation)
    rewritten = []
    for override in invocation.overrides:
        key, _, value = override.partition("=")
        is_group = any((folder / key).is_dir() for folder in folders) and not value.startswith("{")
        if override.startswith(("~", "+", "hydra.", "hydra/")) or "@" in key or "/" in key or key in drawn:
            rewritten.append(override)
        elif is_flat and not (is_group and key in _OF_ALL):
            rewritten.append(f"++{_GIVEN}.{override}")
        else:
            rewritten.append(f"+{override}" if is_group else f"++{override}")
    return rewritten


def _choices(invocation: Invocation, overrides: Sequence[str]) -> Mapping[str, str]:
    """Which option of each group the recipe draws; empty where it leaves a group for the command line to choose."""
    from hydra.errors import ConfigCompositionException

    try:
        composed = _composed(invocation, overrides)
    except ConfigCompositionException:  # composing with the overrides will succeed or report it
        return {name: "" for name in _groups(invocation)}
    return dict(composed.hydra.runtime.choices)


def _evaluates(invocation: Invocation) -> bool:
    from hydra.errors import ConfigCompositionException

    try:
        return _composed(invocation, []).get("task") is not None
    except ConfigCompositionException:  # a group is left open, as evaluations leave none
        return False


def _groups(invocation: Invocation) -> set[str]:
    folders = _group_folders(invocation)
    return {
        child.name for folder in folders if folder.is_dir() for child in folder.iterdir() if child.is_dir()
    }


def _group_folders(invocation: Invocation) -> tuple[Path, ...]:
    """Where groups are looked for, the first one wins."""
    return (invocation.recipe.parent, *_own_groups(), shipped("configs"))


def _own_groups() -> tuple[Path, ...]:
    """The user's own, for every recipe: profiles of clusters in `~/.config/sam2-train/cluster`, for instance."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return tuple(folder for folder in (base / "sam2-train",) if folder.is_dir())


def _composed(invocation: Invocation, overrides: Sequence[str]) -> Any:
    import hydra
    from hydra.core.hydra_config import HydraConfig

    composed = hydra.compose(invocation.recipe.stem, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(composed)  # so that ${hydra:...} resolves
    return composed


def _plain(settings: Any, is_complete: bool = True) -> Mapping[str, Any]:
    from omegaconf import OmegaConf, open_dict

    with open_dict(settings):
        settings.pop("hydra", None)
        given = OmegaConf.to_container(settings.pop(_GIVEN, OmegaConf.create()), resolve=False)
        settings.merge_with(given)
        if OmegaConf.select(settings, "data.datasets") and OmegaConf.is_missing(settings.data, "root"):
            settings.data.root = None  # several folders are given instead
    plain: Any = OmegaConf.to_container(settings, resolve=True, throw_on_missing=is_complete)
    return plain


def _join_search_path() -> None:
    """Put the user's groups, the shipped ones and the recipes behind the recipe's own folder, for this process."""
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class ShippedConfigs(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for folder in (*_own_groups(), shipped("configs"), shipped("recipes")):
                search_path.append(f"sam2-{folder.name}", f"file://{folder}")

    known = {plugin.__name__ for plugin in Plugins.instance().discover(SearchPathPlugin)}
    if ShippedConfigs.__name__ not in known:
        Plugins.instance().register(ShippedConfigs)


def _no_such(invocation: Invocation, wanted: str, options: Sequence[str]) -> str:
    """What to say of an option, a group or a recipe in a defaults list that is not there."""
    group, _, option = wanted.rpartition("/")
    if group and group not in _groups(invocation):
        return f"{invocation.recipe.name}: {_no_group(invocation, group)}"
    beside = (path.stem for path in invocation.recipe.parent.glob("*.yaml") if path != invocation.recipe)
    known = sorted(options if group else {*recipe_names(), *beside})
    near = closest(option, known)
    hint = f"did you mean {near}?" if near else f"known: {', '.join(known)}"
    return f"{group or invocation.recipe.name}: there is no '{option or wanted}'; {hint}"


def _no_group(invocation: Invocation, wanted: str) -> str:
    groups = _groups(invocation)
    near = closest(wanted, groups)
    return f"there is no group '{wanted}'; " + (
        f"did you mean {near}?" if near else f"groups: {', '.join(sorted(groups))}"
    )


@contextmanager
def _readable_errors(invocation: Invocation) -> Iterator[None]:
    """Turn what Hydra, OmegaConf and YAML raise into one line that names the recipe."""
    import yaml
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    name = invocation.recipe.name
    try:
        yield
    except MissingMandatoryValue as error:
        raise ConfigError(
            f"{error.full_key} is not set in {name}; give it as {error.full_key}=..."
        ) from error
    except MissingConfigException as error:
        raise ConfigError(_no_such(invocation, error.missing_cfg_file or "", error.options or ())) from error
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        if several := re.match(rf"Ambiguous value for argument '\+*(?:{_GIVEN}\.)?(.*?)'", str(error)):
            raise ConfigError(
                f"{several[1]} gives several values; a sweep over them begins with -m, one value that is a list is "
                "written key=[a,b]"
            ) from error
        if unmatched := re.search(r"Could not override '(.*?)'", str(error)):
            wanted = f"override {unmatched[1]}"
            raise ConfigError(f"{name}: {wanted}: {_no_group(invocation, unmatched[1])}") from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = f" ({error.__cause__})".replace("\n", " ") if error.__cause__ else ""
        raise ConfigError(f"{name}: {' '.join(lines)}{cause}") from error
