"""Runs as their directories tell of them: settings, state, scores, cost. Needs no torch and writes nothing."""

from __future__ import annotations

import fcntl
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import dropwhile
from pathlib import Path
from typing import Any, Literal

import yaml

from sam2.evaluation.curves import Curve, read_metrics
from sam2.evaluation.report import Result, read_results
from sam2.slurm.errors import BatchError
from sam2.slurm.folder import JobFolder
from sam2.slurm.jobs import JobState, look
from sam2.training.decisive import decisive
from sam2.training.sweeps.record import NAME, SweepRecord, read_record
from sam2.training.typed import ConfigError, flatten

log = logging.getLogger(__name__)

State = Literal["finished", "running", "waiting", "failed", "stopped", "missing"]
SCORES = ("J&F", "J", "F")  # of eval/results.json; every other metric is a column of metrics.csv
_RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ [A-Z]+ ")  # how a line of a log begins
_RAISED = re.compile(
    r"(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Interrupt|Exit|Failed|NotEnoughMemory))(?:: (.*))?$"
)
_TAIL = 64 << 10  # bytes of a log in which its last words are looked for


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        path: its directory.
        words: what is its own in the sweep that it was found by; empty if it was found by itself.
        asked: the settings that differ in that sweep, by dotted key.
    """

    path: Path
    words: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """`run.json`; empty before the run has begun."""
        path = self.path / "run.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Those that decide the result, by dotted key; empty where the run never began."""
        for name in ("config.yaml", "job/config.yaml", "log/settings.yaml"):
            if (self.path / name).is_file():
                return told_apart(yaml.safe_load((self.path / name).read_text(encoding="utf-8")))
        return {}

    @property
    def seed(self) -> int:
        """Of the run."""
        return int((self.settings or self.asked).get("seed", 0))

    @cached_property
    def state(self) -> State:
        """What became of it."""
        if self.record.get("finished"):
            return "finished"
        if not self.settings and not (self.path / "log").is_dir():
            return "missing"
        if _is_held(self.path) or (self.job is not None and self.job.state == "RUNNING"):
            return "running"
        if self.job is not None and self.job.state == "PENDING":
            return "waiting"
        return "failed" if self.raised else "stopped"

    @cached_property
    def job(self) -> JobState | None:
        """Its job as SLURM knows it; None where it has none, or SLURM does not know it (any more)."""
        submitted = JobFolder(self.path).job()
        if submitted is None:
            return None
        try:
            return next(iter(look(submitted)), None)
        except BatchError as error:
            log.info("%s: %s", self.path, error)  # the table is made elsewhere than on the cluster
            return None

    @property
    def why(self) -> str:
        """Why it is not finished, in a few words."""
        if self.state == "missing":
            return "never started"
        at = f"at step {self.step}" if self.step else "before its first step"
        told = f"{self.state} {at}: {self.raised}" if self.state == "failed" else f"{self.state} {at}"
        return f"{told}; job {self.job.id} is {self.job.state}" if self.job else told

    @cached_property
    def raised(self) -> str:
        """The error that a log of its ends in, the lowest rank's; empty if there is none, or a person stopped it."""
        logs = sorted(self.path.glob("log/rank-*.txt"), key=lambda path: (len(path.name), path.name))
        name, text = next(filter(any, map(_last_error, logs)), ("", ""))
        return "" if name in ("KeyboardInterrupt", "SystemExit") else f"{name}: {text}" if text else name

    @cached_property
    def curves(self) -> Mapping[str, Curve]:
        """The columns of `metrics.csv`."""
        path = self.path / "metrics.csv"
        return {curve.name: curve for curve in read_metrics(path)} if path.is_file() else {}

    @property
    def step(self) -> int:
        """The last one that is in `metrics.csv`."""
        return int(max((curve.steps[-1] for curve in self.curves.values()), default=0))

    @cached_property
    def result(self) -> Result | None:
        """What the trained model scored on the held-out videos."""
        path = self.path / "eval" / "results.json"
        return read_results(path).main if path.is_file() and self.state == "finished" else None

    def score(self, metric: str) -> float | None:
        """One of SCORES, or the last value of a column of `metrics.csv`; None where there is none."""
        if metric in SCORES:
            return (
                None if self.result is None else dict(zip(SCORES, _numbers(self.result), strict=True))[metric]
            )
        return self.curves[metric].values[-1] if metric in self.curves else None

    @property
    def device_hours(self) -> float | None:
        """Hours of all starts, times devices (on CPUs: times threads of all processes); None where it is not known."""
        bills = [start["cost"] for start in self.record.get("starts", []) if "cost" in start]
        return sum(bill["seconds"] * bill["devices"] for bill in bills) / 3600 if bills else None

    @property
    def device(self) -> str:
        """What the hours are of: "GPU" or "CPU"."""
        costs = [start["cost"]["device"] for start in self.record.get("starts", []) if "cost" in start]
        return costs[-1] if costs else "GPU"

    @property
    def memory_gb(self) -> float | None:
        """Peak of rank 0: of its GPU, or of its process."""
        return max(self.curves["memory_gb"].values) if "memory_gb" in self.curves else None


@dataclass(frozen=True)
class Gathered:
    """The runs that paths lead to, each once, and what the sweeps among them say.

    Attributes:
        runs: as the sweeps name them, those that never started included, or as they were found.
        factors: keys that the sweeps vary, as they were written.
        recipe: values of the first sweep's recipe, by setting.
    """

    runs: tuple[Run, ...]
    factors: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)


def gather(paths: Sequence[Path]) -> Gathered:
    """The runs of run directories, of sweeps (their folder or `sweep.yaml`) and of folders of runs.

    Raises:
        ConfigError: a path is none of these.
    """
    runs: dict[Path, Run] = {}
    sweeps: list[SweepRecord] = []
    for given in paths:
        path = (given.parent if given.name == NAME else given).absolute()
        if (path / NAME).is_file():
            sweeps.append(read_record(path))
            for member in sweeps[-1].members:
                runs.setdefault(member.path, Run(member.path, member.words, member.values))
        else:
            for run in _runs_below(path, given):
                runs.setdefault(run, Run(run))
    factors = dict.fromkeys(key for sweep in sweeps for key in sweep.factors)
    return Gathered(tuple(runs.values()), tuple(factors), sweeps[0].recipe if sweeps else {})


def _runs_below(path: Path, given: Path) -> Iterator[Path]:
    """`path`, or the runs in it, or those in its folders: `runs/demo/001-...`, `runs/demo`, `runs`."""
    for depth in ("", "*", "*/*"):
        folders = sorted(path.glob(depth)) if depth else [path]
        found = [folder for folder in folders if _is_run(folder)]
        if found:
            yield from found
            return
    what = "there is no such folder" if not path.is_dir() else "no run, no sweep and no folder of runs"
    raise ConfigError(f"{given}: {what}; name run directories, runs/RECIPE or runs/RECIPE/sweeps/ID")


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() or (folder / "log" / "settings.yaml").is_file()


def told_apart(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Decisive settings by dotted key, items of lists of groups too (`data.datasets.1.weight`)."""
    flat: dict[str, Any] = {}
    for key, value in decisive(settings).items():
        groups = isinstance(value, list) and any(isinstance(item, Mapping) for item in value)
        flat |= flatten(dict(enumerate(value)), key) if groups else {key: value}
    if settings.get("synthetic"):  # their folder says no more than what they are made by
        flat = {key: value for key, value in flat.items() if key not in ("data.root", "data.val_root")}
    return flat


def _numbers(result: Result) -> tuple[float, float, float]:
    return result.jf, result.j, result.f


def _last_error(log: Path) -> tuple[str, str]:
    """Name and message of the error that a log ends in; empty if it ends in anything else."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        lines = file.read().decode(errors="replace").splitlines()
    last_words = list(dropwhile(lambda line: not _RECORD.match(line), reversed(lines)))
    tail = lines[len(last_words) :] if last_words else lines
    found = [match for line in tail if (match := _RAISED.match(line))]
    return (found[-1][1], found[-1][2] or "") if found else ("", "")


def _is_held(folder: Path) -> bool:
    """Whether a process is in the run's directory; its lock is asked for and let go."""
    lock = folder / ".lock"
    if not lock.is_file():
        return False
    with lock.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        except OSError:  # a file system without locks: nobody can tell
            return False
    return False
