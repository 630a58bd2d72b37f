"""How far a run or an evaluation came, as its own directory tells: SLURM forgets a job minutes after its end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import yaml

from sam2.slurm.folder import JobFolder


def is_finished(path: Path) -> bool:
    """Whether a run, an evaluation, or all runs of a sweep's array came to their end."""
    if (path / "results.json").is_file():  # of an evaluation, whose last share writes it
        return True
    record = path / "run.json"
    if record.is_file():
        return bool(json.loads(record.read_text()).get("finished"))
    members = [
        Path(line) for file in (path / "job").glob("members-*.txt") for line in file.read_text().splitlines()
    ]
    return bool(members) and all(is_finished(member) for member in members)


def exit_code(path: Path, job: str, restart: int | None) -> int | None:
    """What the first task that ended badly left behind (sam2/slurm/last_word.py).

    Args:
        path: of the run.
        job: its job, by the id that members of an array have.
        restart: the start that is meant; None: the last that left something.
    """
    places = {int(file.name.rpartition("-")[2]): file for file in (path / "job").glob(f"ended-{job}-*")}
    last = max(places, default=None) if restart is None else restart
    if last is None or last not in places:
        return None
    word = places[last].read_text().strip()
    return int(word) if word.isdecimal() else None


def steps_done(path: Path) -> str:
    """The last one that was logged or saved."""
    return max(_logged(path), steps_saved(path), key=lambda step: int(step or -1))


def steps_saved(path: Path) -> str:
    """The one that the run would continue from."""
    saved = path / "checkpoints" / "step.txt"
    return saved.read_text().strip() if saved.is_file() else ""


def steps_asked(path: Path) -> str:
    """How many steps the settings ask for, where they count steps."""
    config = JobFolder(path).config
    if not config.is_file():
        return ""
    trainer = (yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("trainer") or {}
    return str(trainer.get("max_steps") or "")


def pieces_done(path: Path, job: str) -> int | None:
    """Videos or images that a job of an evaluation is done with (sam2/slurm/done.py); None if it does not count any.

    Args:
        path: of the evaluation.
        job: its id; of an array that of a member, or of the whole.
    """
    places = [*(path / "job").glob(f"done-{job}.txt"), *(path / "job").glob(f"done-{job}_*.txt")]
    return sum(len(place.read_bytes().splitlines()) for place in places) if places else None


def _logged(path: Path) -> str:
    metrics = path / "metrics.csv"
    if not metrics.is_file():
        return ""
    with metrics.open(newline="", encoding="utf-8") as file:
        steps = [row["step"] for row in csv.DictReader(file) if row.get("step")]
    return steps[-1] if steps else ""
