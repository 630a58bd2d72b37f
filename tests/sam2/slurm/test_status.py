"""What is told of runs that were submitted, with a pretended scontrol."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sam2.slurm.errors import BatchError
from sam2.slurm.folder import JobFolder
from sam2.slurm.status import standings


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
