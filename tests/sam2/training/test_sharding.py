"""trainer=fsdp: weights shared out among two processes, the same steps and the same files as trainer=ddp."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data.prompts import PromptPlan
from sam2.build_sam import build_sam2
from sam2.training.compose import compose, parse
from sam2.training.config import RunConfig, resolve
from sam2.training.rundir import RunDirectory
from sam2.training.synthetic import make
from tests.sam2.training.ranks import Ranks
from tests.sam2.training.steps import Done, Poisoned, Work, do, rows, run

pytestmark = pytest.mark.slow

CLICKED = PromptPlan(4, False, (0,), corrected=frozenset({0, 2}), clicks=2)
GIVEN = PromptPlan(3, True, (0,))
IMAGE = PromptPlan(1, False, (0,), boxes=frozenset({0}), corrected=frozenset({0}), clicks=1)
TIMED = {"clips_per_s", "waiting_for_data", "memory_gb"}
STEPS = 4


@pytest.fixture(scope="module")
def pair() -> Iterator[Ranks]:
    ranks = Ranks(2).start()
    yield ranks
    ranks.stop()


@pytest.fixture(scope="module")
def alone() -> Iterator[Ranks]:
    ranks = Ranks(1).start()
    yield ranks
    ranks.stop()


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """How far two sets of tensors are apart, as a share of the second's length."""
    assert one.keys() == other.keys()
    difference = torch.stack([(one[name] - other[name]).float().norm() for name in one]).norm()
    return float(difference / torch.stack([value.float().norm() for value in other.values()]).norm())


def steps(pair: Ranks, strategy: str, *plans: PromptPlan, **more: Any) -> list[Done]:
    settings = {f"{group}.{name}": value for group, values in more.items() for name, value in values.items()}
    work = Work(tuple((plan,) for plan in plans), settings={"trainer.strategy": strategy, **settings})
    return pair(do, work)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"model": {"recompute": "light"}},
        {"model": {"recompute": "full"}},
        {"model": {"freeze": ["image_encoder.trunk"]}},
        {"trainer": {"clip": 0.0}},
        {"trainer": {"accumulate": 3}},
    ],
    ids=["plain", "recompute-light", "recompute-full", "frozen-trunk", "unclipped", "accumulate"],
)
def test_steps_of_every_kind_are_those_of_averaging(pair, more):
    """Gradients, losses, gradient norm, clipping, and what the optimiser remembers and leaves alone."""
    plans = (CLICKED, GIVEN, IMAGE)
    sharded, averaged = (steps(pair, strategy, *plans, **more) for strategy in ("fsdp", "ddp"))
    assert sharded[0].losses == pytest.approx(averaged[0].losses, rel=1e-5)
    assert sharded[1].losses == pytest.approx(averaged[1].losses, rel=1e-5)
    for name, value in averaged[0].row.items():
        if name not in TIMED:
            assert sharded[0].row[name] == pytest.approx(value, rel=1e-4), name
    assert sharded[0].moments.keys() == averaged[0].moments.keys()
    for name, state in averaged[0].moments.items():
        assert sharded[0].moments[name]["step"] == state["step"], name
    averages = (
        {n: state["exp_avg"] for n, state in done.moments.items()} for done in (sharded[0], averaged[0])
    )
    assert distance(*averages) < 1e-4
    assert all(torch.equal(sharded[0].weights[n], sharded[1].weights[n]) for n in sharded[0].weights)


@pytest.mark.parametrize("plan", [CLICKED, GIVEN, IMAGE], ids=["clicks", "mask", "image"])
def test_the_first_gradient_is_that_of_averaging(pair, plan):
    sharded, averaged = (steps(pair, strategy, plan) for strategy in ("fsdp", "ddp"))
    assert distance(sharded[0].gradients, averaged[0].gradients) < 1e-6


def test_one_process_alone_may_shard_too(alone):
    work = [Work(((CLICKED,),), settings={"trainer.strategy": strategy}) for strategy in ("fsdp", "auto")]
    sharded, plain = (alone(do, each)[0] for each in work)
    assert distance(sharded.gradients, plain.gradients) < 1e-6


def test_every_process_keeps_half_of_what_the_optimiser_remembers(pair):
    sharded, averaged = (steps(pair, strategy, CLICKED) for strategy in ("fsdp", "ddp"))
    assert averaged[0].kept == averaged[1].kept
    for done in sharded:
        assert done.kept == pytest.approx(averaged[0].kept / 2, rel=0.05)


def test_compressed_gradients_are_near_and_not_equal(pair):
    exact, rounded = (steps(pair, "fsdp", CLICKED, trainer={"compress": how}) for how in ("none", "bf16"))
    assert 1e-4 < distance(rounded[0].gradients, exact[0].gradients) < 2**-8


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_step_that_is_no_number_on_one_rank_is_left_out_on_both(pair, strategy):
    settings = {"trainer.strategy": strategy}
    before = pair(do, Work(((CLICKED,),), settings={**settings, "optim.lr": 0.0, "optim.weight_decay": 0.0}))
    after = pair(do, Work(((CLICKED,),), settings=settings), Poisoned)
    assert after[0].row["skipped_steps"] == 1
    for rank in (0, 1):
        assert not after[rank].moments
        assert all(torch.equal(after[rank].weights[n], before[0].weights[n]) for n in before[0].weights)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    config = configured(folder)
    assert config.synthetic is not None
    make(config.synthetic, config.runs)
    return folder


def configured(runs: Path, *overrides: str) -> RunConfig:
    """A run of the recipe `smoke` on two processes."""
    words = [f"runs={runs}", f"trainer.max_steps={STEPS}", "trainer.devices=2", "launcher.threads=1"]
    words += ["evaluate.baselines=false", "evaluate.overlay=false"]
    return resolve(compose(parse(["smoke", *words, *overrides])), "smoke")


def went(ranks: Ranks, runs: Path, name: str, *overrides: str) -> RunDirectory:
    """A run up to where it stops."""
    path = runs / name
    config = configured(runs, *overrides)
    is_stopped = any("stop" in word for word in overrides)
    assert ranks(run, config, path) == [not is_stopped] * (2 if config.trainer.devices == 2 else 1)
    return RunDirectory(path)


def content(directory: RunDirectory, name: str = "last.ckpt") -> dict[str, Any]:
    found: dict[str, Any] = torch.load(directory.checkpoints / name, weights_only=True)
    return found


def stop(after: int) -> tuple[str, str]:
    place = "+callbacks.stop"
    return f"{place}._target_=tests.sam2.training.steps.Stop", f"{place}.step={after}"


@pytest.fixture(scope="module")
def undisturbed(pair: Ranks, runs: Path) -> dict[str, RunDirectory]:
    return {name: went(pair, runs, name, f"trainer.strategy={name}") for name in ("ddp", "fsdp")}


def assert_near(one: RunDirectory, other: RunDirectory) -> None:
    """Two runs of the same steps, but for rounding, which AdamW's first steps enlarge where gradients are noise."""
    mine, theirs = rows(one), rows(other)
    assert [row["step"] for row in mine] == [row["step"] for row in theirs] == [1, 2, 3, 4]
    for a, b in zip(mine, theirs, strict=True):
        assert a.keys() == b.keys()
        assert all(a[k] == pytest.approx(b[k], rel=2e-3, abs=1e-6) for k in a if k not in TIMED)
    assert distance(content(one)["state_dict"], content(other)["state_dict"]) < 1e-3


def test_a_whole_run_evaluates_saves_and_exports_as_one_that_averages(undisturbed):
    sharded, averaged = undisturbed["fsdp"], undisturbed["ddp"]
    assert_near(sharded, averaged)
    assert {"val/J&F", "grad_norm"} <= rows(sharded)[-1].keys()
    assert sharded.results.is_file() and sharded.report.is_file() and sharded.is_finished


def test_the_exported_model_is_whole_and_is_what_training_ended_with(undisturbed):
    run = undisturbed["fsdp"]
    model = build_sam2("test", run.exported, device="cpu")
    trained = content(run)["state_dict"]
    assert all(torch.equal(trained[f"model.{name}"], value) for name, value in model.state_dict().items())


def test_a_checkpoint_is_one_ordinary_file_with_what_others_have(undisturbed):
    for name in ("last.ckpt", "best.ckpt"):
        mine, theirs = (content(undisturbed[kind], name) for kind in ("fsdp", "ddp"))
        assert mine.keys() == theirs.keys()
        shapes = [{k: (type(v), v.shape) for k, v in found["state_dict"].items()} for found in (mine, theirs)]
        assert shapes[0] == shapes[1]
    (mine,), (theirs,) = (content(undisturbed[kind])["optimizer_states"] for kind in ("fsdp", "ddp"))
    assert mine["param_groups"] == theirs["param_groups"]
    assert mine["state"].keys() == theirs["state"].keys()
    for number, state in theirs["state"].items():
        assert {k: v.shape for k, v in state.items()} == {
            k: v.shape for k, v in mine["state"][number].items()
        }


def test_a_run_that_was_stopped_goes_on_bit_for_bit(pair, runs, undisturbed):
    went(pair, runs, "resumed", "trainer.strategy=fsdp", *stop(3))
    again = went(pair, runs, "resumed", "trainer.strategy=fsdp")
    mine, theirs = content(again), content(undisturbed["fsdp"])
    assert all(torch.equal(mine["state_dict"][k], v) for k, v in theirs["state_dict"].items())
    clean = [
        [{k: v for k, v in row.items() if k not in TIMED} for row in rows(d)]
        for d in (again, undisturbed["fsdp"])
    ]
    assert clean[0] == clean[1]


@pytest.mark.parametrize(("first", "second"), [("fsdp", "ddp"), ("ddp", "fsdp")])
def test_a_run_goes_on_under_the_other_strategy(pair, runs, undisturbed, first, second):
    name = f"{first}-then-{second}"
    went(pair, runs, name, f"trainer.strategy={first}", *stop(3))
    again = went(pair, runs, name, f"trainer.strategy={second}")
    assert_near(again, undisturbed["ddp"])


def test_one_process_goes_on_from_a_sharded_run(pair, alone, runs):
    went(pair, runs, "alone", "trainer.strategy=fsdp", *stop(3))
    one = ("trainer.devices=1", "data.batch=2", "data.resume=elastic")
    again = went(alone, runs, "alone", *one)
    assert [row["step"] for row in rows(again)] == [1, 2, 3, 4]
    (state,) = content(again)["optimizer_states"]
    assert {int(moments["step"]) for moments in state["state"].values()} >= {4}


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_processes_may_have_unequal_numbers_of_held_out_videos(
    pair: Ranks, tmp_path: Path, name: str
) -> None:
    """One video for two processes: whoever has none must not be waited for."""
    config = configured(tmp_path, f"trainer.strategy={name}", "synthetic.held_out=1", "trainer.max_steps=2")
    assert config.synthetic is not None
    make(config.synthetic, config.runs)
    assert pair(run, config, tmp_path / "run") == [True, True]
    found = json.loads((tmp_path / "run" / "eval" / "results.json").read_text())["results"]
    assert [(row["name"], [*row["sequences"]]) for row in found] == [
        ("untrained", ["val_000000"]),
        ("trained", ["val_000000"]),
    ]
