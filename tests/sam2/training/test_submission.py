"""`launcher=slurm` on a login node: a pretended SLURM, real settings. A real SLURM is in tests/slurm/test_launch.py."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from sam2.training.run import main

SMOKE = ("smoke", "launcher=slurm", "cluster=cpu", "trainer.accelerator=cpu", "trainer.devices=2")
# knows the jobs in the file `jobs`: an id and a state in a line
SCONTROL = """
line=$(grep "^${4%_*} " "$SLURM/jobs") || { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; }
echo "JobId=$4 JobState=${line#* } Reason=None Restarts=0 ExitCode=0:0"
"""
SBATCH = """
printf '%s\\n' "$@" > "$SLURM/heard"
echo "$(($(wc -l < "$SLURM/jobs") + 41)) PENDING" >> "$SLURM/jobs"
tail -n 1 "$SLURM/jobs" | cut -d ' ' -f 1
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pretended SLURM heard and knows; we are in another one."""
    folder, here = tmp_path / "slurm", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    (folder / "jobs").touch()
    for name, body in {"sbatch": SBATCH, "scontrol": SCONTROL}.items():
        (folder / name).write_text(f"#!/bin/bash{body}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM", str(folder))
    monkeypatch.chdir(here)
    return folder


def runs(name: str = "smoke") -> list[Path]:
    return sorted(path.parents[1] for path in (Path("runs") / name).glob("*/job/config.yaml"))


def end_jobs(slurm: Path, state: str) -> None:
    (slurm / "jobs").write_text((slurm / "jobs").read_text().replace("PENDING", state))


def test_a_run_is_submitted_from_a_directory_that_is_its_own(
    slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMOKE, "trainer.nodes=3", "data.batch=2", "trainer.accumulate=2"]) == 0
    (run,) = runs()
    said = capsys.readouterr().out
    assert (slurm / "heard").read_text().split() == [
        "--parsable",
        str(run.absolute() / "job" / "job.sbatch"),
    ]
    assert json.loads((run / "job" / "submitted.json").read_text())["job"] == "41"
    assert "job 41: smoke on 3 nodes x 2 CPU processes" in said
    assert "24 clips of 3 frames: 2 x 2 accumulated x 6 processes" in said
    assert str(run.absolute() / "checkpoints" / "last.ckpt") in said and "sam2 slurm cancel 41" in said
    assert (run / "log").is_dir(), "SLURM does not make it, and jobs whose log cannot be opened vanish"
    assert not (run / "run.json").exists(), "nothing has begun"


def test_the_settings_of_the_job_are_complete_and_begin_in_the_job(slurm: Path) -> None:
    (slurm / "jobs").write_text("7 RUNNING\n")
    assert main([*SMOKE, "launcher.after=7", "resume=auto"]) == 0
    settings = yaml.safe_load((runs()[0] / "job" / "config.yaml").read_text())
    assert settings["launcher"]["kind"] == "local" and settings["launcher"]["after"] is None
    assert (
        settings["trainer"]["devices"] == 2 and settings["run_dir"] is None and settings["resume"] == "auto"
    )
    assert "--dependency=afterok:7" in (slurm / "heard").read_text().split()


def test_the_same_command_finds_its_run_and_submits_it_once(
    slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(SMOKE) == 0
    assert main(SMOKE) == 2
    assert "has a job already: 41 is PENDING" in capsys.readouterr().err
    end_jobs(slurm, "FAILED")
    assert main([*SMOKE, "cluster.time=00:30:00"]) == 0, "the profile and the launcher are not the run's"
    assert len(runs()) == 1 and "job 42" in capsys.readouterr().out
    assert main([*SMOKE, "seed=1"]) == 0
    assert len(runs()) == 2


def test_a_submitted_run_is_not_taken_for_one_with_other_settings(
    slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMOKE, "run_id=mine"]) == 0
    assert main([*SMOKE, "run_id=mine", "seed=5"]) == 2
    assert "seed: 0 there, 5 now" in capsys.readouterr().err


def test_a_mistake_is_told_here_and_not_by_the_job(slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word, says in (
        ("optim.lrr=1", "unknown key 'optim.lrr'"),
        ("cluster.acount=x", "unknown key 'cluster.acount'; did you mean 'account'?"),
        ("cluster.sbatch=['--gpus-per-task=1']", "--gpus-per-task hides"),
        ("cluster.sbatch=['--ntasks 4']", "--ntasks alone lets"),
        ("cluster=mine", "there is no 'mine'"),
        ("launcher.dry_urn=true", "did you mean 'dry_run'?"),
    ):
        assert main([*(each for each in SMOKE if word[:8] != each[:8]), word]) == 2
        assert says in capsys.readouterr().err
    assert not runs() and not (slurm / "heard").exists()


def test_how_many_gpus_a_node_has_is_not_guessed_here(
    slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("smoke", "launcher=slurm", "trainer=ddp")
    assert main(words) == 2
    assert "trainer.devices is auto" in capsys.readouterr().err
    assert main([*words, "cluster=gpus", "launcher.dry_run=true"]) == 0
    assert "#SBATCH --gpus-per-node=8\n" in capsys.readouterr().out


def test_profiles_of_ones_own_lie_beside_the_recipe_or_in_the_home_folder(
    slurm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(slurm))
    for folder, partition in ((slurm / "sam2-train", "home"), (Path.cwd(), "beside")):
        (folder / "cluster").mkdir(parents=True)
        (folder / "cluster" / f"{partition}.yaml").write_text(f"partition: {partition}\ngpus_per_node: 2\n")
    Path("mine.yaml").write_text("defaults: [smoke, _self_]\n")
    words = ("mine.yaml", "launcher=slurm", "launcher.dry_run=true", "cluster.qos=night")
    for name in ("home", "beside"):
        assert main([*words, f"cluster={name}"]) == 0
        said = capsys.readouterr().out
        assert f"#SBATCH --partition={name}\n" in said and "#SBATCH --qos=night\n" in said


def test_a_dry_run_leaves_nothing(slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ((), ("-m", "seed=1,2")):
        assert main([*SMOKE, *more, "launcher.dry_run=true"]) == 0
        assert capsys.readouterr().out.startswith("#!/bin/bash\n")
    assert not Path("runs").exists() and not (slurm / "heard").exists()


def test_what_sbatch_refuses_is_told_and_the_next_try_is_the_same_run(
    slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = (slurm / "sbatch").read_text()
    (slurm / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: Invalid partition' >&2; exit 1\n")
    for more in ((), ("-m", "seed=1,2")):
        assert main([*SMOKE, *more]) == 1
        assert "error: sbatch refused: Invalid partition" in capsys.readouterr().err
        assert not Path("runs").exists(), "nothing is left of what was made for it"
    (slurm / "sbatch").write_text(taken)
    assert main(SMOKE) == 0 and len(runs()) == 1


def test_a_sweep_is_one_array_with_a_directory_for_each_member(
    slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMOKE, "-m", "seed=1,2,3", "launcher.parallel=2"]) == 0
    script = Path((slurm / "heard").read_text().split()[-1])
    assert "#SBATCH --array=0-2%2\n" in script.read_text()
    (listed,) = script.parent.glob("members-*.txt")
    members = [Path(text) for text in listed.read_text().splitlines()]
    assert members == [path.absolute() for path in runs()] and len(members) == 3
    seeds = [yaml.safe_load((path / "job" / "config.yaml").read_text())["seed"] for path in members]
    assert seeds == [1, 2, 3]
    jobs = [json.loads((path / "job" / "submitted.json").read_text())["job"] for path in members]
    assert jobs == ["41_0", "41_1", "41_2"]
    assert main([*SMOKE, "-m", "seed=1,2,3,4"]) == 0
    said = capsys.readouterr().out
    assert said.count("submitted already as job") == 3 and "job 42: 1 run of smoke" in said
    assert listed.read_text().splitlines() == [str(path) for path in members], (
        "requeued members still read it"
    )


def test_members_of_one_array_ask_for_the_same(slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMOKE, "-m", "trainer.nodes=1,2"]) == 2
    assert "ask SLURM for different things" in capsys.readouterr().err and not (slurm / "heard").exists()


def test_an_evaluation_is_divided_into_shares(slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "recipes/eval_shards.yaml",
        "checkpoint=runs/smoke/001",
        "dataset=shards:/data/val",
        "device=cpu",
    )
    assert main([*words, "launcher=slurm", "cluster=cpu", "launcher.shares=4", "launcher.parallel=2"]) == 0
    said = capsys.readouterr().out
    script = Path((slurm / "heard").read_text().split()[-1]).read_text()
    assert "#SBATCH --array=1-4%2\n" in script and 'share="$SLURM_ARRAY_TASK_ID/4"' in script
    (folder,) = (Path.cwd() / "runs" / "eval").iterdir()
    settings = yaml.safe_load((folder / "job" / "config.yaml").read_text())
    assert (
        settings["task"] == "evaluate" and settings["out"] == str(folder) and f"{folder}/results.json" in said
    )
    assert main([*words, "launcher=slurm", "share=1/2"]) == 2
    assert "launcher.shares=N" in capsys.readouterr().err


def test_an_evaluation_that_has_its_results_is_not_submitted_again(
    slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("images", "masks"):
        Path(name).mkdir()
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save("images/a.png")
    Image.fromarray(np.pad(np.ones((9, 9), np.uint8), 5)[:, :19]).save("masks/a.png")
    with Image.open("images/a.png") as image:
        image.crop((0, 0, 19, 19)).save("images/a.png")
    model = ("checkpoint=random", "model=test", "image_size=32", "data=masks", "images=images", "out=out")
    words = ("eval_image", *model, "clicks=5", "resamples=100", "device=cpu")
    assert main(words) == 0
    results = Path("out/results.json").absolute()
    capsys.readouterr()
    submit = ("launcher=slurm", "cluster=cpu", "launcher.shares=2")
    assert main([*words, *submit]) == 0
    assert capsys.readouterr().out == f"done already: {results}\n" and not (slurm / "heard").exists()
    running = "4711 RUNNING\n"  # makes weights that nobody has seen yet
    for more, jobs in (
        (("clicks=6",), ""),
        (("resamples=101",), ""),
        (("overwrite=true",), ""),
        (("launcher.after=4711",), running),
    ):
        (slurm / "jobs").write_text(jobs)
        assert main([*words, *submit, *more]) == 0
        assert "results         " in capsys.readouterr().out and (slurm / "heard").exists(), more
        (slurm / "heard").unlink()
    (slurm / "jobs").write_text("")
    Image.fromarray(np.ones((19, 19), np.uint8)).save("masks/b.png")
    Image.fromarray(np.zeros((19, 19, 3), np.uint8)).save("images/b.png")
    assert main([*words, *submit]) == 0 and (slurm / "heard").exists(), "there is another image"


def test_a_container_sees_what_the_job_reads(slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = ("launcher=slurm", "launcher.dry_run=true", "cluster=pyxis", "cluster.container.mounts=[]")
    weights = slurm / "tiny.pt"
    weights.touch()
    training = ("data.root=/my/shards", "data.val_root=s3://b/val", f"model.checkpoint={weights}")
    evaluation = ("recipes/eval_shards.yaml", f"checkpoint={weights}", "dataset=shards:/my/val")
    here = Path.cwd()
    for words, folders in (
        (("finetune_video", *training), ("/my/shards", str(slurm), str(here / "runs"), str(here))),
        (evaluation, ("/my/val", str(slurm), str(here))),
    ):
        assert main([*words, *box]) == 0
        seen = ",".join(f"{folder}:{folder}" for folder in ('"$code"', '"$run_dir"', *folders))
        assert f" --container-mounts={seen} " in capsys.readouterr().out


def test_the_port_that_the_job_chose_wins_over_lightnings_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is made of the job's id, so that jobs on one node can have the same."""
    from lightning.fabric.plugins.environments import SLURMEnvironment

    monkeypatch.setenv("SLURM_JOB_ID", "123")
    monkeypatch.setenv("MASTER_PORT", "23456")
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    there = SLURMEnvironment(auto_requeue=False)
    assert (there.main_address, there.main_port) == ("10.0.0.1", 23456)


def test_what_belongs_to_slurm_is_refused_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke", "launcher.dry_run=true"]) == 2
    assert "launcher.dry_run belongs to launcher=slurm" in capsys.readouterr().err
