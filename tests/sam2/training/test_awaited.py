"""`launcher.after` and what else is looked at before anything is submitted, with a pretended SLURM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam2.slurm.folder import JobFolder
from sam2.training.run import main
from tests.sam2.training.test_submission import SMOKE, slurm

__all__ = ["slurm"]  # the fixture

DRY = ("launcher.dry_run=true",)


def heard(slurm: Path) -> str:
    """The dependency that sbatch was told of; empty for none."""
    words = (slurm / "heard").read_text().split()
    return next((word.partition("=")[2] for word in words if word.startswith("--dependency=")), "")


@pytest.mark.parametrize("more", [(), DRY, ("-m", "seed=1,2"), ("-m", "seed=1,2", *DRY)])
@pytest.mark.parametrize(
    ("after", "says"),
    [
        ("999", "SLURM does not know job 999"),
        ("nope", "nope is neither the id of a job nor a directory"),
        ("5", "5 is FAILED"),
        ("gone", "gone is not finished, and SLURM does not know its job 888"),
        ("failed", "nothing would ever begin after job 5 of failed"),
    ],
)
def test_nothing_waits_for_what_will_never_end_well(
    slurm: Path, capsys: pytest.CaptureFixture[str], after: str, says: str, more: tuple[str, ...]
) -> None:
    (slurm / "jobs").write_text("5 FAILED\n")
    JobFolder(Path("gone")).note("888", ["train.py"])
    JobFolder(Path("failed")).note("5", ["train.py"])
    assert main([*SMOKE, *more, f"launcher.after={after}"]) == 2
    assert says in capsys.readouterr().err
    assert not Path("runs").exists() and not (slurm / "heard").exists()


def test_a_job_waits_for_one_that_goes_on_or_has_just_ended_well(slurm: Path) -> None:
    (slurm / "jobs").write_text("5 COMPLETED\n6 RUNNING\n")
    JobFolder(Path("goes on")).note("6", ["train.py"])
    for seed, (after, job) in enumerate((("5", "5"), ("6", "6"), ("'goes on'", "6"))):
        assert main([*SMOKE, f"seed={seed}", f"launcher.after={after}"]) == 0
        assert heard(slurm) == f"afterok:{job}"


def test_a_run_that_is_finished_is_not_waited_for(slurm: Path) -> None:
    """Though SLURM has forgotten its job, or it was never one."""
    JobFolder(Path("was a job")).note("888", ["train.py"])
    for seed, name in enumerate(("was a job", "never was")):
        Path(name).mkdir(exist_ok=True)
        (Path(name) / "run.json").write_text(json.dumps({"finished": {"step": 4}}))
        assert main([*SMOKE, f"seed={seed}", f"launcher.after='{name}'"]) == 0
        assert heard(slurm) == ""


def test_a_finished_run_that_is_continued_is_waited_for(slurm: Path) -> None:
    (slurm / "jobs").write_text("6 PENDING\n")
    JobFolder(Path("again")).note("6", ["train.py"])
    Path("again/run.json").write_text(json.dumps({"finished": {"step": 4}}))
    assert main([*SMOKE, "launcher.after=again"]) == 0
    assert heard(slurm) == "afterok:6"


def test_a_look_at_a_job_needs_no_slurm_though_it_is_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*SMOKE, *DRY, "launcher.after=999"]) == 0
    said = capsys.readouterr()
    assert "launcher.after=999 cannot be checked here" in said.err and said.out.startswith("#!/bin/bash\n")


def test_a_look_at_a_job_says_that_it_is_not_to_be_submitted(
    slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMOKE, *DRY]) == 0
    assert "submit with `sam2 slurm submit`" in capsys.readouterr().err


def test_what_is_not_seen_from_the_login_node_is_told_and_submitted(
    slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "seen").mkdir()
    one = ("finetune_video", *SMOKE[1:], f"data.val_root={tmp_path}/seen", "model.checkpoint=/no/weights.pt")
    for more in (("data.root=/no/shards",), ("-m", "data.root=/no/shards", "seed=1,2")):
        assert main([*one, *more]) == 0
        warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert warned == [
            f"warning: {key} {path} is not visible from here; every node has to see it"
            for key, path in (("data.root", "/no/shards"), ("model.checkpoint", "/no/weights.pt"))
        ]
    assert main([*SMOKE, "seed=7"]) == 0, "made videos are not there yet"
    assert main([*one, "data.root=s3://bucket/shards", "launcher.after=41", "seed=8"]) == 0
    assert "warning" not in capsys.readouterr().err, "addresses, and weights that another job is to make"


@pytest.mark.parametrize("made", ["log", "."])
def test_a_run_directory_that_was_there_survives_a_refusal(slurm: Path, made: str) -> None:
    run = Path("runs/smoke/mine")
    (run / made).mkdir(parents=True)
    (slurm / "sbatch").write_text("#!/bin/bash\necho no >&2; exit 1\n")
    assert main([*SMOKE, "run_id=mine"]) == 1
    assert (run / made).is_dir()


def test_a_run_directory_stays_when_slurm_may_have_taken_the_job(slurm: Path) -> None:
    timed_out = "Batch job submission failed: Socket timed out on send/recv operation"
    (slurm / "sbatch").write_text(f"#!/bin/bash\necho {timed_out!r} >&2; exit 1\n")
    assert main(SMOKE) == 1
    assert list(Path("runs/smoke").glob("001-*/job/job.sbatch"))


def test_a_sweep_counts_what_was_submitted_already(slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMOKE, "-m", "seed=1,2,3"]) == 0
    assert "sweep of 3 runs, 3 to do: " in capsys.readouterr().out
    assert main([*SMOKE, "-m", "seed=1,2,3"]) == 0
    assert "sweep of 3 runs, 0 to do, 3 submitted already: " in capsys.readouterr().out
