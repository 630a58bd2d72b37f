"""How jobs of our launcher end: without a trace when cancelled, each member of an array for itself, side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2.training.exit_codes import UNEXPECTED
from sam2.training.rundir import RunDirectory
from slurm.testcluster import Cluster
from tests.slurm.jobs import Jobs
from tests.slurm.trainings import Training, assert_equal, fault, submit, submit_sweep

pytestmark = pytest.mark.slurm

SHORT = (
    "trainer.nodes=1",
    "trainer.max_steps=2",
    "evaluate={every_steps: null, at_start: false, at_end: false}",
)


def test_scancel_leaves_no_process_behind(cluster: Cluster, jobs: Jobs, run: Path) -> None:
    training = submit(jobs, run, *fault("Slow", rank=1, seconds=1))
    training.until(lambda: 3 in training.batches(0), "come to the second step")
    assert (
        sum("train.py" in line for line in cluster.processes().values()) >= 6
    )  # two ranks with two workers each
    jobs.cancel(training.job)
    training.wait("CANCELLED")
    jobs.leave_nothing(deadline_s=30)
    assert jobs.job(training.job).restarts == 0
    assert not RunDirectory(run).is_finished


def test_one_failing_member_of_an_array_fails_alone_and_is_run_again_alone(jobs: Jobs, run: Path) -> None:
    settings = ("seed=1,2,3,4", *SHORT, *fault("Fails", seed=3), "launcher.parallel=2")
    array = submit_sweep(jobs, run, *settings)
    ended = [jobs.wait(f"{array}_{n}", "COMPLETED", "FAILED", deadline_s=300) for n in range(4)]
    assert [job.state for job in ended] == ["COMPLETED", "COMPLETED", "FAILED", "COMPLETED"]
    assert ended[2].exit_code == UNEXPECTED and "a bug of the test's" in ended[2].said
    again = submit_sweep(jobs, run, *settings)
    assert [job.id for job in jobs.members(again)] == [f"{again}_0"]
    jobs.wait(f"{again}_0", "COMPLETED", deadline_s=300)


def test_two_jobs_on_one_node_do_not_disturb_each_other(alone: Training, jobs: Jobs, run: Path) -> None:
    here = ("trainer.nodes=1", "trainer.devices=2", "cluster.nodelist=n3")
    both = [submit(jobs, run.with_name(f"{run.name}-{number}"), *here) for number in (1, 2)]
    for training in both:
        training.until(lambda training=training: training.batches(1), "begin")
    for training in both:
        assert training.wait("COMPLETED", restarts=0).nodes == "n3"
        assert_equal(training, alone)
