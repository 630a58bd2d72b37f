"""What a cluster does to a run does not show in what the run ends with: on two nodes, by jobs of our own launcher."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slurm.testcluster import Cluster
from tests.slurm.faults import happened
from tests.slurm.jobs import Jobs
from tests.slurm.trainings import RANKS, Training, assert_equal, fault, pythons, submit

pytestmark = pytest.mark.slurm

EVERYTHING = ("--nodes=3", "--gpus-per-node=2", "--exclusive")


def until_it_waits(training: Training) -> None:
    """Until both ranks are where they wait for a signal."""
    training.until(lambda: all(happened(training.path, rank).exists() for rank in RANKS), "come to the place")


def test_usr1_within_a_pass_while_one_rank_is_a_second_behind(alone: Training, jobs: Jobs, run: Path) -> None:
    training = submit(jobs, run, *fault("Slow", rank=1, seconds=1))
    training.until(lambda: 3 in training.batches(0), "come to the second step")
    jobs.signal(training.job, "USR1")
    assert "interrupted at step 2" in training.wait("COMPLETED", restarts=1).said
    assert_equal(training, alone)


def test_usr1_at_the_end_of_a_pass(alone: Training, jobs: Jobs, run: Path) -> None:
    training = submit(jobs, run, *fault("WaitsForSignal", before_batch=5))
    until_it_waits(training)
    jobs.signal(training.job, "USR1")
    assert "interrupted at step 3" in training.wait("COMPLETED", restarts=1).said
    assert_equal(training, alone)


def test_usr1_in_an_evaluation(alone: Training, jobs: Jobs, run: Path) -> None:
    training = submit(jobs, run, *fault("WaitsForSignal", in_evaluation=2))
    until_it_waits(training)
    jobs.signal(training.job, "USR1")
    assert "interrupted at step 2" in training.wait("COMPLETED", restarts=1).said
    assert_equal(training, alone)


def test_usr1_before_python_can_listen(alone: Training, jobs: Jobs, run: Path) -> None:
    training = submit(jobs, run)
    training.until(lambda: len(pythons(jobs.cluster)) == 2, "start Python")
    jobs.signal(training.job, "USR1")
    assert "interrupted at step none" in training.wait("COMPLETED", restarts=1).said
    assert_equal(training, alone)


def test_usr1_while_packages_and_weights_are_loaded(alone: Training, jobs: Jobs, run: Path) -> None:
    training = submit(jobs, run, *fault("SlowToBegin", seconds=5))
    training.until((run / ".incarnation.json").is_file, "take its run directory")
    jobs.signal(training.job, "USR1")
    assert "interrupted at step none" in training.wait("COMPLETED", restarts=1).said
    assert_equal(training, alone)


def test_the_time_limit(alone: Training, jobs: Jobs, run: Path) -> None:
    # SLURM counts limits in minutes, and signals up to half a minute early: about 65 s after the start
    limit = ("cluster.time=00:02:00", "cluster.signal_lead_s=30")
    training = submit(jobs, run, *fault("WaitsForSignal", before_batch=6), *limit)
    assert training.wait("COMPLETED").restarts >= 1  # a second time where imports take that long
    assert_equal(training, alone)


def test_an_administrator_requeues_the_job(alone: Training, jobs: Jobs, run: Path) -> None:
    training = submit(jobs, run, *fault("WaitsForSignal", before_batch=6))
    until_it_waits(training)
    jobs.requeue(training.job)
    training.wait("COMPLETED", restarts=1)
    assert_equal(training, alone)


def test_a_partition_of_higher_priority_takes_the_nodes(alone: Training, jobs: Jobs, run: Path) -> None:
    training = submit(jobs, run, *fault("WaitsForSignal", before_batch=6))
    until_it_waits(training)
    urgent = jobs.submit("true", "--partition=high", *EVERYTHING)
    jobs.wait(urgent, "COMPLETED", deadline_s=120)
    training.wait("COMPLETED", restarts=1)
    assert_equal(training, alone)


def test_a_rank_is_killed_and_the_run_is_submitted_again(alone: Training, jobs: Jobs, run: Path) -> None:
    settings = fault("DiesAtOnce", before_batch=7, rank=1)
    killed = submit(jobs, run, *settings).wait("FAILED")
    assert killed.exit_code == 137 and killed.restarts == 0
    training = submit(jobs, run, *settings)
    training.wait("COMPLETED")
    assert_equal(training, alone, repeats=range(4, 12))


def test_a_node_dies_with_all_that_runs_on_it(
    cluster: Cluster, alone: Training, jobs: Jobs, run: Path
) -> None:
    training = submit(jobs, run, *fault("WaitsForSignal", before_batch=7))
    until_it_waits(training)
    assert jobs.job(training.job).nodes == "n[1-2]"
    cluster.kill_node("n2")
    training.wait("COMPLETED", restarts=1)
    assert jobs.job(training.job).nodes == "n[1,3]"
    assert_equal(training, alone, repeats=range(4, 12))


@dataclass(frozen=True)
class FullDisk:
    """Where to run, the fault that leaves no room there, and what the system says then."""

    folder: Path
    fault: str
    words: str


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[FullDisk]:
    """A disk of 40 MB; where none can be mounted, as in some containers, a limit on the size of files."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk]).returncode:
        yield FullDisk(tmp_path, "LimitsFiles", "File too large")
        return
    yield FullDisk(disk, "FillsDisk", "No space left on device")
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_the_disk_is_full_when_a_checkpoint_is_written(
    alone: Training, jobs: Jobs, full_disk: FullDisk, runs: Path
) -> None:
    settings = (f"runs={runs}", *fault(full_disk.fault, before_batch=7, rank=0))
    path = full_disk.folder / "run"
    full = submit(jobs, path, *settings).wait("FAILED")
    assert full.restarts == 0 and full_disk.words in full.said
    (path / "filler").unlink(missing_ok=True)
    training = submit(jobs, path, *settings)
    training.wait("COMPLETED")
    assert_equal(training, alone, repeats=range(4, 12))
