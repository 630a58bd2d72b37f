"""Jobs on the test cluster: submit, look, wait with a deadline, signal, and see that nothing is left.

job = jobs.submit("srun hostname", "--nodes=2")
jobs.wait(job, "COMPLETED", deadline_s=30)
"""

from __future__ import annotations

import re
import subprocess
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from slurm.testcluster import Cluster

# From these no job comes back; out of PREEMPTED and NODE_FAIL it is requeued.
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


@dataclass(frozen=True)
class Job:
    """What SLURM knows of a job.

    Attributes:
        id: as in `12` or, of an array's member, `12_3`.
        state: such as PENDING, RUNNING, COMPLETED, FAILED.
        reason: why it waits, or failed.
        restarts: how often it was requeued.
        exit_code: of the batch script.
        exit_signal: that ended the batch script, or 0.
        nodes: where it runs or ran, as SLURM writes it: `n[1-2]`.
        output: file of the batch script's output.
    """

    id: str
    state: str
    reason: str
    restarts: int
    exit_code: int
    exit_signal: int
    nodes: str
    output: Path

    @property
    def said(self) -> str:
        """The batch script's output so far."""
        return self.output.read_text(errors="replace") if self.output.is_file() else ""


class Jobs:
    """The jobs of one test on a cluster; `folder` is where they run and write."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.submitted: list[str] = []

    def submit(self, script: str | Path, *arguments: str, **environment: str) -> str:
        """Give a batch script to sbatch.

        Args:
            script: a file, or the lines after `#!/bin/bash`.
            arguments: for sbatch; after a file also for the script.
            environment: variables of the job, beside this process's own.

        Returns:
            The job's id.
        """
        options = [word for word in arguments if word.startswith("-")]
        rest = [word for word in arguments if not word.startswith("-")]
        command = ["sbatch", "--parsable", f"--chdir={self.folder}", *options]
        text = None
        if isinstance(script, Path):
            command += [str(script), *rest]
        else:
            text = f"#!/bin/bash\n{textwrap.dedent(script)}\n"
        job = self._run(command, text, environment).strip()
        self.submitted.append(job)
        return job

    def job(self, id: str) -> Job:
        """What SLURM knows of a job now."""
        return self.members(id)[0]

    def members(self, id: str) -> list[Job]:
        """What SLURM knows of each member of an array that it has taken apart, by number; of a job: itself."""
        blocks = self._run(["scontrol", "show", "job", id]).strip().split("\n\n")
        return sorted((_parsed(block) for block in blocks), key=lambda job: (len(job.id), job.id))

    def wait(self, id: str, *states: str, deadline_s: float, restarts: int | None = None) -> Job:
        """Wait until a job is in one of `states` (and was requeued `restarts` times).

        Raises:
            AssertionError: it is not within `deadline_s`, or ended otherwise; with the end of what it said.
        """
        end = time.monotonic() + deadline_s
        while True:
            job = self.job(id)
            if job.state in states and restarts in (None, job.restarts):
                return job
            self._must_go_on(job, end, f"be {' or '.join(states)}")

    def until(self, id: str, holds: Callable[[], object], what: str, deadline_s: float) -> None:
        """Wait until something holds while a job goes on.

        Raises:
            AssertionError: it does not within `deadline_s`, or the job ended first.
        """
        end = time.monotonic() + deadline_s
        while not holds():
            self._must_go_on(self.job(id), end, what)

    def signal(self, id: str, name: str) -> None:
        """Signal all processes of a job's steps, and not the batch script, as `scancel --signal` does."""
        self._run(["scancel", f"--signal={name}", id])

    def requeue(self, id: str) -> None:
        """What an administrator does: back into the queue with it."""
        self._run(["scontrol", "requeue", id])

    def release(self, id: str) -> None:
        """Let a requeued job start soon; at once, slurmd 22.05 may mistake the new start for the one just ended."""
        self._run(["scontrol", "update", f"JobId={id}", "StartTime=now+2"])

    def cancel(self, *ids: str) -> None:
        """Cancel jobs."""
        self._run(["scancel", *ids])

    def leave_nothing(self, deadline_s: float = 60) -> None:
        """Cancel what still runs, and see that jobs and processes are gone.

        Raises:
            AssertionError: some are not within `deadline_s`; they are named.
        """
        if self.submitted:
            self.cancel(*self.submitted)
        end = time.monotonic() + deadline_s
        while left := [*self._run(["squeue", "-h"]).splitlines(), *self.cluster.processes().values()]:
            if time.monotonic() > end:
                listed = "\n".join(left)
                raise AssertionError(f"left {deadline_s:g} s after the test:\n{listed}")
            time.sleep(0.1)

    def _must_go_on(self, job: Job, end: float, what: str) -> None:
        """Sleep a moment; raise if there is nothing more to wait for."""
        is_over = job.state in FINAL
        if not is_over and time.monotonic() < end:
            time.sleep(0.1)
            return
        happened = "ended as" if is_over else "is still"
        tail = "\n".join(job.said.splitlines()[-30:])
        raise AssertionError(
            f"job {job.id} should {what}, but {happened} {job.state} ({job.reason}, restarts {job.restarts}, "
            f"exit code {job.exit_code}:{job.exit_signal}, nodes {job.nodes}); it said:\n{tail}"
        )

    def _run(
        self, command: list[str], text: str | None = None, environment: Mapping[str, str] | None = None
    ) -> str:
        variables = {**self.cluster.environment, **(environment or {})}
        done = subprocess.run(
            command, input=text, env=variables, cwd=self.folder, capture_output=True, text=True
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout


def _parsed(block: str) -> Job:
    """One paragraph of `scontrol show job`."""

    def value(key: str, otherwise: str = "") -> str:
        found = re.search(rf"(?:^|\s){key}=(\S*)", block)
        return found[1] if found else otherwise

    array, task = value("ArrayJobId"), value("ArrayTaskId").partition("%")[0]  # "0-3%2": two at a time
    code, _, number = value("ExitCode", "0:0").partition(":")
    output = re.search(r"^\s*StdOut=(.*)$", block, re.MULTILINE)
    return Job(
        id=f"{array}_{task}" if array else value("JobId"),
        state=value("JobState"),
        reason=value("Reason"),
        restarts=int(value("Restarts", "0")),
        exit_code=int(code),
        exit_signal=int(number),
        nodes=value("NodeList"),
        output=Path(output[1] if output else "/nonexistent"),
    )
