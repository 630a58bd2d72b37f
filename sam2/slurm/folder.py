"""The files of a job: in the run directory of a training, the folder of an evaluation, or that of a sweep.

DIR/job/config.yaml     all settings, itself a recipe
DIR/job/job.sbatch      what was submitted
DIR/job/members-*.txt   of an array: the run directory of each member
DIR/job/submitted.json  which job it became
DIR/job/done-*.txt      of an evaluation: a line for each video or image that is done
DIR/job/restarts.txt    a line for each time the job put itself back into the queue: job, restart, step
DIR/log/slurm-*.txt     what its script and its tasks said
"""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2.evaluation.files import write_atomically


@dataclass(frozen=True)
class JobFolder:
    """Where the files of a job are: in a run directory, or in a folder of a sweep."""

    path: Path

    @property
    def config(self) -> Path:
        """All settings."""
        return self.path / "job" / "config.yaml"

    @property
    def script(self) -> Path:
        """What is submitted."""
        return self.path / "job" / "job.sbatch"

    def members(self, paths: Sequence[Path]) -> Path:
        """The list of an array: the run directory of each member, a line each.

        Another array of the same sweep has another list: members of this one may be requeued while that one runs.
        """
        name = hashlib.sha256("\n".join(map(str, paths)).encode()).hexdigest()[:6]
        return self.path / "job" / f"members-{name}.txt"

    @property
    def submitted(self) -> Path:
        """Which job it became."""
        return self.path / "job" / "submitted.json"

    def job(self) -> str | None:
        """Id of the job that was submitted last."""
        return json.loads(self.submitted.read_text())["job"] if self.submitted.is_file() else None

    def note(self, job: str, command: Sequence[str]) -> None:
        """Write down that `job` was submitted."""
        facts = {"job": job, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": shlex.join(command)}
        write_atomically(self.submitted, json.dumps(facts, indent=1) + "\n")
