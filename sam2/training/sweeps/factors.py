"""What differs between runs: the columns of a table, the lines of a plot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from sam2.training.sweeps.runs import Gathered, Run
from sam2.training.typed import ConfigError, closest

_SEED = "seed"
Values = tuple[Any, ...]


@dataclass(frozen=True)
class Factors:
    """Settings that differ.

    Attributes:
        names: one of each group that changes together, dotted keys.
        companions: the other settings of such a group, by the one that stands for it.
        is_ordered: whether the runs come in the order that somebody gave them.
    """

    names: tuple[str, ...]
    companions: Mapping[str, Sequence[str]]
    is_ordered: bool

    def of(self, run: Run) -> Values:
        """The values of a run."""
        settings = run.settings or run.asked
        return tuple(settings.get(name) for name in self.names)

    def order(self, rows: Iterable[Values]) -> list[Values]:
        """Each row once: as a sweep names its values, or else by value."""
        each = list(dict.fromkeys(rows))
        return each if self.is_ordered else sorted(each, key=lambda row: [*map(_rank, row)])

    def label(self, values: Values) -> str:
        """Values with their names, for a person."""
        return " ".join(f"{n}={shown(v)}" for n, v in zip(self.names, values, strict=True)) or "all runs"

    def matching(self, rows: Sequence[Values], wanted: Mapping[str, Any]) -> list[Values]:
        """The rows that have all wanted values.

        Raises:
            ConfigError: the runs do not differ in a setting that is wanted.
        """
        for key in wanted:
            if key not in self.names:
                raise ConfigError(f"the runs do not differ in '{key}'; {self._hint(key)}")
        places = {self.names.index(key): value for key, value in wanted.items()}
        return [row for row in rows if all(_same(row[place], value) for place, value in places.items())]

    def _hint(self, key: str) -> str:
        leader = next((name for name, others in self.companions.items() if key in others), None)
        if leader:
            return f"'{leader}' stands for it, which changes with it"
        near = closest(key, self.names)
        return f"did you mean '{near}'?" if near else f"they differ in: {', '.join(self.names) or 'nothing'}"


def factors(gathered: Gathered) -> Factors:
    """The settings in which runs differ, the seed apart; those that a sweep names stand for what changes with them."""
    runs = [run for run in gathered.runs if run.settings]
    keys = dict.fromkeys(key for run in runs for key in run.settings if key != _SEED)
    patterns: dict[Values, list[str]] = {}
    for key in sorted(keys, key=lambda key: key not in gathered.factors):
        pattern = _pattern([run.settings.get(key) for run in runs])
        if len(set(pattern)) > 1:
            patterns.setdefault(pattern, []).append(key)
    return Factors(
        tuple(names[0] for names in patterns.values()),
        {names[0]: names[1:] for names in patterns.values() if names[1:]},
        bool(gathered.factors),
    )


def _pattern(values: Sequence[Any]) -> Values:
    """Which of the values are equal, whatever they are."""
    texts = [repr(value) for value in values]
    first = {text: number for number, text in reversed(list(enumerate(texts)))}
    return tuple(first[text] for text in texts)


def words_to_values(words: Sequence[str]) -> dict[str, Any]:
    """`key=value`, several in one text if need be, as values by key.

    Raises:
        ConfigError: a word is none.
    """
    found = {}
    for word in re.split(r"\s+(?=[\w.]+=)", " ".join(words)) if words else ():
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"'{word}' is no setting; write key=value, for instance model.mem_dim=64")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"'{word}': {value} cannot be read as a value") from error
    return found


def _rank(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, then everything else by its text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return not is_number, float(value) if is_number else 0.0, shown(value)


def _same(there: Any, wanted: Any) -> bool:
    return there == wanted or shown(there) == shown(wanted)


def shown(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return "null"  # as it is written in settings; the font of a PNG has no dashes
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)
