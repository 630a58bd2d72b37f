"""What the launcher writes and submits, on a real SLURM: taken, run, requeued, cancelled, and true about failures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sam2.slurm.profile import Cluster as Profile
from sam2.slurm.render import RUN_DIR
from slurm.testcluster import Cluster
from tests.slurm.batch_files import pretended
from tests.slurm.jobs import Jobs

ROOT = Path(__file__).parents[2]
# the cluster's node names mean nothing to a resolver; two nodes are one machine
ON_TEST_CLUSTER = (
    "launcher=slurm",
    "cluster=cpu",
    "cluster.cpus_per_task=1",
    "cluster.time=00:10:00",
    "cluster.env.MASTER_ADDR=127.0.0.1",
    "cluster.env.OMP_NUM_THREADS='1'",
)
TWO_NODES = ("trainer.accelerator=cpu", "trainer.nodes=2", "trainer.devices=1")
SHORT = (
    "evaluate.at_start=false",
    "evaluate.every_steps=null",
    "evaluate.overlay=false",
    "trainer.max_steps=2",
)
pytestmark = [pytest.mark.slurm]


def launch(
    cluster: Cluster, folder: Path, *words: str, entry: tuple[str, ...] = ("train.py",)
) -> tuple[str, str]:
    """Run a command line of ours in `folder`; gives the job's id, if one was submitted, and what was said."""
    environment = {**cluster.environment, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / entry[0]), *entry[1:], *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    found = re.search(r"^job (\d+)", said, re.MULTILINE)
    return (found[1] if found else ""), said


def only_run(folder: Path) -> Path:
    (path,) = (config.parents[1] for config in (folder / "runs").glob("*/*/job/config.yaml"))
    return path


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "slurm").glob("*.sbatch")))
def test_slurm_takes_every_template(cluster: Cluster, name: str) -> None:
    small = (
        "--ntasks-per-node=2",
        "--gpus-per-node=2",
        "--cpus-per-task=1",
    )  # eight GPUs a node are not here
    cluster.ask("sbatch", "--test-only", *small, str(ROOT / "slurm" / name))


FORMS = {
    "gpus-per-node": Profile(),
    "gres": Profile(gpu_request="gres"),
    "no GPUs": Profile(gpu_request="none"),
    "everything": Profile(
        partition="train,high",
        constraint=None,
        exclude="n3",
        nodelist="n[1-2]",
        mem="100M",
        time="0-01:30:00",
        mail_user="me@example.org",
        sbatch=("--exclusive", '--comment="two words, it\'s"', "--nice=10"),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("array", [None, "0-3%2"])
def test_slurm_takes_every_form_of_profile(
    cluster: Cluster, tmp_path: Path, form: str, array: str | None
) -> None:
    shape = {"cluster": FORMS[form], "nodes": 2, "tasks": 2, "wants_gpus": form != "no GPUs", "array": array}
    folder = tmp_path / "a \"b\" 'c' 100% #d"
    cluster.ask("sbatch", "--test-only", str(pretended(folder, "well", **shape)))


def test_gpus_are_given_by_node_to_all_tasks(jobs: Jobs, tmp_path: Path) -> None:
    see = pretended(tmp_path / "x", "well", wants_gpus=True, tasks=2, entry="-c", arguments='"$see"')
    see.write_text(
        see.read_text().replace(
            "in_tasks -c", "see='import os; print(os.environ[\"CUDA_VISIBLE_DEVICES\"])'; in_tasks -c"
        )
    )
    job = jobs.wait(jobs.submit(see), "FAILED", deadline_s=60)
    assert sorted(job.said.splitlines())[:2] == ["0: 0,1", "1: 0,1"]


def test_an_interrupted_training_is_requeued_and_ends_well(
    cluster: Cluster, jobs: Jobs, tmp_path: Path
) -> None:
    """Status finds its run, though nothing was submitted from there: as with the templates."""
    job = jobs.submit(pretended(tmp_path / "a b", "interrupted"))
    jobs.wait(job, "PENDING", deadline_s=60, restarts=1)
    jobs.release(job)
    done = jobs.wait(job, "COMPLETED", deadline_s=60, restarts=1)
    assert done.exit_code == 0 and "back into the queue" in done.said and "restart 1" in done.said
    assert (tmp_path / "a b" / "run" / "job" / "restarts.txt").read_text() == f"{job} 0 0\n"
    _, said = launch(cluster, tmp_path, "slurm", "status", job, entry=("sam2_train.py",))
    assert re.search(rf"{job} +COMPLETED .*restarts 1  step 1 of \?\n +{tmp_path}/a b/run\n", said)


def test_a_training_without_progress_is_requeued_twice_and_fails(jobs: Jobs, tmp_path: Path) -> None:
    job = jobs.submit(pretended(tmp_path / "x", "stuck"))
    for restart in (1, 2):
        jobs.wait(job, "PENDING", deadline_s=60, restarts=restart)
        jobs.release(job)
    done = jobs.wait(job, "FAILED", deadline_s=60, restarts=2)
    assert done.exit_code == 85 and "no progress" in done.said


def test_a_cancelled_job_stays_cancelled(jobs: Jobs, tmp_path: Path) -> None:
    """Though the training saves and ends with 85, as it does when it is preempted."""
    job = jobs.submit(pretended(tmp_path / "x", "until asked"))
    jobs.until(job, (tmp_path / "x" / "run" / "began-0").exists, "begin", deadline_s=60)
    jobs.cancel(job)
    done = jobs.wait(job, "CANCELLED", deadline_s=60)
    jobs.leave_nothing()
    assert jobs.job(job).state == "CANCELLED" and done.restarts == 0


def test_a_member_of_an_array_requeues_itself_alone(jobs: Jobs, tmp_path: Path) -> None:
    places = {
        "array": "0-1",
        "arguments": f'"$([ "$SLURM_ARRAY_TASK_ID" = 1 ] && echo interrupted || echo well)" {RUN_DIR}',
    }
    script = pretended(tmp_path / "x", "well", log=f"{tmp_path}/log-%a.txt", **places)
    text = script.read_text().replace(
        f"run_dir={tmp_path}/x/run", f"run_dir={tmp_path}/x/run$SLURM_ARRAY_TASK_ID"
    )
    script.write_text(text)
    array = jobs.submit(script)
    jobs.wait(f"{array}_1", "PENDING", deadline_s=60, restarts=1)
    jobs.release(f"{array}_1")
    assert jobs.wait(f"{array}_1", "COMPLETED", deadline_s=60).restarts == 1
    assert jobs.wait(f"{array}_0", "COMPLETED", deadline_s=60).restarts == 0


def test_a_run_on_two_nodes_from_the_command_line_to_its_end(
    cluster: Cluster, jobs: Jobs, tmp_path: Path
) -> None:
    """In a folder whose name has all that shells, SLURM and Hydra make something of."""
    folder = tmp_path / 'it\'s "odd", 100%j #{x} $HOME (1)'
    folder.mkdir()
    words = ("smoke", *TWO_NODES, *ON_TEST_CLUSTER, *SHORT, "cluster.sbatch=['--hold']")
    job, said = launch(cluster, folder, *words)
    jobs.submitted.append(job)
    run = only_run(folder)
    assert f"directory       {run}" in said and "2 clips of 3 frames: 1 x 1 accumulated x 2 processes" in said
    assert f"{run}/checkpoints/last.ckpt" in said and f"sam2 slurm cancel {job}" in said
    again = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words],
        cwd=folder,
        env={**cluster.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert again.returncode == 2 and re.search(rf"has a job already: {job} is PENDING", again.stderr)
    cluster.ask("scontrol", "release", job)
    done = jobs.wait(job, "COMPLETED", deadline_s=240)
    heard = (run / "log" / f"slurm-{job}.txt").read_text()
    assert done.exit_code == 0 and "preflight: 2 tasks, CPU, gloo: all well" in heard
    assert json.loads((run / "run.json").read_text())["finished"]["step"] == 2
    assert (run / "export" / "model.pt").is_file() and (run / "log" / "rank-1.txt").is_file()
    _, said = launch(cluster, folder, "slurm", "status", entry=("sam2_train.py",))
    assert f"{job:<10} COMPLETED" in said and "step 2 of 2" in said and str(run) in said
    _, said = launch(cluster, folder, str(run), *ON_TEST_CLUSTER)
    assert "is finished" in said


def test_a_sweep_is_one_array_and_its_failed_member_alone_is_run_again(
    cluster: Cluster, jobs: Jobs, tmp_path: Path
) -> None:
    """One member is too large for its data: 9 frames of a clip where videos have fewer."""
    one = (
        "trainer.accelerator=cpu",
        "trainer.devices=1",
        "launcher.preflight=false",
        *ON_TEST_CLUSTER,
        *SHORT,
    )
    words = ("-m", "smoke", "data.frames=3,900", *one)
    array, said = launch(cluster, tmp_path, *words)
    jobs.submitted.append(array)
    jobs.wait(f"{array}_0", "COMPLETED", deadline_s=240)
    failed = jobs.wait(f"{array}_1", "FAILED", deadline_s=240)
    assert failed.exit_code == 1 and "900" in failed.said and f"{array}_1" in said
    next_array, said = launch(cluster, tmp_path, *words)
    jobs.submitted.append(next_array)
    assert said.count("done already") == 1 and f"{next_array}_0" in said and f"{next_array}_1" not in said


def is_first_share(line: str) -> bool:
    """Whether a process of this command line is the task of share 1 of 2."""
    return "train.py" in line and "share=1/2" in line and "srun" not in line


def test_an_evaluation_in_two_shares_after_its_training(cluster: Cluster, jobs: Jobs, tmp_path: Path) -> None:
    """It waits for the training to end well; a share that is told to end goes on later; the last to end scores."""
    one = (
        "trainer.accelerator=cpu",
        "trainer.devices=1",
        "launcher.preflight=false",
        *ON_TEST_CLUSTER,
        *SHORT,
    )
    training, _ = launch(cluster, tmp_path, "smoke", *one)
    jobs.submitted.append(training)
    run = only_run(tmp_path)
    data = yaml.safe_load((run / "job" / "config.yaml").read_text())["data"]["val_root"]
    words = (
        f"dataset=shards:{data}",
        f"checkpoint={run}",
        "device=cpu",
        f"launcher.after={run}",
        "launcher.shares=2",
    )
    out = "out=scores of it"
    evaluation, said = launch(cluster, tmp_path, "recipes/eval_shards.yaml", *words, out, *ON_TEST_CLUSTER)
    jobs.submitted.append(evaluation)
    assert "2 shares" in said
    jobs.wait(training, "COMPLETED", deadline_s=240)
    first, second = f"{evaluation}_1", f"{evaluation}_2"
    jobs.wait(first, "RUNNING", deadline_s=240)
    jobs.until(first, lambda: any(map(is_first_share, cluster.processes().values())), "start Python", 240)
    jobs.signal(first, "USR1")
    assert "back into the queue" in jobs.wait(first, "COMPLETED", restarts=1, deadline_s=240).said
    jobs.wait(second, "COMPLETED", restarts=0, deadline_s=240)
    folder = tmp_path / "scores of it"
    for share in (first, second):
        assert len((folder / f"job/done-{share}.txt").read_text().split()) == 1
    results = json.loads((folder / "results.json").read_text())
    assert results["run"]["videos"] == 2


def test_srun_in_an_allocation_starts_the_ranks_of_a_run(cluster: Cluster, tmp_path: Path) -> None:
    """As slurm/README.md has it for an allocation one has already; the job's id names the run."""
    salloc = ("salloc", "--nodes=2", "--ntasks-per-node=1", "--time=00:05:00")
    srun = ("srun", "--kill-on-bad-exit=1", f"--chdir={tmp_path}")
    words = ("smoke", *TWO_NODES, *SHORT, "trainer=ddp")
    environment = {
        **cluster.environment,
        "PYTHONPATH": str(ROOT),
        "MASTER_ADDR": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    command = [*salloc, *srun, sys.executable, str(ROOT / "train.py"), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (tmp_path / "runs" / "smoke").iterdir()
    assert run.name.startswith("slurm-") and (run / "log" / "rank-1.txt").is_file()
    assert json.loads((run / "run.json").read_text())["finished"]["step"] == 2


def test_jobs_are_cancelled_and_taken_up_again_by_name(cluster: Cluster, jobs: Jobs, tmp_path: Path) -> None:
    """A failed job is requeued; one that SLURM does not know any more is submitted again as it was."""
    folder = tmp_path / "run 1"
    script = pretended(tmp_path / "files", "until asked", log=f"{folder}/log/slurm-%j.txt")
    text = script.read_text().replace(f"run_dir={tmp_path}/files/run", f"run_dir='{folder}'")
    (folder / "job").mkdir(parents=True)
    (folder / "log").mkdir()
    (folder / "job" / "job.sbatch").write_text(text)
    number = jobs.submit(folder / "job" / "job.sbatch")
    (folder / "job" / "submitted.json").write_text(json.dumps({"job": number}))
    jobs.until(number, (folder / "began-0").exists, "begin", deadline_s=60)

    def ours(*words: str) -> str:
        return launch(cluster, tmp_path, "slurm", *words, entry=("sam2_train.py",))[1]

    assert re.search(rf"{number} +RUNNING .* on n1  step 0 of \?", ours("status", number))
    assert f"job {number} is cancelled" in ours("cancel", str(folder))
    jobs.wait(number, "CANCELLED", deadline_s=60)
    (folder / "began-0").unlink()
    assert f"job {number} is back in the queue" in ours("requeue", str(folder))
    jobs.release(number)
    jobs.until(number, (folder / "began-1").exists, "begin again", deadline_s=60)
    ours("cancel", number)
    jobs.wait(number, "CANCELLED", deadline_s=60)
    (folder / "job" / "submitted.json").write_text(json.dumps({"job": "99999"}))
    found = re.search(r"job (\d+) takes up", ours("requeue", str(folder)))
    assert found is not None
    jobs.submitted.append(found[1])
    jobs.until(found[1], (folder / "began-0").exists, "begin", deadline_s=60)
    assert re.search(rf"{found[1]} +RUNNING", ours("status", str(folder)))
