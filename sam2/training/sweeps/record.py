"""`<runs>/<recipe>/sweeps/<id>/sweep.yaml`: what a sweep was asked for, and where each of its runs lies.

Written before the first run starts, so that a table can name those that are missing. What became of a run is not in
here: its own directory says that. Paths are relative to the file where they can be, so that `runs` can be moved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sam2.evaluation.files import write_atomically
from sam2.training.typed import ConfigError

FORMAT = "sam2-train/sweep/1"
NAME = "sweep.yaml"
FOLDER = "sweeps"


@dataclass(frozen=True)
class RecordedMember:
    """A run of a sweep: its own words, its directory, its values of the settings that differ between the runs."""

    words: str
    path: Path
    values: Mapping[str, Any]


@dataclass(frozen=True)
class SweepRecord:
    """A sweep.

    Attributes:
        command: that started it; the same one continues it.
        factors: what is varied and the values of it, as on the command line.
        recipe: of the settings that differ between the runs, the values that the recipe has without the sweep; empty
            where it has none.
        members: its runs.
    """

    command: str
    factors: Mapping[str, Sequence[str]]
    members: Sequence[RecordedMember]
    recipe: Mapping[str, Any] = field(default_factory=dict)


def factors_of(combinations: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """The words of all runs, by what they set."""
    found: dict[str, list[str]] = {}
    for words in combinations:
        for word in words:
            key, _, value = word.partition("=")
            if value not in found.setdefault(key, []):
                found[key].append(value)
    return found


def write_record(folder: Path, record: SweepRecord) -> Path:
    """Write `sweep.yaml` into `folder`, whole or not at all; gives the file."""
    content = {
        "format": FORMAT,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": record.command,
        "factors": {key: list(values) for key, values in record.factors.items()},
        "recipe": dict(record.recipe),
        "members": [
            {"words": each.words, "run": os.path.relpath(each.path, folder), "values": dict(each.values)}
            for each in record.members
        ],
    }
    path = folder / NAME
    write_atomically(path, yaml.safe_dump(content, sort_keys=False, width=120))
    return path


def read_record(folder: Path) -> SweepRecord:
    """What `write_record` wrote.

    Raises:
        ConfigError: it is no such file; it says what is wrong with it.
    """
    path = folder / NAME
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as the record of a sweep: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ConfigError(f"{path}: format is {found!r}, expected {FORMAT!r}; start the sweep again")
    try:
        members = [
            RecordedMember(str(each["words"]), Path(os.path.normpath(folder / each["run"])), each["values"])
            for each in content["members"]
        ]
        return SweepRecord(content["command"], content["factors"], members, content["recipe"])
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: incomplete ({type(error).__name__}: {error}); start the sweep again"
        ) from error
