"""The run directory: all that one run needs, knows and leaves behind, and the rules for coming back to it.

    runs/<recipe>/<run-id>/
        config.yaml  run.json  metrics.csv  report.html
        checkpoints/{last,best}.ckpt  export/model.pt  eval/results.json  log/rank-*.txt
        bad/step-*/ (steps that went wrong, docs/training_faults.md)

The directory is chosen before any process of the run starts. `run_id=auto` makes `007-3fa9c1`: a count within the
recipe and six digits of the settings. So the same command finds its unfinished run again after a kill, other
settings never do, and once a run is finished the same command starts the next one. Under SLURM or torchrun with several
processes, `auto` is the job's id instead, which every rank knows and a requeue keeps.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sam2.evaluation.files import write_atomically
from sam2.lock import locked
from sam2.training.config import RunConfig, differences, digest, resolve
from sam2.training.environment import Processes, git_state, hardware, packages
from sam2.training.fence import was_claimed
from sam2.training.settings_text import as_yaml
from sam2.training.typed import ConfigError, to_plain

log = logging.getLogger(__name__)

FORMAT = "sam2-train/run/1"
_AUTO_ID = re.compile(r"(\d{3,})-([0-9a-f]{6})")


@dataclass(frozen=True)
class RunDirectory:
    """Names of everything in a run directory."""

    path: Path

    @property
    def config(self) -> Path:
        """The settings, resolved; itself a recipe: `python train.py RUN_DIR` continues the run."""
        return self.path / "config.yaml"

    @property
    def record(self) -> Path:
        """What the run was made with: code, packages, hardware, data, starts, end."""
        return self.path / "run.json"

    @property
    def proposal(self) -> Path:
        """What a start asks for, until the run has accepted it."""
        return self.path / ".start.yaml"

    @property
    def checkpoints(self) -> Path:
        """Folder of `last.ckpt` and `best.ckpt`."""
        return self.path / "checkpoints"

    @property
    def exported(self) -> Path:
        """The trained model in the official layout."""
        return self.path / "export" / "model.pt"

    @property
    def metrics(self) -> Path:
        """One row a logged step."""
        return self.path / "metrics.csv"

    @property
    def results(self) -> Path:
        """Scores on the held-out videos."""
        return self.path / "eval" / "results.json"

    @property
    def report(self) -> Path:
        """The page to read first."""
        return self.path / "report.html"

    @property
    def bad(self) -> Path:
        """Steps that went wrong, for `sam2 replay`."""
        return self.path / "bad"

    def log(self, rank: int) -> Path:
        """What one process said."""
        return self.path / "log" / f"rank-{rank}.txt"

    def read_record(self) -> dict[str, Any]:
        """The content of `run.json`; empty before the first start."""
        return json.loads(self.record.read_text()) if self.record.is_file() else {}

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.read_record().get("finished"))

    def note(self, **facts: Any) -> None:
        """Add facts to `run.json`."""
        content = json.dumps({**self.read_record(), **facts}, indent=1, default=str)
        write_atomically(self.record, content + "\n")

    def note_start(self, **facts: Any) -> None:
        """Add facts to the entry of the start that is going on."""
        *earlier, now = self.read_record()["starts"]
        self.note(starts=[*earlier, {**now, **facts}])

    def finish(self, **facts: Any) -> None:
        """Say in `run.json` that the run came to its end, and how."""
        self.note(finished={"time": _now(), **facts})


def choose(config: RunConfig, processes: Processes) -> RunDirectory:
    """The directory of a run, by the rules at the top of this file; nothing is made yet.

    Raises:
        ConfigError: several processes were started from outside and nothing tells them one common name.
    """
    if config.run_dir is not None:
        return RunDirectory(Path(config.run_dir).absolute())
    folder = config.runs.absolute() / config.name
    if config.run_id != "auto":
        return RunDirectory(folder / config.run_id)
    if processes.world > 1:
        if processes.job_id is None:
            raise ConfigError(
                f"{processes.world} processes were started from outside and must agree on a run directory; "
                "give one, for instance run_id=first"
            )
        return RunDirectory(folder / processes.job_id)
    return RunDirectory(folder / automatic_id(folder, digest(config)))


def check(directory: RunDirectory, config: RunConfig) -> None:
    """Refuse to continue a run with settings that are not its own.

    Raises:
        ConfigError: names the settings that differ, or says that `resume=never` forbids it.
    """
    path = directory.path
    if not directory.config.is_file():
        strangers = _strangers(path)
        if strangers:
            shown = ", ".join(strangers[:5]) + (", ..." if len(strangers) > 5 else "")
            raise ConfigError(f"{path} holds files ({shown}) but no run; choose another run_dir")
        return
    if config.resume == "never":
        raise ConfigError(f"{path} holds a run already and resume=never; choose another run_dir or run_id")
    if config.resume == "force":
        return
    try:
        changed = differences(read_config(directory), config)
    except ConfigError as error:
        raise ConfigError(
            f"{directory.config} was written by another version: {error}; use a new run_dir"
        ) from error
    if changed:
        shown = "; ".join(changed[:10]) + (f"; and {len(changed) - 10} more" if len(changed) > 10 else "")
        raise ConfigError(
            f"{path} is a run with other settings ({shown}). Choose another run_dir or run_id, "
            "or continue it with the new settings: resume=force"
        )


def _strangers(path: Path) -> list[str]:
    """What a folder without a run holds that no start has left there which was stopped before the run began."""
    if not path.is_dir() or was_claimed(path):
        return []
    names = sorted(child.name for child in path.iterdir())
    return [name for name in names if not name.startswith(".") and name not in ("log", "job")]


def begin(
    directory: RunDirectory, config: RunConfig, command: Sequence[str], facts: Mapping[str, Any] | None = None
) -> None:
    """Make the directory this start's own: write `config.yaml` and `run.json`; a restart adds to the list of starts.

    Called when nothing can refuse the start any more, the checkpoint it continues from included.

    Args:
        directory: of the run.
        config: its settings from now on.
        command: how it was started.
        facts: more to say in `run.json`, such as what data it trains on.
    """
    directory.checkpoints.mkdir(parents=True, exist_ok=True)
    plain = {
        **to_plain(config),
        "run_dir": None,
        "resume": "auto",
    }  # a directory that is moved is still its own run
    write_atomically(directory.config, as_yaml(plain))
    start = {"time": _now(), "host": socket.gethostname(), "pid": os.getpid(), "command": shlex.join(command)}
    starts = [*directory.read_record().get("starts", []), start]
    git, machine = git_state(), hardware()
    directory.note(
        format=FORMAT,
        name=config.name,
        commit=git.get("commit", "unknown")[:10],
        device=machine["gpus"][0]["name"] if machine["gpus"] else f"CPU, {machine['cores']} cores",
        git=git,
        packages=packages(),
        hardware=machine,
        starts=starts,
        finished=None,
        **(facts or {}),
    )


def propose(directory: RunDirectory, config: RunConfig, command: Sequence[str]) -> None:
    """Write down what a start asks for, for its ranks to read with `proposed`."""
    asked = {"command": [*command], "settings": to_plain(config)}
    write_atomically(directory.proposal, as_yaml(asked))


def proposed(directory: RunDirectory) -> tuple[RunConfig, list[str]]:
    """Settings and command of the start that is going on."""
    asked = yaml.safe_load(directory.proposal.read_text())
    return resolve(asked["settings"], directory.path.parent.name), asked["command"]


def read_config(directory: RunDirectory) -> RunConfig:
    """The settings in a run directory, bound to where it lies now."""
    values = {**yaml.safe_load(directory.config.read_text()), "run_dir": str(directory.path)}
    return resolve(values, directory.path.parent.name)


@contextmanager
def held(directory: RunDirectory, fenced_s: float = 0.0) -> Iterator[None]:
    """Keep every other process out of the directory; a killed holder lets go at once.

    Args:
        directory: to hold.
        fenced_s: how long to wait for an older start that has been fenced off (fence.py). One that has not gone by then
            hangs, and cannot write: the directory is taken without its lock.

    Raises:
        ConfigError: somebody else is in it.
    """
    with locked(directory.path, fenced_s) as holder:
        if holder is not None and fenced_s:
            log.warning(
                "%s is still held by %s, an older start that can write no more", directory.path, holder
            )
        elif holder is not None:
            raise ConfigError(
                f"{directory.path} is being written by {holder}; wait for it, or give run_id=NAME to start another run"
            )
        yield


def automatic_id(folder: Path, own: str, taken: Sequence[str] = ()) -> str:
    """What `run_id=auto` comes to.

    Args:
        folder: of the recipe's runs.
        own: six digits of the settings.
        taken: names that are spoken for, though nothing is there yet.
    """
    names = [*(child.name for child in folders(folder)), *taken]
    found = [match for name in names if (match := _AUTO_ID.fullmatch(name))]
    mine = max((match for match in found if match[2] == own), key=lambda match: int(match[1]), default=None)
    if mine is not None and not RunDirectory(folder / mine[0]).is_finished:
        return mine[0]
    number = max((int(match[1]) for match in found), default=0) + 1
    return f"{number:03d}-{own}"


def folders(folder: Path) -> list[Path]:
    """The folders in `folder`, by name; none if it is not there."""
    return sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
