"""What is told of runs that were submitted, with a pretended scontrol."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sam2.cli.slurm import app
from sam2.slurm.again import take_up
from sam2.slurm.errors import BatchError
from sam2.slurm.folder import JobFolder
from sam2.slurm.status import standings


def sam2(*words: str) -> int:
    """`sam2 slurm ...`; gives the exit code."""
    return int(app(list(words), standalone_mode=False) or 0)


def submitted(path: Path, job: str, steps: int = 40) -> Path:
    JobFolder(path).note(job, ["train.py"])
    JobFolder(path).config.write_text(f"trainer: {{max_steps: {steps}}}\n")
    return path


@pytest.fixture
def knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Say what scontrol knows, by job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    says = 'cat "$KNOWN/$4" 2>/dev/null || { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; }'
    (folder / "scontrol").write_text(f"#!/bin/bash\n{says}\n")
    (folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("KNOWN", str(folder))
    return lambda job, text: (folder / job).write_text(text + "\n")


def test_a_waiting_run_says_why_and_a_running_one_how_far_it_is(tmp_path: Path, knows) -> None:
    waits = submitted(tmp_path / "runs" / "smoke" / "001 a", "7")
    runs = submitted(tmp_path / "runs" / "smoke" / "002-b", "8")
    (runs / "metrics.csv").write_text("step,loss\n5,1.0\n10,0.5\n")
    (runs / "log").mkdir()
    (runs / "log" / "slurm-8.txt").write_text("step 5\nstep 10/40  loss 0.5\n\n")
    script = f"Command={waits}/job/job.sbatch WorkDir=/"
    knows("7", f"JobId=7 JobState=PENDING Reason=Resources Restarts=0 ExitCode=0:0 NodeList=(null) {script}")
    script = f"Command={runs}/job/job.sbatch WorkDir=/"
    knows("8", f"JobId=8 JobState=RUNNING Reason=None Restarts=2 RunTime=00:04:00 NodeList=n[1-2] {script}")
    first, second = standings([], tmp_path / "runs")
    assert (first.job, first.word, first.about, first.step, first.path) == (
        "7",
        "PENDING",
        "Resources",
        "",
        waits,
    )
    assert second.about == "00:04:00 on n[1-2], restarts 2"
    assert (second.step, second.steps, second.said) == ("10", "40", "step 10/40  loss 0.5")
    assert standings(["8"], tmp_path)[0].path == runs, "a job leads to its directory"


def test_runs_that_slurm_has_forgotten_say_themselves_whether_they_are_finished(
    tmp_path: Path, knows
) -> None:
    done = submitted(tmp_path / "done", "7")
    (done / "run.json").write_text(json.dumps({"finished": {"step": 40}}))
    gone = submitted(tmp_path / "gone", "8")
    (gone / "checkpoints").mkdir()
    (gone / "checkpoints" / "step.txt").write_text("20\n")
    first, second = standings([str(done), str(gone)], tmp_path)
    assert (first.word, first.about) == ("finished", "")
    assert (second.word, second.step) == ("gone", "20") and "sam2 slurm requeue" in second.about
    assert (first.kind, second.kind) == ("finished", "failed")


def test_a_run_that_slurm_has_forgotten_says_itself_how_it_failed(tmp_path: Path, knows) -> None:
    """By what its last start left behind: an earlier one had saved and was requeued."""
    failed, stopped, killed = (submitted(tmp_path / name, "7") for name in ("failed", "stopped", "killed"))
    for path in (failed, stopped, killed):
        (path / "log").mkdir()
        (path / "job" / "ended-7-0").write_text("85\n")
    (failed / "job" / "ended-7-1").write_text("1\n")
    (failed / "log" / "slurm-7.txt").write_text(
        "job 7, restart 1, on n1: x\npreflight: n1: no driver\nsrun: x\n"
    )
    (killed / "log" / "slurm-7.txt").write_text(
        "job 7, restart 1, on n1: x\nsrun: error: n1: task 0: Killed\n"
    )
    first, second, third = standings([str(failed), str(stopped), str(killed)], tmp_path)
    assert (first.word, first.said) == (
        "failed",
        "preflight: n1: no driver",
    ) and "exit code 1," in first.about
    assert (second.word, second.kind) == ("stopped", "failed")
    assert (third.word, third.code, third.said) == ("failed", None, "srun: error: n1: task 0: Killed")


def test_an_evaluation_that_slurm_has_forgotten_is_finished_when_it_has_its_results(
    tmp_path: Path, knows
) -> None:
    evaluation = submitted(tmp_path / "scores", "7")
    JobFolder(evaluation).config.write_text("task: evaluate\n")
    (evaluation / "run.json").write_text("{}")
    (evaluation / "log").mkdir()
    for share in (1, 2):
        (evaluation / "log" / f"slurm-7_{share}.txt").write_text(f"share {share}\n")
        os.utime(evaluation / "log" / f"slurm-7_{share}.txt", (share, share))
    (evaluation / "results.json").write_text("{}")
    (one,) = standings([str(evaluation)], tmp_path)
    assert (one.word, one.progress, one.said) == ("finished", "", "share 2")


def test_what_was_saved_is_told_where_it_is_less_than_what_was_done(tmp_path: Path, knows) -> None:
    run = submitted(tmp_path / "runs" / "smoke" / "001-a", "7", steps=300)
    (run / "metrics.csv").write_text("step,loss\n6,1.0\n")
    assert [one.progress for one in standings([], tmp_path / "runs")] == ["step 6 of 300, saved 0"]
    (run / "checkpoints").mkdir()
    for saved, told in (("4", "step 6 of 300, saved 4"), ("6", "step 6 of 300"), ("8", "step 8 of 300")):
        (run / "checkpoints" / "step.txt").write_text(f"{saved}\n")
        assert [one.progress for one in standings([], tmp_path / "runs")] == [told]


def test_of_an_evaluation_the_videos_that_are_done_are_told(tmp_path: Path, knows) -> None:
    evaluation = tmp_path / "scores"
    JobFolder(evaluation).note("9", ["train.py"])
    share = f"Restarts=0 ExitCode=0:0 NodeList=n1 Command={evaluation}/job/job.sbatch WorkDir=/"
    members = [f"JobId={k + 9} ArrayJobId=9 ArrayTaskId={k} JobState=RUNNING {share}" for k in (1, 2, 3)]
    knows("9", "\n".join(members))
    for name, text in (("9_1", "a b\nc\n"), ("9_2", ""), ("8_1", "x\n")):
        (evaluation / "job" / f"done-{name}.txt").write_text(text)
    told = {one.job: one.progress for one in standings(["9"], tmp_path)}
    assert told == {"9_1": "2 done", "9_2": "0 done", "9_3": ""}
    (tmp_path / "bin" / "9").unlink()
    assert [one.progress for one in standings([str(evaluation)], tmp_path)] == ["2 done"], (
        "forgotten by SLURM"
    )


def test_a_job_that_never_began_has_no_time_and_no_node(tmp_path: Path, knows) -> None:
    """SLURM counts it from 1970."""
    knows(
        "66",
        "JobId=66 ArrayJobId=66 ArrayTaskId=1-2 JobState=CANCELLED RunTime=20780-07:24:39 NodeList=(null)",
    )
    (one,) = standings(["66"], tmp_path)
    assert (one.job, one.word, one.about, one.path) == ("66_[1-2]", "CANCELLED", "", None)


def test_a_job_that_was_not_submitted_from_a_run_directory_is_only_a_job(tmp_path: Path, knows) -> None:
    for script in ("/a.sh", "/home/me/slurm/single_node.sbatch"):
        knows("66", f"JobId=66 JobState=RUNNING RunTime=00:01:00 NodeList=n1 Command={script} WorkDir=/")
        (one,) = standings(["66"], tmp_path)
        assert (one.path, one.about, one.kind) == (None, "00:01:00 on n1", "running")


def test_a_job_of_a_template_leads_to_its_run_through_its_log(tmp_path: Path, knows) -> None:
    run, log = tmp_path / "runs" / "slurm 66", tmp_path / "slurm-66.txt"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "step.txt").write_text("20\n")
    begun = f"a module says hello\njob 66, restart 0, on n[1-2]: {run}\n0: step 10\n"
    log.write_text(f"{begun}job 66, restart 1, on n1: {run}\n1: error: no such clip\n")
    job = f"JobId=66 JobState=FAILED ExitCode=1:0 NodeList=n1 RunTime=00:01:00 StdOut={log} Power= "
    knows("66", f"{job} Command=/home/me/slurm/single_node.sbatch WorkDir=/")
    (one,) = standings(["66"], tmp_path)
    assert (one.path, one.said, one.progress) == (run, "error: no such clip", "step 20 of ?")
    log.write_text("of a program of somebody else's\n")
    assert standings(["66"], tmp_path)[0].path is None


@pytest.mark.parametrize(
    ("state", "kind"),
    [("PENDING", "waiting"), ("PREEMPTED", "waiting"), ("RUNNING", "running"), ("COMPLETING", "running")]
    + [("COMPLETED", "finished"), ("FAILED", "failed"), ("CANCELLED", "failed"), ("TIMEOUT", "failed")],
)
def test_states_of_slurm_are_of_four_kinds(tmp_path: Path, knows, state: str, kind: str) -> None:
    knows("7", f"JobId=7 JobState={state} NodeList=n1 RunTime=00:00:01")
    assert [one.kind for one in standings(["7"], tmp_path)] == [kind]


def test_status_can_be_asked_for_those_in_one_state(
    tmp_path: Path, knows, capsys: pytest.CaptureFixture[str]
) -> None:
    for k, state in enumerate(("PENDING", "FAILED", "COMPLETED")):
        submitted(tmp_path / "runs" / "smoke" / state, str(k + 1))
        knows(str(k + 1), f"JobId={k + 1} JobState={state} Reason=Priority NodeList=n1 RunTime=00:00:01")
    for kind, state in (("waiting", "PENDING"), ("failed", "FAILED"), ("finished", "COMPLETED")):
        assert sam2("status", "--runs", str(tmp_path / "runs"), "--state", kind) == 0
        said = capsys.readouterr().out
        assert [word for word in ("PENDING", "FAILED", "COMPLETED") if f" {word} " in said] == [state]
    assert sam2("status", "--runs", str(tmp_path / "runs"), "--state", "running") == 0
    assert "none of 3 is running" in capsys.readouterr().out


def test_what_cannot_be_cancelled_is_named_and_the_rest_is_cancelled(
    tmp_path: Path, knows, capsys: pytest.CaptureFixture[str]
) -> None:
    knows("7", "JobId=7 JobState=COMPLETED")
    knows("8", "JobId=8 JobState=RUNNING")
    heard = tmp_path / "heard"
    (tmp_path / "bin" / "scancel").write_text(f'#!/bin/bash\necho "$@" >> {heard}\n')
    (tmp_path / "bin" / "scancel").chmod(0o755)
    assert sam2("cancel", "99999", "7", "8") == 1
    said = capsys.readouterr()
    assert said.out == "job 8 is cancelled\n" and heard.read_text() == "8\n"
    assert "does not know job 99999" in said.err and "job 7 has ended already (COMPLETED)" in said.err


def test_a_finished_run_is_not_taken_up_again(tmp_path: Path, knows) -> None:
    run = submitted(tmp_path / "smoke" / "001-a", "7")
    (run / "run.json").write_text(json.dumps({"finished": {"step": 40}}))
    with pytest.raises(BatchError, match=r"001-a is finished"):
        take_up(str(run))  # which SLURM has forgotten
    knows("7", f"JobId=7 JobState=COMPLETED Command={run}/job/job.sbatch WorkDir=/")
    for name in (str(run), "7"):
        with pytest.raises(BatchError, match=r"is finished"):
            take_up(name)


def test_of_an_array_those_are_taken_up_that_are_not_finished(tmp_path: Path, knows) -> None:
    heard = tmp_path / "heard"
    scontrol = tmp_path / "bin" / "scontrol"
    asked = f'#!/bin/bash\n[ $1 = show ] || {{ echo "$@" >> {heard}; exit 0; }}\n'
    scontrol.write_text(scontrol.read_text().replace("#!/bin/bash\n", asked))
    states = {0: "COMPLETED", 1: "FAILED", 2: "TIMEOUT"}
    knows(
        "9", "\n".join(f"JobId={20 + k} ArrayJobId=9 ArrayTaskId={k} JobState={s}" for k, s in states.items())
    )
    assert take_up("9") == "job 9_1 is back in the queue\njob 9_2 is back in the queue"
    assert heard.read_text() == "requeue 9_1\nrequeue 9_2\n"


def test_members_of_an_array_are_told_with_their_own_directories(tmp_path: Path, knows) -> None:
    sweep = submitted(tmp_path / "smoke" / "sweeps" / "ab12cd", "9")
    runs = [submitted(tmp_path / "smoke" / f"00{k}", f"9_{k}") for k in (0, 1)]
    (sweep / "log").mkdir()
    (sweep / "log" / "slurm-9_1.txt").write_text("error: no such file\n")
    script = f"Command={sweep}/job/job.sbatch WorkDir=/"
    about = [
        f"JobState=COMPLETED ExitCode=0:0 {script}",
        f"JobState=FAILED ExitCode=3:0 NodeList=n1 {script}",
    ]
    knows("9", "\n".join(f"JobId={20 + k} ArrayJobId=9 ArrayTaskId={k} {about[k]}" for k in (0, 1)))
    knows("9_1", f"JobId=21 ArrayJobId=9 ArrayTaskId=1 {about[1]}")
    both = standings(["9"], tmp_path)
    assert [each.path for each in both] == runs and [each.word for each in both] == ["COMPLETED", "FAILED"]
    (one,) = standings([str(runs[1])], tmp_path)
    assert one.said == "error: no such file" and "exit code 3" in one.about


def test_what_is_neither_a_job_nor_a_directory_is_told(tmp_path: Path, knows) -> None:
    with pytest.raises(BatchError, match="neither the id of a job nor a directory"):
        standings([str(tmp_path)], tmp_path)
    with pytest.raises(BatchError, match=r"does not know job 5 .*status RUN_DIR"):
        standings(["5"], tmp_path)
