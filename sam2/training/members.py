"""The members of a sweep: where each one runs, and whether there is anything left to do.

The rule: a run that is finished with the same signature (signature.py) is not run again; an unfinished or failed one
goes on in its own directory; all others get a new one. So the same command, given again, runs what failed and nothing
else. A finished run of the same settings but other code or data is not taken, and the plan says what differs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sam2.training.compose import Combination
from sam2.training.config import LoggerConfig, RunConfig, digest
from sam2.training.decisive import digest_of_settings
from sam2.training.rundir import RunDirectory, automatic_id, folders
from sam2.training.signature import signature
from sam2.training.typed import ConfigError, to_plain

State = Literal["done", "continue", "new"]
_LONGEST_TAG = 64  # characters that W&B takes


@dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
        combination: its own settings as words, and which one it is.
        config: all its settings; `run_dir` is set, so that it runs there wherever it is started, and a logger that
            knows groups and tags has those of the sweep.
        directory: of the run.
        state: `done`, `continue` (there is something to go on from or a failure to repeat) or `new`.
        remark: why a finished run of the same settings does not count; empty if there is none.
    """

    combination: Combination
    config: RunConfig
    directory: RunDirectory
    state: State
    remark: str = ""


def sweep_id(configs: Sequence[RunConfig]) -> str:
    """Six hex digits of a set of runs: the same command finds its sweep again, wherever it lies."""
    settings = sorted({digest_of_settings(to_plain(config)) for config in configs})
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:6]


def plan_members(runs: Sequence[tuple[Combination, RunConfig]], sweep: str | None = None) -> list[Member]:
    """Say for each run of a sweep where it lies and what is left to do. Nothing is made or written.

    Args:
        runs: the members' own words and their settings, `run_dir` and `run_id` as the user gave them. One that repeats
            an earlier one is left out.
        sweep: id of the sweep, where these are not all of its runs.

    Raises:
        ConfigError: two runs of different settings would share a directory.
        DataError: the data of a run that could be done already cannot be opened here.
    """
    sweep, planner, members = sweep or sweep_id([config for _, config in runs]), _Planner(), []
    for combination, config in runs:
        member = planner.place(combination, config)
        if member is None:
            continue
        labelled = _labelled(config, sweep, combination)
        bound = dataclasses.replace(labelled, run_dir=member.directory.path, run_id="auto")
        members.append(dataclasses.replace(member, config=bound))
    return members


class _Planner:
    """Gives members their directories, one after the other."""

    def __init__(self) -> None:
        self._taken: dict[Path, str] = {}  # directories of earlier members, and the digests of their settings
        self._known: dict[Path, list[tuple[RunDirectory, Mapping[str, str]]]] = {}

    def place(self, combination: Combination, config: RunConfig) -> Member | None:
        """A member with the directory of a finished equal, of its unfinished self, or a new one; None: it repeats."""
        settings = digest_of_settings(to_plain(config))
        member = self._find(combination, config, settings)
        path = member.directory.path
        if self._taken.get(path, settings) != settings:
            raise ConfigError(
                f"{combination} would write into {path}, as an earlier run of the sweep does; leave out run_id and "
                "run_dir, so that each run gets a directory of its own"
            )
        if path in self._taken:
            return None
        self._taken[path] = settings
        return member

    def _find(self, combination: Combination, config: RunConfig, settings: str) -> Member:
        folder = config.runs.absolute() / config.name
        named = config.run_dir or (folder / config.run_id if config.run_id != "auto" else None)
        finished = [
            (run, recorded)
            for run, recorded in self._finished(named.parent if named else folder)
            if recorded.get("settings") == settings and named in (None, run.path)
        ]
        remark = ""
        own = signature(config) if finished else None
        for run, recorded in finished:
            differing = own.differences(recorded) if own else []
            if not differing:
                return Member(combination, config, run, "done")
            remark = f"{run.path} is finished, but with other {' and '.join(differing)}"
        if named and remark:
            raise ConfigError(f"{remark}; choose another run_id or run_dir, or leave them out")
        beside = [path.name for path in self._taken if path.parent == folder]
        path = named or folder / automatic_id(folder, digest(config), beside)
        return Member(combination, config, RunDirectory(path), "continue" if path.is_dir() else "new", remark)

    def _finished(self, folder: Path) -> list[tuple[RunDirectory, Mapping[str, str]]]:
        """The finished runs in a folder, the oldest first, with their signatures as recorded."""
        if folder not in self._known:
            runs = [RunDirectory(path) for path in folders(folder)]
            records = [(run, run.read_record()) for run in runs]
            self._known[folder] = [(run, r.get("signature", {})) for run, r in records if r.get("finished")]
        return self._known[folder]


def _labelled(config: RunConfig, sweep: str, combination: Combination) -> RunConfig:
    """The settings of a member whose logger shows runs in groups: those of the sweep, where the user names no other."""
    chosen = config.logger
    if not isinstance(chosen, LoggerConfig):
        return config
    tags: dict[str, Any] = dict.fromkeys([*chosen.tags, sweep, *combination.overrides])
    labelled = dataclasses.replace(
        chosen,
        group=chosen.group or f"{config.name}-{sweep}",
        tags=tuple(tag[:_LONGEST_TAG] for tag in tags),
    )
    return dataclasses.replace(config, logger=labelled)
