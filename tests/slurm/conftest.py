"""One SLURM for all tests here. Where there can be none they are skipped, or fail if SAM2_REQUIRE_SLURM=1."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.testcluster import Cluster, running, why_not
from tests.slurm import trainings
from tests.slurm.jobs import Jobs

WHY = pytest.StashKey[str]()
STARTED = pytest.StashKey[float]()


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """Three nodes n1, n2 and n3 with two pretended GPUs each."""
    reason = why_not()
    if reason is not None:
        if os.environ.get("SAM2_REQUIRE_SLURM") == "1":
            pytest.fail(f"SAM2_REQUIRE_SLURM=1, but {reason}")
        pytestconfig.stash[WHY] = reason
        pytest.skip(reason)
    began = time.monotonic()
    with running() as cluster:
        pytestconfig.stash[STARTED] = time.monotonic() - began
        yield cluster


@pytest.fixture
def jobs(cluster: Cluster, tmp_path: Path) -> Iterator[Jobs]:
    """Submits jobs in the test's own folder; none of them, and none of their processes, outlives the test."""
    mine = Jobs(cluster, tmp_path)
    yield mine
    mine.leave_nothing()
    for node, state in cluster.states().items():
        if not cluster.is_usable(state):
            cluster.revive_node(node)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all trainings of these tests are, with the videos that they share."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def run(runs: Path, request: pytest.FixtureRequest) -> Path:
    """The run directory of a test."""
    return runs / request.node.name.removeprefix("test_")


@pytest.fixture(scope="session")
def alone(cluster: Cluster, runs: Path) -> trainings.Training:
    """The training that nothing happens to."""
    training = trainings.submit(Jobs(cluster, runs), runs / "alone")
    training.wait("COMPLETED", restarts=0)
    return training


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """A skipped cluster is no small print."""
    if WHY in config.stash:
        terminalreporter.section("NOTHING WAS TESTED ON SLURM", sep="!", red=True)
        terminalreporter.line(config.stash[WHY])
    if STARTED in config.stash:
        terminalreporter.line(f"test cluster: up in {config.stash[STARTED]:.1f} s")
