"""What is missing on a cluster is told before the training starts, within half a minute, and the job has failed."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
import yaml

from sam2.slurm.profile import Cluster as Profile
from tests.slurm.batch_files import pretended
from tests.slurm.jobs import Jobs

pytestmark = pytest.mark.slurm
LIMIT_S = 30


def refused(
    jobs: Jobs, folder: Path, profile: Profile, change: tuple[str, str] = ("", ""), **data: object
) -> str:
    """What a job on two nodes says that does not get as far as training."""
    script = pretended(folder, "well", cluster=profile, preflight=True, nodes=2)
    script.write_text(script.read_text().replace(*change))
    (folder / "run" / "job").mkdir(parents=True)
    settings = {"trainer": {"nodes": 2, "devices": 1, "accelerator": "cpu"}, "data": data, "model": {}}
    (folder / "run" / "job" / "config.yaml").write_text(yaml.safe_dump(settings))
    job = jobs.submit(script)
    jobs.until(job, lambda: jobs.job(job).state != "PENDING", "start", deadline_s=60)
    done = jobs.wait(job, "FAILED", deadline_s=LIMIT_S)
    assert done.exit_code == 1 and not (folder / "run" / "run.json").exists()
    return done.said


def here(**more: object) -> Profile:
    return Profile(**{"env": {"MASTER_ADDR": "127.0.0.1"}, "time": "00:10:00", **more})  # type: ignore[arg-type]


def test_a_head_node_whose_name_means_nothing(jobs: Jobs, tmp_path: Path) -> None:
    """As on this cluster, where nodes are called n1 and n2, unless it is told otherwise."""
    said = refused(jobs, tmp_path / "x", Profile(time="00:10:00"))
    assert (
        "the name of the head node, n1, does not resolve here" in said and "cluster.env.MASTER_ADDR" in said
    )


def test_a_port_that_is_taken(jobs: Jobs, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        chosen = ('MASTER_PORT=$("$python" -P -m sam2.slurm.port)', f"MASTER_PORT={port}")
        said = refused(jobs, tmp_path / "x", here(), chosen)
    assert f"n1, task 0: port {port} cannot be listened on: another process has it" in said


def test_shards_that_are_not_there(jobs: Jobs, tmp_path: Path) -> None:
    said = refused(jobs, tmp_path / "x", here(), root=str(tmp_path / "nowhere"))
    assert said.count("preflight: ") == 1, "all tasks find it, one tells"
    assert f"n1, n2: shards cannot be read: No such file or directory: {tmp_path}/nowhere" in said


def test_no_room_in_the_run_directory(jobs: Jobs, tmp_path: Path) -> None:
    """The limit on the size of a file is refused by the system as a full disk or a quota is."""
    said = refused(jobs, tmp_path / "x", here(setup=("ulimit -f 100",)))
    assert f"n1: nothing can be written to {tmp_path}/x/run: File too large" in said


def test_versions_that_differ_between_nodes(jobs: Jobs, tmp_path: Path) -> None:
    """A node whose environment has another torch."""
    info = tmp_path / "other" / "torch-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")
    python = tmp_path / "python"
    other = f'[ "${{SLURM_PROCID:-0}}" != 1 ] || export PYTHONPATH="{tmp_path}/other:$PYTHONPATH"'
    python.write_text(f'#!/bin/bash\n{other}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    said = refused(jobs, tmp_path / "x", here(), (f"python={sys.executable}", f"python={python}"))
    assert "torch is not the same everywhere" in said and "0.1 on n2" in said


def test_another_number_of_tasks_than_of_devices(jobs: Jobs, tmp_path: Path) -> None:
    said = refused(
        jobs, tmp_path / "x", here(), ("#SBATCH --ntasks-per-node=1", "#SBATCH --ntasks-per-node=2")
    )
    assert (
        "SLURM started 4 tasks on 2 nodes, but trainer.nodes=2 and trainer.devices=1 ask for 2 on 2" in said
    )


def test_a_node_that_is_silent(jobs: Jobs, tmp_path: Path) -> None:
    """Its task hangs before it could say a word."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/bash\n[ "${{SLURM_PROCID:-0}}" != 1 ] || sleep 1000\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    said = refused(jobs, tmp_path / "x", here(), (f"python={sys.executable}", f"python={python}"))
    assert "n1 waited 20 s and heard nothing from task 1" in said
