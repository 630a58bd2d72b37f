"""Jobs that were submitted: what became of them, stop them, take them up again. Accounting (sacct) is not needed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sam2.slurm.errors import BatchError
from sam2.slurm.submit import slurm

# out of PREEMPTED and NODE_FAIL a job is put back into the queue
ENDED = frozenset("BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED OUT_OF_MEMORY TIMEOUT".split())
_ID = re.compile(r"\d+(_\d+)?")


@dataclass(frozen=True)
class JobState:
    """A job as SLURM knows it.

    Attributes:
        id: `123`, or `123_4` for a member of an array, or `123_[4-7]` for those that wait.
        state: such as PENDING.
        reason: why it waits.
        restarts: how often it was put back into the queue.
        exit_code: of its script.
        nodes: where it runs.
        elapsed: since this start, `HH:MM:SS`.
        script: the batch file.
        output: where it writes what it says.
    """

    id: str
    state: str
    reason: str
    restarts: int
    exit_code: int
    nodes: str
    elapsed: str
    script: str
    output: str = ""

    @property
    def is_live(self) -> bool:
        """Whether it waits or runs."""
        return self.state not in ENDED


def is_id(name: str) -> bool:
    """Whether a name has the form of a job's id."""
    return _ID.fullmatch(name) is not None


def look(job: str) -> list[JobState]:
    """What SLURM knows of a job or of all members of an array, by number; nothing some minutes after its end.

    Raises:
        BatchError: `job` is no job's id, or SLURM does not answer.
    """
    if not is_id(job):
        raise BatchError(f"{job!r} is no job's id; expected 123, or 123_4 for a member of an array")
    try:
        said = slurm("scontrol", "show", "job", "--oneliner", job)
    except BatchError as error:
        if "Invalid job id" in str(error) or f"Job {job} not found" in str(error):
            return []
        raise
    found = [_parse(text) for text in said.splitlines() if "JobId=" in text]
    return sorted(found, key=lambda state: [int(number) for number in re.findall(r"\d+", state.id)])


def live(job: str | None) -> list[JobState]:
    """Of a job or of the members of an array, those that wait or run."""
    return [] if job is None else [state for state in look(job) if state.is_live]


def cancel(job: str) -> None:
    """Stop a job, and see to it that it is not taken up again.

    Raises:
        BatchError: it has ended, SLURM does not know it, or refuses.
    """
    states = look(job)
    if not states:
        raise BatchError(f"SLURM does not know job {job} (any more); there is nothing to cancel")
    if not any(state.is_live for state in states):
        ended = ", ".join(dict.fromkeys(state.state for state in states))
        raise BatchError(f"job {job} has ended already ({ended}); there is nothing to cancel")
    slurm("scancel", job)


def requeue(job: str) -> None:
    """Put a job that runs or has ended back into the queue.

    Raises:
        BatchError: SLURM refuses; some minutes after its end it does not know the job any more.
    """
    slurm("scontrol", "requeue", job)


def _parse(text: str) -> JobState:
    # the first of each: later ones may be part of a value
    found = {key: value for key, value in reversed(re.findall(r"(?:^| )([A-Za-z]+)=(\S*)", text))}
    array = found.get("ArrayJobId")
    return JobState(
        id=f"{array}_{_members(found.get('ArrayTaskId', ''))}" if array else found["JobId"],
        state=found.get("JobState", "UNKNOWN"),
        reason=found.get("Reason", "None"),
        restarts=int(found.get("Restarts", "0")),
        exit_code=int(found.get("ExitCode", "0:0").partition(":")[0]),
        nodes=found.get("NodeList", "").replace("(null)", ""),
        elapsed=found.get("RunTime", ""),
        script=_path(text, "Command"),
        output=_path(text, "StdOut"),
    )


def _path(text: str, key: str) -> str:
    """A value that may have spaces: up to the next key."""
    found = re.search(rf" {key}=(.*?)(?= [A-Za-z]+=|\s*$)", text)
    return "" if found is None or found[1] == "(null)" else found[1]


def _members(text: str) -> str:
    return f"[{text}]" if re.search(r"[-,%]", text) else text
