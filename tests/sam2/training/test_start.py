"""What a start of the main job says and writes, and what it leaves alone when something refuses it."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb

from sam2.evaluation.report import read_results
from sam2.training import outcome, run
from sam2.training.exit_codes import INTERRUPTED, UNEXPECTED
from sam2.training.held_out import score_video
from sam2.training.metrics import MetricsFile
from sam2.training.rundir import RunDirectory
from sam2.training.synthetic import SyntheticData, make, roots

STEPS = 2
MORE = f"trainer.max_steps={STEPS + 1}"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few short videos to train on."""
    folder = tmp_path_factory.mktemp("videos")
    wanted = SyntheticData("demo", train=3, held_out=1, folder=folder)
    make(wanted, folder)
    return roots(wanted, folder)[0]


def words(runs: Path, shards: Path, *settings: str) -> list[str]:
    small = [
        "synthetic=null",
        f"data.root={shards}",
        f"runs={runs}",
        "launcher.threads=1",
        "model.image_size=64",
    ]
    rare = ["evaluate.every_steps=null", "evaluate.at_start=false", f"trainer.max_steps={STEPS}"]
    return ["smoke", *small, *rare, *settings]


@pytest.fixture
def finished(shards: Path, tmp_path: Path) -> RunDirectory:
    assert run.main(words(tmp_path, shards, "run_id=first")) == 0
    return RunDirectory(tmp_path / "smoke" / "first")


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a run directory but its logs and who is in it."""
    kept = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".txt")
    who = (".lock", ".incarnation.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept if path.name not in who}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.batch=2"], "the checkpoint was made with other data: global batch of data set 0 was 1, is 2"),
        (["model.name=demo"], "the checkpoint to continue from is of another model"),
        (["model.freeze=[nothing]"], "no module or parameter is called 'nothing'"),
        (["data.root=/nowhere"], "/nowhere"),
    ],
    ids=["data", "model", "freeze", "root"],
)
def test_a_refused_start_leaves_a_finished_run_as_it_was(
    finished: RunDirectory,
    shards: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    message: str,
) -> None:
    before = files(finished.path)
    capsys.readouterr()
    forced = words(finished.path.parents[1], shards, "run_id=first", "resume=force", *settings, MORE)
    assert run.main(forced) in (1, 2)
    assert message in capsys.readouterr().err
    assert files(finished.path) == before
    assert finished.is_finished


def test_a_forced_start_uses_its_own_rates_and_keeps_the_moments(
    finished: RunDirectory, shards: Path
) -> None:
    before = torch.load(finished.checkpoints / "last.ckpt", weights_only=True)["optimizer_states"][0]
    settings = ["optim.lr=0", "optim.weight_decay=0.3", MORE]
    forced = words(finished.path.parents[1], shards, "run_id=first", "resume=force", *settings)
    weights = [torch.load(finished.checkpoints / "last.ckpt", weights_only=True)["state_dict"]]
    assert run.main(forced) == 0
    content = torch.load(finished.checkpoints / "last.ckpt", weights_only=True)
    groups = content["optimizer_states"][0]["param_groups"]
    assert {group["lr"] for group in groups} == {0.0}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.3}
    assert content["global_step"] == STEPS + 1
    weights.append(content["state_dict"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    after = content["optimizer_states"][0]
    assert max(_steps(before)) == STEPS and max(_steps(after)) == STEPS + 1
    assert json.loads(finished.record.read_text())["finished"]["step"] == STEPS + 1


def _steps(state: dict[str, Any]) -> set[float]:
    return {float(moments["step"]) for moments in state["state"].values()}


@pytest.mark.parametrize("settings", [[], ["optim.lr=1"], [f"trainer.max_steps={STEPS - 1}"]])
def test_a_finished_run_is_not_forced_to_do_nothing(
    finished: RunDirectory, shards: Path, capsys: pytest.CaptureFixture[str], settings: list[str]
) -> None:
    before = files(finished.path)
    assert run.main(words(finished.path.parents[1], shards, "run_id=first", "resume=force", *settings)) == 2
    assert f"is finished at step {STEPS}" in capsys.readouterr().err
    assert files(finished.path) == before


def test_bfloat16_trains_with_clipped_gradients(tmp_path: Path, shards: Path) -> None:
    assert (
        run.main(words(tmp_path, shards, "run_id=half", "trainer.precision=bf16-mixed", "trainer.clip=0.1"))
        == 0
    )
    weights = torch.load(tmp_path / "smoke" / "half" / "export" / "model.pt", weights_only=True)["model"]
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_run_without_videos_to_evaluate_on_says_so(
    tmp_path: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(words(tmp_path, shards)) == 0
    assert "data.val_root is not set: no J&F will be measured" in capsys.readouterr().out


def test_a_start_that_a_mistake_stops_leaves_no_directory(tmp_path: Path, shards: Path) -> None:
    assert run.main(words(tmp_path, shards, "data.root=/nowhere", "run_id=first")) == 1
    assert run.main(words(tmp_path, shards, "model.freeze=[nothing]", "run_id=second")) == 2
    assert list((tmp_path / "smoke").iterdir()) == []


def test_a_run_says_where_it_is_and_from_which_step_it_goes_on(
    tmp_path: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = RunDirectory(tmp_path / "smoke" / "first")
    assert run.main(words(tmp_path, shards, "run_id=first")) == 0
    said, kept = capsys.readouterr().out, directory.log(0).read_text()
    for line in (
        f"run {directory.path} on the CPU",
        f'build_sam2("{directory.config}", "{directory.exported}")',
    ):
        assert line in said and line in kept
    longer = words(tmp_path, shards, "run_id=first", "resume=force", MORE)
    assert run.main(longer) == 0
    assert f"continuing from step {STEPS} of {STEPS + 1}" in capsys.readouterr().out


def test_a_rank_that_arrives_late_takes_what_rank_0_writes_for_no_other_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, value)
    arrived: list[Path] = []
    monkeypatch.setattr(run, "execute", lambda config, directory, command: arrived.append(directory.path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text("step\n")
    words = [
        "synthetic=null",
        f"data.root={tmp_path}",
        "evaluate={every_steps: null, at_start: false, at_end: false}",
    ]
    assert run.main(["smoke", *words, "trainer.devices=2", f"run_dir={tmp_path / 'run'}"]) == 0
    assert arrived == [tmp_path / "run"]


@pytest.mark.parametrize("videos_before", [0, 1], ids=["at the start", "at the end"])
def test_asked_to_end_while_it_scores_videos_it_leaves_and_scores_them_later(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, videos_before: int
) -> None:
    """One video is scored before the first step, the same one after the last."""
    settings = [
        f"data.val_root={next(p for p in shards.parent.iterdir() if p != shards)}",
        "evaluate.at_start=true",
        "evaluate.overlay=false",
    ]
    command, scored = words(tmp_path, shards, "run_id=first", *settings), []

    def score(*given: Any) -> Any:
        scored.append(len(scored))
        if scored[-1] == videos_before:
            os.kill(os.getpid(), signal.SIGUSR1)
        return score_video(*given)

    monkeypatch.setattr(outcome, "score_video", score)
    directory = RunDirectory(tmp_path / "smoke" / "first")
    assert run.main(command) == INTERRUPTED
    assert not directory.is_finished and (directory.checkpoints / "last.ckpt").is_file() == bool(
        videos_before
    )
    assert run.main(command) == 0
    assert [result.name for result in read_results(directory.results).results if not result.is_baseline] == [
        "untrained",
        "trained",
    ]


@pytest.mark.parametrize("logger", ["csv", "tensorboard", "wandb"])
def test_stopped_before_the_run_began_the_same_command_begins_it(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logger: str
) -> None:
    """By a signal that came while packages and weights were loaded; loggers have made their files by then."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    command, build = words(tmp_path, shards, f"logger={logger}"), outcome.build_job

    def slow_build(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGUSR1)
        return build(*given)

    monkeypatch.setattr(outcome, "build_job", slow_build)
    assert run.main(command) == INTERRUPTED
    wandb.finish()  # as the end of a process does
    monkeypatch.setattr(outcome, "build_job", build)
    assert run.main(command) == 0
    wandb.finish()
    (directory,) = (tmp_path / "smoke").iterdir()
    assert RunDirectory(directory).is_finished


def test_a_full_disk_is_named_without_a_traceback(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.csv")

    monkeypatch.setattr(MetricsFile, "write", full)
    assert run.main(words(tmp_path, shards, "run_id=first")) == 1
    assert (
        "No space left on device: 'metrics.csv'. When there is room, the same command"
        in capsys.readouterr().err
    )


def test_what_deserves_a_traceback_has_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(config: Any, command: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(run, "start", broken)
    assert run.as_program(["smoke"]) == UNEXPECTED
    assert "ZeroDivisionError: a fault of ours" in capsys.readouterr().err
