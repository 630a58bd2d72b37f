"""The text of a batch file, and what bash makes of it. What SLURM makes of it stands in tests/slurm/test_launch.py."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sam2.slurm.errors import BatchError
from sam2.slurm.profile import Cluster, Container
from sam2.slurm.render import RUN_DIR, Job, pattern, quoted, render

ODD = st.text(
    st.characters(min_codepoint=32, blacklist_characters="\x7f", codec="utf-8"), min_size=1, max_size=30
)


def job(run_dir: object = "/runs/one", **changed: object) -> Job:
    """A training on two nodes."""
    plain = Job(
        about=("a run",),
        name="smoke",
        cluster=Cluster(),
        nodes=2,
        tasks=4,
        wants_gpus=True,
        cpus=6,
        log="/runs/one/log/slurm-%j.txt",
        places=(f"run_dir={quoted(run_dir)}", "python=python", "code=/code"),
        arguments=f'"$run_dir/job/config.yaml" {RUN_DIR}',
    )
    return dataclasses.replace(plain, **changed)  # type: ignore[arg-type]


def options(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]


def run(folder: Path, text: str, srun: str, scontrol: str = "echo ' JobState=RUNNING '", **variables: str):
    """The batch file in bash, with pretended programs of SLURM's, and a Python that names port 1."""
    programs = {"srun": srun, "scontrol": f'echo "scontrol $@" >> "$CALLS"; {scontrol}', "python": "echo 1"}
    (folder / "bin").mkdir(exist_ok=True)
    for name, body in programs.items():
        (folder / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / "bin" / name).chmod(0o755)
    around = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "MASTER"))}
    own = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "SLURM_JOB_ID": "5", "SLURM_JOB_NODELIST": "n1"}
    (folder / "calls").touch()
    environment = {**around, **own, "CALLS": str(folder / "calls"), **variables}
    return subprocess.run(["bash"], input=text, text=True, capture_output=True, env=environment, cwd=folder)


def test_the_options_are_those_of_the_profile() -> None:
    cluster = Cluster(
        account="abc",
        partition="gpu,long",
        qos="high",
        constraint="a100|h100",
        exclude="n[1-3]",
        nodelist="n9",
        reservation="class",
        gpu_request="gres",
        gpu_type="a100",
        mem="120G",
        time="1-00:00:00",
        mail_user="me@example.org",
        sbatch=("--exclusive", '--comment="two words"'),
        signal_lead_s=600,
    )
    assert options(render(job(cluster=cluster, array="0-7%2"))) == [
        "--job-name=smoke",
        "--nodes=2",
        "--ntasks-per-node=4",
        "--gres=gpu:a100:4",
        "--cpus-per-task=6",
        "--time=1-00:00:00",
        "--account=abc",
        "--partition=gpu,long",
        "--qos=high",
        "--constraint=a100|h100",
        "--exclude=n[1-3]",
        "--nodelist=n9",
        "--reservation=class",
        "--mem=120G",
        "--mail-user=me@example.org",
        "--mail-type=END,FAIL",
        "--array=0-7%2",
        "--requeue",
        "--open-mode=append",
        "--signal=USR1@600",
        "--output=/runs/one/log/slurm-%j.txt",
        "--exclusive",
        '--comment="two words"',
    ]


def test_a_job_without_gpus_asks_for_none() -> None:
    assert not [
        option for option in options(render(job(wants_gpus=False))) if "gpu" in option or "gres" in option
    ]


def test_the_environment_is_set_up_in_order() -> None:
    cluster = Cluster(
        setup=("source /etc/profile.d/modules.sh",),
        modules=("cuda/12", "gcc"),
        venv=Path("/home/me/my venv"),
        interface="ib0",
        env={"A": "it's"},
    )
    lines = render(job(cluster=cluster)).splitlines()
    start = lines.index("# What this cluster needs.")
    assert lines[start + 1 : start + 10] == [
        "set +u",
        "source /etc/profile.d/modules.sh",
        "module load cuda/12",
        "module load gcc",
        ". '/home/me/my venv/bin/activate'",
        "set -u",
        """export A='it'"'"'s'""",
        "export NCCL_SOCKET_IFNAME=ib0",
        "export GLOO_SOCKET_IFNAME=ib0",
    ]
    assert "conda activate sam" in render(job(cluster=Cluster(conda="sam")))


def test_a_container_holds_the_tasks_and_not_the_batch_script(tmp_path: Path) -> None:
    """`scontrol requeue` works outside alone; the port is chosen inside, where the Python is."""
    tell = 'printf "<%s>" "$@"; echo; echo 4321'
    where = tmp_path / "a b"
    boxes = {
        "apptainer": Container("apptainer", "/i.sif", ("/data",), ("--writable-tmpfs",)),
        "pyxis": Container("pyxis", "reg#x:1", ("/data:/d",), ("--no-container-mount-home",)),
    }
    outputs = {}
    for name, box in boxes.items():
        text = render(
            job(where, cluster=Cluster(container=box, env={"MASTER_ADDR": "x"}), mounts=("'/sh ards'",))
        )
        done = run(tmp_path, text, f"if [ $# -gt 0 ]; then {tell}; fi")
        outputs[name] = done.stdout
    mounts = f"/code,{where},/sh ards,/data"
    inside = f"<apptainer><exec><--nv><--bind><{mounts}><--writable-tmpfs></i.sif><python><-P><-m>"
    assert f"{inside}<sam2.slurm.preflight><{where}>" in outputs["apptainer"]
    pyxis = f"<--container-image=reg#x:1><--container-mounts=/code:/code,{where}:{where},/sh ards:/sh ards,/data:/d>"
    assert (
        f"{pyxis}<--container-workdir={tmp_path}><--no-container-mount-home><python><-P>" in outputs["pyxis"]
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(run_dir='it\'s "$HOME" `id` $(id) ;&|<>*?[]{}!#~ %j')
@example(run_dir="-n")
@given(run_dir=ODD.filter(lambda text: "\\" not in text))
def test_any_run_directory_reaches_the_tasks_as_it_is(tmp_path: Path, run_dir: str) -> None:
    """Hydra's own reader is asked what the setting means."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    path = f"{tmp_path}/{run_dir.strip('/') or 'x'}"
    srun = 'while [ "$1" != python ]; do shift; done; [[ "$3" == sam2.* ]] || printf "%s\\0" "$@" > words; exit 9'
    done = run(tmp_path, render(job(path, preflight=False)), srun)
    assert done.returncode == 9, done.stderr
    _, _, config, setting = (tmp_path / "words").read_bytes().decode().split("\0")[:4]
    assert config == f"{path}/job/config.yaml"
    assert OverridesParser.create().parse_override(setting).value() == path


def test_a_log_is_where_it_is_meant_to_be_or_refused() -> None:
    assert pattern("/a %j/b") == "/a %%j/b"
    assert options(render(job(log='/a "b"/%j')))[-1] == r'--output="/a \"b\"/%j"'
    with pytest.raises(BatchError, match="backslash"):
        pattern("/a\\b")
    with pytest.raises(BatchError, match="one line"):
        render(job(log="/a\nb"))


def test_a_comment_cannot_become_a_line_of_its_own() -> None:
    assert "\n#SBATCH --nodes=99" not in render(job(about=("x\n#SBATCH --nodes=99\rtouch /tmp/x",)))


def ended(folder: Path, code: int, step: str | None = None, history: str = "", **given: str):
    """A training that ends with `code` at `step`, in its first start unless told."""
    (folder / "r" / "job").mkdir(parents=True, exist_ok=True)
    (folder / "r" / "checkpoints").mkdir(exist_ok=True)
    (folder / "r" / "job" / "restarts.txt").write_text(history)
    if step is not None:
        (folder / "r" / "checkpoints" / "step.txt").write_text(f"{step}\n")
    text = render(job(folder / "r", preflight=False, cluster=Cluster(max_restarts=3)))
    done = run(folder, text, f"exit {code}", **given)
    calls = (folder / "calls").read_text()
    return done, "scontrol requeue" in calls, (folder / "r" / "job" / "restarts.txt").read_text()


@pytest.mark.parametrize("code", [85, 138, 140, 143])
def test_an_interrupted_run_goes_back_into_the_queue(tmp_path: Path, code: int) -> None:
    done, is_requeued, history = ended(tmp_path, code, "12")
    assert is_requeued and history == "5 0 12\n" and done.returncode == code


@pytest.mark.parametrize("code", [1, 2, 70, 86, 87, 88, 137])
def test_a_failed_run_does_not_and_its_code_is_the_jobs(tmp_path: Path, code: int) -> None:
    done, is_requeued, history = ended(tmp_path, code, "12")
    assert not is_requeued and not history and done.returncode == code


@pytest.mark.parametrize(
    ("word", "srun", "code"),
    [
        (85, 143, 85),  # saved, then taken along by the first to end
        (85, 137, 85),
        (2, 143, 2),  # why the first one ended
        (70, 137, 137),  # a rank was killed; the word is of one that missed it
        (1, 88, 1),  # why the first one ended, which the others missed
        (1, 1, 1),
    ],
)
def test_the_word_of_the_first_rank_to_end_counts_where_srun_ended_the_others(
    tmp_path: Path, word: int, srun: int, code: int
) -> None:
    text = render(job(tmp_path / "r", preflight=False))
    done = run(tmp_path, text, f'echo {word} > "$SAM2_LAST_WORD"; exit {srun}', SLURM_RESTART_COUNT="1")
    assert done.returncode == code
    assert ("scontrol requeue" in (tmp_path / "calls").read_text()) == (code == 85)


def test_the_word_of_an_earlier_start_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "r" / "job").mkdir(parents=True)
    (tmp_path / "r" / "job" / "ended-5-0").write_text("85\n")
    (tmp_path / "r" / "job" / "ended-5-1").write_text("85\n")
    text = render(job(tmp_path / "r", preflight=False))
    assert run(tmp_path, text, "exit 143", SLURM_RESTART_COUNT="1").returncode == 143


def test_two_restarts_without_a_step_are_the_last(tmp_path: Path) -> None:
    done, is_requeued, _ = ended(tmp_path, 85, "12", "5 0 4\n5 1 12\n")
    assert is_requeued
    (tmp_path / "calls").unlink()
    done, is_requeued, _ = ended(tmp_path, 85, "12", "5 0 12\n5 1 12\n")
    assert not is_requeued and "no progress" in done.stderr and done.returncode == 85
    assert ended(tmp_path, 85, "12", "4 0 12\n4 1 12\n")[1], "another job's restarts count for that one"


def test_a_run_that_never_saved_makes_no_progress_either(tmp_path: Path) -> None:
    assert not ended(tmp_path, 138, None, "5 0 none\n5 1 none\n")[1]


def test_restarts_have_a_cap(tmp_path: Path) -> None:
    done, is_requeued, _ = ended(tmp_path, 85, "9", "5 0 1\n5 1 2\n5 2 3\n")
    assert not is_requeued and "cluster.max_restarts" in done.stderr


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "PENDING"])
def test_a_job_that_was_cancelled_or_requeued_by_others_is_left_alone(tmp_path: Path, state: str) -> None:
    (tmp_path / "r" / "job").mkdir(parents=True)
    text = render(job(tmp_path / "r", preflight=False))
    done = run(tmp_path, text, "exit 85", f"echo 'JobId=5 JobState={state} Reason=None'")
    assert "requeue" not in (tmp_path / "calls").read_text() and state in done.stderr


def test_a_member_of_an_array_requeues_itself_and_not_the_array(tmp_path: Path) -> None:
    """The job id of the last member is that of the whole array."""
    ended(tmp_path, 85, "1", SLURM_ARRAY_JOB_ID="5", SLURM_ARRAY_TASK_ID="3")
    assert "scontrol requeue 5_3\n" in (tmp_path / "calls").read_text()


@pytest.mark.parametrize("setup", ["false", "module load no/such", "cd /no/such/folder"])
def test_what_fails_before_the_training_ends_the_job(tmp_path: Path, setup: str) -> None:
    """A run in half an environment would fail later and less clearly."""
    done = run(tmp_path, render(job(tmp_path / "r", cluster=Cluster(setup=(setup,)))), 'echo "srun $@"')
    assert done.returncode not in (0, 85) and "srun" not in done.stdout


def test_a_failed_preflight_keeps_the_run_from_starting(tmp_path: Path) -> None:
    srun = 'echo "$@"; exit 1'
    done = run(tmp_path, render(job(tmp_path / "r")), srun)
    assert done.returncode == 1 and "preflight" in done.stdout and "train.py" not in done.stdout


def test_the_head_node_is_the_first_of_the_job_unless_told(tmp_path: Path) -> None:
    srun = 'echo "meet at $MASTER_ADDR:$MASTER_PORT"; exit 3'
    text = render(job(tmp_path / "r", preflight=False))
    assert "meet at n7:1\n" in run(tmp_path, text, srun, "echo n7; echo n8").stdout
    assert (
        "meet at 10.0.0.1:1\n"
        in run(tmp_path, text, srun, MASTER_ADDR="10.0.0.1", MASTER_PORT="29500").stdout
    )


def share_ended(folder: Path, code: int, history: str = ""):
    """A share of an evaluation that ends with `code` when two videos are done."""
    out = folder / "r"
    (out / "job").mkdir(parents=True)
    (out / "job" / "restarts.txt").write_text(history)
    (out / "job" / "done-5_3.txt").write_text("of an earlier start\n")
    text = render(job(out, nodes=1, tasks=1, preflight=False, is_training=False))
    srun = f'echo "of this one" >> "$SAM2_DONE"; exit {code}'
    done = run(folder, text, srun, SLURM_ARRAY_JOB_ID="5", SLURM_ARRAY_TASK_ID="3")
    return done, (folder / "calls").read_text(), (out / "job" / "restarts.txt").read_text()


@pytest.mark.parametrize("code", [138, 140, 143])
def test_an_evaluation_that_a_signal_ended_goes_back_into_the_queue(tmp_path: Path, code: int) -> None:
    done, calls, history = share_ended(tmp_path, code, "5_3 0 1\n5_3 1 1\n5_4 0 2\n5_4 1 2\n")
    assert "scontrol requeue 5_3\n" in calls and history.endswith("\n5_3 0 2\n") and done.returncode == code
    assert "interrupted after 2 videos or images; back into the queue" in done.stdout


@pytest.mark.parametrize("code", [0, 1, 2, 70, 137])
def test_an_evaluation_that_ended_by_itself_does_not(tmp_path: Path, code: int) -> None:
    done, calls, history = share_ended(tmp_path, code)
    assert "requeue" not in calls and not history and done.returncode == code


def test_an_evaluation_without_progress_is_not_taken_up_for_ever(tmp_path: Path) -> None:
    done, calls, _ = share_ended(tmp_path, 138, "5_3 0 2\n5_3 1 2\n")
    assert (
        "requeue" not in calls and "made no progress; give the job more time (cluster.time)\n" in done.stderr
    )


def test_an_evaluation_is_told_of_its_time_limit_late_as_it_has_nothing_to_save() -> None:
    for lead, told in ((300, 60), (30, 30)):
        text = render(job(is_training=False, cluster=Cluster(signal_lead_s=lead)))
        assert f"--signal=USR1@{told}" in options(text)
