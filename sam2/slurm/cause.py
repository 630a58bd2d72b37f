"""Which line of a job's log says how it goes, or why it ended: not what srun and slurmstepd say while they clear up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_HEAD_BYTES = 1 << 14
_TAIL_BYTES = 1 << 16  # a crash in C++ writes some ten thousand bytes of frames behind its cause
_LABEL = re.compile(r"^\d+: ?")  # of `srun --label`
_START = re.compile(r"job \S+, restart (\d+), on ")  # sam2/slurm/render.py writes it when a start begins
_BEGINNING = re.compile(r"^job \S+, restart \d+, on \S+: (.+)$", re.MULTILINE)
# srun says it of tasks that died by themselves; those that it ended are Terminated, those that left said why
_DIED = re.compile(r"srun: error: \S+: tasks? \S+: (?!Terminated|Exited)")
_FORCED = "srun: forcing job termination"  # from there on tasks are Killed because the job is cancelled
_TOLD = re.compile(
    r"preflight: (?!.*\ball well\b)|error: (?!another rank )|interrupted .*not requeued|srun ended well, but|"
    r"slurmstepd.*(DUE TO|oom.kill)",
    re.IGNORECASE,
)
# less than that: what it comes to for the job, or a traceback, which may be of a rank that another one left alone
_FOLLOWS = re.compile(r"interrupted |(\w+\.)*\w*(Error|Exception|Exit|Interrupt)(: |$)")
_LOST = re.compile("error: another rank ")
_NOISE = re.compile(r"srun: |slurmstepd|frame #\d+: |Exception raised from |scontrol: ")


@dataclass(frozen=True)
class Said:
    """What a log says of the last start of its job.

    Attributes:
        restart: how often the job had been requeued before; None if the log does not say.
        cause: the line that says why it ended; empty if none does.
        last: the last line that is not about clearing up; the cause if there is no other.
    """

    restart: int | None = None
    cause: str = ""
    last: str = ""


def read(log: Path | None) -> Said:
    """What a log says; nothing if there is none."""
    if log is None or not log.is_file():
        return Said()
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return understand(file.read().decode(errors="replace"))


def folder(log: Path) -> Path | None:
    """The run directory that a log names where its job begins; None if it is not of a job of ours."""
    with log.open("rb") as file:
        head = file.read(_HEAD_BYTES).decode(errors="replace")
    found = _BEGINNING.search(head)
    path = Path(found[1]) if found else None
    return path if path is not None and path.is_absolute() and path.is_dir() else None


def understand(text: str) -> Said:
    """What the text of a log says."""
    lines = [line for each in text.splitlines() if (line := _LABEL.sub("", each.strip(), count=1).strip())]
    starts = [k for k, line in enumerate(lines) if _START.match(line)]
    restart = None
    if starts:
        lines = lines[starts[-1] :]
        found = _START.match(lines[0])
        assert found is not None
        restart = int(found[1])
    ended = lines.index(_FORCED) if _FORCED in lines else len(lines)
    causes = [line for k, line in enumerate(lines) if _TOLD.match(line) or k < ended and _DIED.match(line)]
    for less in (_FOLLOWS, _LOST):
        causes = causes or [line for line in lines if less.match(line)]
    others = [line for line in lines if not _NOISE.match(line)]
    cause = causes[-1] if causes else ""
    return Said(restart, cause, others[-1] if others else cause)
