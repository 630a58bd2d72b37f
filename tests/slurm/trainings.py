"""Small trainings on the test cluster, submitted by our own launcher, and compared with one that was left alone."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from sam2.slurm.folder import JobFolder
from sam2.training.run import main
from sam2.training.rundir import RunDirectory
from slurm.testcluster import Cluster
from tests.sam2.training.test_resume import assert_same_run
from tests.sam2.training.witness import seen
from tests.slurm.jobs import Job, Jobs

RECIPE = Path(__file__).with_name("surviving.yaml")
RANKS = (0, 1)
MICRO_BATCHES = 12  # of a rank, in all
DEADLINE_S = 300.0  # for a start: half a minute on an idle core


@dataclass(frozen=True)
class Training:
    """A submitted training: its job, and where it lies."""

    jobs: Jobs
    job: str
    path: Path

    def wait(self, *states: str, restarts: int | None = None) -> Job:
        """Wait until its job is in one of `states`."""
        return self.jobs.wait(self.job, *states, restarts=restarts, deadline_s=DEADLINE_S)

    def until(self, holds: object, what: str) -> None:
        """Wait until something holds, while the job goes on."""
        assert callable(holds)
        self.jobs.until(self.job, holds, what, DEADLINE_S)

    def batches(self, rank: int) -> list[int]:
        """Numbers of the micro-batches that a rank has begun, in order."""
        path = self.path / "log" / f"clips-{rank}.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        return [int(line[1:].partition(",")[0]) for line in lines]


def fault(name: str, **arguments: object) -> tuple[str, ...]:
    """The settings that add a callback of tests/slurm/faults.py."""
    target = f"callbacks.fault._target_=tests.slurm.faults.{name}"
    return (target, *(f"callbacks.fault.{key}={value}" for key, value in arguments.items()))


def submit(jobs: Jobs, run: Path, *settings: str) -> Training:
    """`python train.py surviving.yaml launcher=slurm ...`."""
    _train(jobs, f"runs={run.parent}", f"run_dir={run}", *settings)
    return Training(jobs, _submitted(jobs, run), run)


def submit_sweep(jobs: Jobs, runs: Path, *settings: str) -> str:
    """`python train.py -m surviving.yaml launcher=slurm ...`; the id of the array."""
    said = _train(jobs, "-m", f"runs={runs}", *settings)
    found = re.search(r"^job (\d+):", said, re.MULTILINE)
    assert found, said
    jobs.submitted.append(found[1])
    return found[1]


def _train(jobs: Jobs, *words: str) -> str:
    """`python train.py ...` in this process, whose imports are paid for; what it prints."""
    said = io.StringIO()
    # the nodes' names, n1 and so on, are known to nobody but SLURM
    variables = {**jobs.cluster.environment, "MASTER_ADDR": "127.0.0.1"}
    with patch.dict(os.environ, variables, clear=True), contextlib.redirect_stdout(said):
        code = main([str(RECIPE), "launcher=slurm", *words])
    assert code == 0, said.getvalue()
    return said.getvalue()


def _submitted(jobs: Jobs, run: Path) -> str:
    job = JobFolder(run).job()
    assert job is not None
    jobs.submitted.append(job)
    return job


def assert_equal(training: Training, alone: Training, repeats: Iterable[int] = ()) -> None:
    """The same clips, losses, scores and weights as the run that was left alone, on every rank, bit for bit.

    Args:
        training: that was interrupted.
        alone: that was not.
        repeats: micro-batches that may have been done twice, because the run was not asked before it was ended.
    """
    assert_same_run(RunDirectory(training.path), RunDirectory(alone.path))
    for rank in RANKS:
        assert seen(training.path, rank) == seen(alone.path, rank)
        done = training.batches(rank)
        assert set(done) == set(range(MICRO_BATCHES))
        assert {number for number in done if done.count(number) > 1} <= set(repeats)
        weights = f"log/weights-{rank}.txt"
        assert (training.path / weights).read_text() == (alone.path / "log/weights-0.txt").read_text()


def pythons(cluster: Cluster) -> list[int]:
    """Process ids of the tasks' Pythons."""
    return [pid for pid, line in cluster.processes().items() if "train.py" in line and "srun" not in line]
