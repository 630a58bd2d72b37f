"""The test cluster is a SLURM as others are, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.testcluster import Cluster, running
from tests.slurm.jobs import Jobs

PROGRAM = Path(__file__).parents[2] / "slurm" / "testcluster.py"
pytestmark = pytest.mark.slurm

# a job that says when it was signalled, and goes on
LISTENING = """
trap 'echo heard TERM' TERM
srun --quiet bash -c 'trap "echo task $SLURM_PROCID heard USR1" USR1; echo ready; while true; do sleep 0.1; done'
"""
STEPS_ON_TWO_NODES = "srun --quiet bash -c 'echo running; sleep 1000 & wait'"


def eventually(holds: Callable[[], object], what: str, deadline_s: float = 30) -> None:
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def below(folder: Path) -> list[str]:
    """Command lines of processes that name a cluster's folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder) in line:
            found.append(line)
    return found


def changed(folder: Path, setting: str, other: str) -> subprocess.Popen[str]:
    """Start a cluster in `folder` whose slurm.conf has `other` instead of `setting`."""
    copy = folder / "changed"
    copy.mkdir()
    for file in PROGRAM.parent.glob("testcluster*.*"):
        text = file.read_text()
        assert file.suffix != ".conf" or setting in text
        (copy / file.name).write_text(text.replace(setting, other) if file.suffix == ".conf" else text)
    return subprocess.Popen(
        [sys.executable, str(copy / PROGRAM.name), "up"],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_three_nodes_wait_for_jobs(cluster: Cluster) -> None:
    assert cluster.states() == {"n1": "idle", "n2": "idle", "n3": "idle"}


def test_daemons_listen_on_loopback_alone(cluster: Cluster) -> None:
    ports = re.findall(r"Port=(\d+)", cluster.conf.read_text())
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {local for _, local, _, state, *_ in sockets if state == "0A"}
    assert len(ports) == 4
    for port in ports:
        assert {local for local in listening if local.endswith(f":{int(port):04X}")} == {
            f"0100007F:{int(port):04X}"
        }


def test_a_step_has_its_tasks_on_two_nodes_and_sees_all_gpus_of_each(jobs: Jobs) -> None:
    job = jobs.submit(
        "srun --label bash -c 'echo $SLURMD_NODENAME $SLURM_LOCALID $CUDA_VISIBLE_DEVICES'",
        "--nodes=2",
        "--ntasks-per-node=2",
        "--gpus-per-node=2",
    )
    said = jobs.wait(job, "COMPLETED", deadline_s=30).said
    assert sorted(said.splitlines()) == ["0: n1 0 0,1", "1: n1 1 0,1", "2: n2 0 0,1", "3: n2 1 0,1"]


@pytest.mark.parametrize("option", ["--gres=gpu:2", "--gpus-per-node=2"])
def test_a_batch_script_sees_the_gpus_it_asked_for(jobs: Jobs, option: str) -> None:
    job = jobs.submit("echo $CUDA_VISIBLE_DEVICES", option)
    assert jobs.wait(job, "COMPLETED", deadline_s=30).said == "0,1\n"


def test_each_member_of_an_array_has_its_own_end(jobs: Jobs) -> None:
    array = jobs.submit("exit $((SLURM_ARRAY_TASK_ID == 2 ? 3 : 0))", "--array=0-3")
    for number in range(4):
        state = "FAILED" if number == 2 else "COMPLETED"
        job = jobs.wait(f"{array}_{number}", state, deadline_s=30)
        assert job.exit_code == (3 if number == 2 else 0)
    assert [job.id for job in jobs.members(array)] == [f"{array}_{number}" for number in range(4)]


def test_a_signal_reaches_every_task_and_not_the_batch_script(jobs: Jobs) -> None:
    job = jobs.submit(LISTENING, "--nodes=2", "--ntasks-per-node=2")
    jobs.until(job, lambda: jobs.job(job).said.count("ready") == 4, "be ready", deadline_s=30)
    jobs.signal(job, "USR1")
    jobs.until(job, lambda: jobs.job(job).said.count("heard USR1") == 4, "hear USR1", deadline_s=30)
    jobs.cancel(job)
    jobs.wait(job, "CANCELLED", deadline_s=30)


def test_a_requeued_job_runs_again_soon(jobs: Jobs) -> None:
    job = jobs.submit(
        "echo restart ${SLURM_RESTART_COUNT:-none}; sleep $((SLURM_RESTART_COUNT ? 0 : 100))",
        "--open-mode=append",
    )
    jobs.until(job, lambda: "restart none" in jobs.job(job).said, "run", deadline_s=30)
    jobs.requeue(job)
    assert "restart 1" in jobs.wait(job, "COMPLETED", restarts=1, deadline_s=30).said


def test_partition_high_takes_the_nodes_of_train(jobs: Jobs) -> None:
    options = ["--nodes=3", "--gpus-per-node=2"]
    low = jobs.submit("sleep 1000", *options)
    jobs.wait(low, "RUNNING", deadline_s=30)
    high = jobs.submit("true", "--partition=high", *options)
    jobs.wait(high, "COMPLETED", deadline_s=60)
    jobs.wait(low, "RUNNING", restarts=1, deadline_s=60)


def test_a_job_whose_node_dies_runs_again_elsewhere(cluster: Cluster, jobs: Jobs) -> None:
    job = jobs.submit(STEPS_ON_TWO_NODES, "--nodes=2", "--ntasks-per-node=1", "--open-mode=append")
    jobs.until(job, lambda: jobs.job(job).said.count("running") == 2, "run", deadline_s=30)
    assert jobs.job(job).nodes == "n[1-2]" and cluster.processes("n2")
    cluster.kill_node("n2")
    assert not cluster.processes("n2")
    assert jobs.wait(job, "RUNNING", restarts=1, deadline_s=90).nodes == "n[1,3]"
    cluster.revive_node("n2")
    assert jobs.wait(jobs.submit("true", "--nodelist=n2"), "COMPLETED", deadline_s=30).nodes == "n2"


def test_two_clusters_run_side_by_side_and_each_leaves_nothing(cluster: Cluster) -> None:
    with running() as other:
        folder = other.folder
        assert other.ask("srun", "--nodes=3", "hostname").count("\n") == 3
        assert set(cluster.states().values()) == {"idle"}
        other.ask("sbatch", "--wrap=srun sleep 1000", "--output=/dev/null", "--chdir=/")
        eventually(
            lambda: any("sleep" in line for line in other.processes().values()), "the job did not start"
        )
        sleeping = [pid for pid, line in other.processes().items() if "sleep" in line]
        assert below(folder)
    assert not folder.exists() and not below(folder)
    assert not [pid for pid in sleeping if Path(f"/proc/{pid}").exists()]


def test_a_cluster_ends_when_the_program_that_wanted_it_is_killed(cluster: Cluster) -> None:
    words = "import os; print(os.environ['SLURM_CONF'], flush=True); import time; time.sleep(1000)"
    command = [sys.executable, str(PROGRAM), "run", "--", sys.executable, "-c", words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as program:
        assert program.stdout is not None
        folder = Path(program.stdout.readline()).parent
        assert below(folder)
        os.killpg(program.pid, signal.SIGKILL)
    eventually(lambda: not folder.exists() and not below(folder), f"{folder} is left")


def test_run_gives_the_exit_code_of_its_command() -> None:
    for words, code in (("exit 7", 7), ("sinfo -h -o %D | grep -qx 3", 0), ("kill -9 $$", 137)):
        done = subprocess.run([sys.executable, str(PROGRAM), "run", "--", "bash", "-c", words])
        assert done.returncode == code


def test_up_stays_until_down(cluster: Cluster, tmp_path: Path) -> None:
    def command(*words: str) -> str:
        variables = {**os.environ, "TMPDIR": str(tmp_path)}
        variables.pop("SLURM_CONF", None)
        return subprocess.run(
            [sys.executable, str(PROGRAM), *words], env=variables, capture_output=True, text=True, check=True
        ).stdout

    said = command("up")
    folder = Path(said.partition("export SLURM_CONF=")[2].split()[0]).parent
    assert folder.parent == tmp_path and "n3: idle" in command("status")
    command("down")
    assert not folder.exists() and not below(folder)


def test_a_start_that_fails_says_why_and_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    with changed(tmp_path, "ReturnToService=2", "ReturnToService=perhaps") as start:
        said, complaint = start.communicate()
    assert start.returncode == 1 and not said
    assert complaint.startswith("error: slurmctld ended with exit code 1\n") and "perhaps" in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["changed"] and not below(tmp_path)


def test_a_start_that_is_killed_halfway_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    with changed(
        tmp_path, "Gres=gpu:2", "Gres=gpu:3"
    ) as start:  # nodes with fewer than promised are never ready
        eventually(lambda: any("slurmd" in line for line in below(tmp_path)), "no daemon was started")
        start.kill()
    eventually(lambda: not list(tmp_path.glob("sam2-slurm-*")) and not below(tmp_path), "something is left")


def test_without_slurm_it_says_how_to_get_it(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r}); import testcluster; print(testcluster.why_not())"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("; print", "; testcluster._PROGRAMS = ('slurmofold',); print")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "slurmofold not found" in done.stdout and "apt-get install" in done.stdout
