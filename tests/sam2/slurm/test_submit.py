"""What is said to SLURM's programs, and what is made of what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2.slurm import submit
from sam2.slurm.errors import BatchError, NoAnswerError
from sam2.slurm.jobs import live, look
from sam2.slurm.submit import sbatch

RUNNING = (
    "JobId=12 ArrayJobId=10 ArrayTaskId=1 JobName=a JobState=RUNNING Reason=None Dependency=(null) Restarts=2 "
    "ExitCode=0:0 RunTime=00:01:30 NodeList=n[1-2] Comment=a JobState=FAILED \n"
)
WAITING = "JobId=10 ArrayJobId=10 ArrayTaskId=2-3%1 JobName=a JobState=PENDING Reason=Resources Restarts=0 NodeList=\n"
FAILED = "JobId=11 ArrayJobId=10 ArrayTaskId=0 JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0 NodeList=(null)\n"


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a program that notes its words and environment and does what it is told."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def program(name: str, body: str) -> Path:
        (tmp_path / name).write_text(
            f'#!/bin/bash\necho "$@" > {tmp_path}/said\nenv > {tmp_path}/env\n{body}\n'
        )
        (tmp_path / name).chmod(0o755)
        return tmp_path

    return program


def test_the_id_of_a_job_is_read(pretend) -> None:
    folder = pretend("sbatch", "echo '123;cluster'")
    assert sbatch(Path("a b/job.sbatch"), ["--dependency=afterok:7"]) == "123"
    assert (folder / "said").read_text() == "--parsable --dependency=afterok:7 a b/job.sbatch\n"


def test_a_job_inherits_nothing_of_the_job_that_submits_it(pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pretend("sbatch", "echo 1")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    (folder / "slurm.conf").touch()
    monkeypatch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
    sbatch(Path("x"))
    heard = (folder / "env").read_text()
    assert "SLURM_NTASKS" not in heard and f"SLURM_CONF={folder}/slurm.conf" in heard


def test_what_sbatch_objects_to_is_told_in_one_line(pretend) -> None:
    pretend(
        "sbatch",
        "echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; echo 'sbatch: error: x' >&2; exit 1",
    )
    with pytest.raises(
        BatchError, match=r"^sbatch refused: Batch job submission failed: Invalid account; x$"
    ):
        sbatch(Path("x"))


def test_without_slurm_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BatchError, match=r"no sbatch on this machine.*login node.*dry_run"):
        sbatch(Path("x"))


def test_settings_of_slurm_that_are_not_there_are_told_at_once(
    pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pretend("sbatch", "echo 1")
    monkeypatch.setenv("SLURM_CONF", "/no/slurm.conf")
    with pytest.raises(BatchError, match=r"SLURM_CONF names /no/slurm\.conf, which is not there"):
        sbatch(Path("x"))
    assert not (folder / "said").exists()


def test_one_who_waits_for_slurm_is_told_and_in_the_end_not_left_waiting(
    pretend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "_SILENT_S", 0.2)
    pretend("sbatch", "sleep 0.5; echo 5")
    assert sbatch(Path("x")) == "5"
    assert "waiting for the SLURM controller (sbatch)" in capsys.readouterr().err
    monkeypatch.setattr(submit, "_TIMEOUT_S", 0.4)
    pretend("sbatch", "exec sleep 60")
    with pytest.raises(NoAnswerError, match=r"sbatch did not answer within 0\.4 s"):
        sbatch(Path("x"))


def test_members_of_an_array_are_told_apart(pretend) -> None:
    pretend("scontrol", f"echo '{FAILED}{RUNNING}{WAITING}'")
    failed, running, waiting = look("10")
    assert (failed.id, failed.state, failed.exit_code, failed.nodes, failed.is_live) == (
        "10_0",
        "FAILED",
        3,
        "",
        False,
    )
    assert (running.id, running.state, running.restarts, running.nodes) == ("10_1", "RUNNING", 2, "n[1-2]")
    assert (waiting.id, waiting.reason) == ("10_[2-3%1]", "Resources")
    assert [state.id for state in live("10")] == ["10_1", "10_[2-3%1]"]
    pretend("scontrol", f"echo '{WAITING}{RUNNING}{FAILED}'")
    assert [state.id for state in look("10")] == ["10_0", "10_1", "10_[2-3%1]"], "in ascending order"


def test_a_job_that_slurm_has_forgotten_is_none(pretend) -> None:
    pretend("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert look("9") == []
    pretend("scontrol", "echo 'Job 2_9 not found'; exit 1")
    assert look("2_9") == []


def test_a_controller_that_is_down_is_no_forgotten_job(pretend) -> None:
    pretend("scontrol", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(BatchError, match="Unable to contact"):
        look("9")


def test_what_is_no_job_is_not_passed_on() -> None:
    with pytest.raises(BatchError, match="no job's id"):
        look("9; rm -rf /")
