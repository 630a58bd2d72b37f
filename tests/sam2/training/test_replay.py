"""A step that went wrong is kept, and comes out the same when it is played again on one process."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from data.clip import DataError
from data.module import ClipDataModule
from sam2.cli.replay import replay_step
from sam2.training import run
from sam2.training.compose import compose, parse
from sam2.training.config import resolve
from sam2.training.errors import TrainingError
from sam2.training.evidence import Fault, Played
from sam2.training.replay import Wanted, replay
from sam2.training.rundir import RunDirectory, begin
from sam2.training.synthetic import SyntheticData, make, roots
from tests.sam2.training.poison import SPOILT

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few short videos to train on."""
    folder = tmp_path_factory.mktemp("videos")
    wanted = SyntheticData("demo", train=4, held_out=1, folder=folder)
    make(wanted, folder)
    return roots(wanted, folder)[0]


def words(runs: Path, shards: Path, *settings: str) -> list[str]:
    small = ["synthetic=null", f"data.root={shards}", f"runs={runs}", "launcher.threads=1", "run_id=first"]
    short = ["model.image_size=64", "evaluate={every_steps: null, at_start: false, at_end: false}"]
    return ["smoke", *small, *short, "trainer.max_steps=3", "checkpoint.every_steps=1", *settings]


def spoilt(name: str) -> str:
    return f"+callbacks.poison._target_=tests.sam2.training.poison.{name}"


def played(path: Path, **options: object) -> tuple[bool, str]:
    """Whether a step came out as in the run, and what was said."""
    said: list[str] = []
    return replay(Wanted(path, **options), said.append), "\n".join(said)  # type: ignore[arg-type]


def kept(directory: RunDirectory, step: int, rank: int = 0) -> Fault:
    return Fault.read(directory.bad / f"step-{step:06d}" / f"rank-{rank}.json")


@pytest.fixture(scope="module")
def healthy(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    runs = tmp_path_factory.mktemp("runs")
    assert run.main(words(runs, shards, "trainer.accumulate=2", "prompts.point_start=1")) == 0
    return RunDirectory(runs / "smoke" / "first")


def test_any_step_costs_what_it_cost_in_the_run_given_the_weights_before_it(healthy: RunDirectory) -> None:
    with healthy.metrics.open() as file:
        logged = {int(row["step"]): float(row["train/loss"]) for row in csv.DictReader(file)}
    is_same, said = played(healthy.path, step=3)
    assert is_same and "last-1.ckpt, after step 2: those of this very step" in said
    losses = [float(loss) for loss in re.findall(r"loss +(\S+)", said)]
    assert len(losses) == 2, "one for each micro-batch"
    assert sum(losses) == pytest.approx(logged[3], rel=1e-6), "each is divided by their number"
    assert re.search(r"gradient +norm \d", said)


def test_weights_of_another_step_are_said_to_be_so(healthy: RunDirectory) -> None:
    assert "what the run began with, after step 0: those of this very step" in played(healthy.path, step=1)[1]
    assert "after step 3: not those of this step" in played(healthy.path, step=9, backward=False)[1]


def test_a_run_in_which_nothing_went_wrong_has_no_step_of_its_own_to_play(
    healthy: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay_step(healthy.path, None, None, "auto", True, False) == 1
    assert "no step of this run went wrong; --step N plays any other" in capsys.readouterr().err
    with pytest.raises(TrainingError, match="ranks from 0 to 0; got 2 and 1"):
        replay(Wanted(healthy.path, step=2, rank=1), print)
    with pytest.raises(TrainingError, match="neither a run directory nor a step"):
        replay(Wanted(tmp_path), print)


def test_other_data_are_refused(healthy: RunDirectory, shards: Path, tmp_path: Path) -> None:
    other = SyntheticData("demo", seed=5, train=3, held_out=1, folder=tmp_path / "videos")
    make(other, tmp_path)
    settings = yaml.safe_load(healthy.config.read_text())
    settings["data"]["root"] = str(roots(other, tmp_path)[0])
    moved = RunDirectory(tmp_path / "run")
    moved.path.mkdir()
    moved.config.write_text(yaml.safe_dump(settings))
    moved.record.write_text(healthy.record.read_text())
    with pytest.raises(DataError, match=r"not those of step 2 of .*: index of data set 0 was \w+, is \w+"):
        replay(Wanted(moved.path, step=2), print)


@pytest.fixture(scope="module")
def not_a_number(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    runs = tmp_path_factory.mktemp("runs")
    assert (
        run.main(words(runs, shards, spoilt("NotANumber"), "trainer.max_bad_steps=9", "trainer.max_steps=6"))
        == 0
    )
    return RunDirectory(runs / "smoke" / "first")


def test_the_first_steps_without_finite_gradients_are_kept_with_their_weights(
    not_a_number: RunDirectory,
) -> None:
    assert sorted(path.name for path in not_a_number.bad.iterdir()) == [f"step-00000{k}" for k in (2, 3, 4)]
    content = torch.load(not_a_number.bad / "step-000002" / "weights.pt", weights_only=True)
    assert content["state_dict"][f"model.{SPOILT}"].isnan().sum() == 1
    assert content["global_step"] == 1
    log = not_a_number.log(0).read_text()
    assert f"`sam2 replay {not_a_number.bad / 'step-000002'}` plays it again" in log


def test_a_step_that_was_not_finite_is_not_finite_again_and_the_module_is_named(
    not_a_number: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = kept(not_a_number, 2)
    assert not fault.is_finite and not fault.is_exception and fault.micro_batches[0].number == 1
    assert replay_step(not_a_number.bad / "step-000002", None, None, "auto", True, False) == 0
    said = capsys.readouterr().out
    assert "what memory_encoder.out_proj (Conv2d) gives out, the first to go wrong" in said
    assert "loss     nan, nan in the run" in said and "not finite the gradients of" in said
    assert all(clip in said for clip in fault.micro_batches[0].clips)
    assert said.strip().splitlines()[-1].startswith("reproduced: ")


def test_autograd_names_the_operation_on_request(not_a_number: RunDirectory) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        is_same, said = played(not_a_number.path, step=2, anomaly=True)
    assert is_same and "returned nan values" in said
    assert any("Traceback of forward call" in str(warning.message) for warning in shown)


@pytest.fixture(scope="module")
def raised(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    runs = tmp_path_factory.mktemp("runs")
    with pytest.raises(ZeroDivisionError):
        run.main(words(runs, shards, spoilt("Raises")))
    return RunDirectory(runs / "smoke" / "first")


def test_the_step_of_an_exception_has_the_same_loss_bit_for_bit(raised: RunDirectory) -> None:
    fault = kept(raised, 2)
    assert fault.is_exception and fault.error == "ZeroDivisionError: a fault of one rank"
    assert f"`sam2 replay {raised.bad / 'step-000002'}` plays the step again" in raised.log(0).read_text()
    is_same, said = played(raised.path)
    loss = fault.micro_batches[0].loss
    assert f"loss     {loss!r}, {loss!r} in the run" in said
    assert not is_same and "the exception did not come again" in said.splitlines()[-1]


def test_a_step_that_comes_out_otherwise_is_said_to(raised: RunDirectory) -> None:
    path = raised.bad / "step-000002" / "weights.pt"
    content = torch.load(path, weights_only=True)
    before = path.read_bytes()
    content["state_dict"][f"model.{SPOILT}"] += 1e-3
    torch.save(content, path)
    try:
        is_same, said = played(raised.path)
        assert not is_same
        assert (
            said.splitlines()[-1]
            == "NOT reproduced: the loss of micro-batch 1 is another one than in the run"
        )
    finally:
        path.write_bytes(before)


def test_what_is_kept_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = (
        Played(4, ("a", "b"), (2**62, 7), 2.5, float("nan"), {"mask": float("inf"), "dice": 0.1}),
        Played(5, ("c",), (1,)),
    )
    fault = Fault(3, 1, 2, 0, "x", False, rows, "f00", "32-true", "cpu", 1, None)
    fault.write(tmp_path)
    text = (tmp_path / "rank-1.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    again = Fault.read(tmp_path / "rank-1.json")
    assert repr(again) == repr(fault)
    (tmp_path / "rank-1.json").write_text("{}")
    with pytest.raises(TrainingError, match="not what a run keeps"):
        Fault.read(tmp_path / "rank-1.json")


def in_two_processes(runs: Path, shards: Path, *settings: str, poison: str = "") -> RunDirectory:
    """A run of two processes, however it ends."""
    command = [sys.executable, "train.py", *words(runs, shards, *settings)]
    environment = {**os.environ, "POISON": poison, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    two = ["trainer.devices=2", "trainer.accelerator=cpu"]
    subprocess.run([*command, *two], env=environment, cwd=ROOT, timeout=300, capture_output=True)
    return RunDirectory(runs / "smoke" / "first")


@pytest.mark.slow
def test_the_exception_of_one_of_two_ranks_is_played_again_by_one_process(
    shards: Path, tmp_path: Path
) -> None:
    directory = in_two_processes(tmp_path, shards, spoilt("Raises"), poison="1:2")
    folder = directory.bad / "step-000003"
    assert sorted(path.name for path in folder.iterdir()) == ["rank-1.json", "weights.pt"], (
        "rank 0 met no fault"
    )
    fault = kept(directory, 3, rank=1)
    loss = fault.micro_batches[0].loss
    _, said = played(folder)
    assert "rank 1 of 2" in said and f"loss     {loss!r}, {loss!r} in the run" in said
    _, said = played(directory.path, step=3, rank=0)
    assert fault.micro_batches[0].clips[0] not in said, "another rank has other clips"


def as_if_begun(folder: Path, words: list[str], world: int) -> RunDirectory:
    """The directory of a run of `world` processes that has done nothing yet."""
    config = resolve(compose(parse(words)), "smoke")
    plan = ClipDataModule(config.data, config.image_size, config.seed).plan
    directory = RunDirectory(folder)
    data = {"fingerprint": plan.fingerprint(world), **plan.describe(world)}
    begin(directory, config, ["test"], {"data": data})
    return directory


@pytest.mark.slow
def test_the_rank_whose_loss_was_not_finite_is_found_and_played_again(shards: Path, tmp_path: Path) -> None:
    settings = ["prompts.point_start=1", "trainer.max_steps=1"]
    # so large that it alone decides which candidate is the best, and small enough for finite losses
    sound = as_if_begun(tmp_path / "sound", words(tmp_path, shards, *settings, "loss.dice=1e30"), world=2)
    losses = [
        float(re.findall(r"loss +(\S+)", played(sound.path, step=1, rank=rank, backward=False)[1])[0])
        for rank in (0, 1)
    ]
    # with this weight the loss of the dearer clip is beyond float32 and that of the other is not
    weight = 1e30 * torch.finfo(torch.float32).max / (losses[0] * losses[1]) ** 0.5
    directory = in_two_processes(tmp_path / "bad", shards, *settings, f"loss.dice={weight!r}")
    dearer = losses.index(max(losses))
    faults = [kept(directory, 1, rank) for rank in (0, 1)]
    assert [fault.is_finite for fault in faults] == [dearer == 1, dearer == 0]
    is_same, said = played(directory.path)
    assert is_same and f"rank {dearer} of 2" in said and "loss     inf, inf in the run" in said
    other = faults[1 - dearer].micro_batches[0].loss
    assert f"loss     {other!r}, {other!r} in the run" in played(directory.path, rank=1 - dearer)[1]
