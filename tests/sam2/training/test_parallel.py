"""Two processes do what one does: the same gradients, metrics, steps and weights, whatever the prompts leave unused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.prompts import PromptPlan
from sam2.training.compose import compose, parse
from sam2.training.config import resolve
from sam2.training.synthetic import make
from tests.sam2.training.ranks import Ranks
from tests.sam2.training.steps import Done, OneAfterTheOther, Work, counting, do, run, travelling

pytestmark = pytest.mark.slow

# float32: what two ways to add the same numbers may differ by, as a share of the length of the whole gradient. Single
# tensors may differ by more: the gradient of a key's bias, for one, is exactly 0 and consists of rounding alone.
ROUNDING = 1e-6

CLICKED = PromptPlan(2, False, (0,), corrected=frozenset({0}), clicks=2)
BOXED = PromptPlan(2, False, (0, 1), boxes=frozenset({0, 1}))
IMAGE = PromptPlan(1, False, (0,), boxes=frozenset({0}), corrected=frozenset({0}), clicks=2)
GIVEN = PromptPlan(2, True, (0,))
# every kind of step, and how many trainable tensors it leaves without gradient
KINDS = {
    "points, 8 frames": (PromptPlan(8, False, (0,), corrected=frozenset({0, 3}), clicks=2), 2),
    "points, 2 frames": (CLICKED, 2),
    "masks, 8 frames": (PromptPlan(8, True, (0, 5)), 1),
    "masks, 2 frames": (GIVEN, 1),
    "an image": (IMAGE, 81),
    "boxes on both of 2 frames": (BOXED, 91),
}


@pytest.fixture(scope="module")
def alone() -> Iterator[Ranks]:
    ranks = Ranks(1).start()
    yield ranks
    ranks.stop()


@pytest.fixture(scope="module")
def pair() -> Iterator[Ranks]:
    ranks = Ranks(2).start()
    yield ranks
    ranks.stop()


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """How far two gradients are apart, as a share of the second's length."""
    assert one.keys() == other.keys()
    difference = torch.stack([(one[name] - other[name]).norm() for name in one]).norm()
    return float(difference / torch.stack([value.norm() for value in other.values()]).norm())


def assert_ranks_agree(ranks: list[Done]) -> None:
    for one, other in pairwise(ranks):
        for name in ("gradients", "weights"):
            mine, theirs = getattr(one, name), getattr(other, name)
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[key], theirs[key]) for key in mine), name


def assert_same_memory(one: Done, other: Done) -> None:
    """The optimiser remembers the same of the same parameters."""
    assert one.moments.keys() == other.moments.keys()
    for key in ("exp_avg", "exp_avg_sq"):
        mine, theirs = ({name: state[key] for name, state in done.moments.items()} for done in (one, other))
        assert distance(mine, theirs) < 10 * ROUNDING, (
            key
        )  # squares, of gradients that were clipped by their own length
    assert all(one.moments[name]["step"] == state["step"] for name, state in other.moments.items())


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_with_three_objects_and_one_give_the_gradient_of_one_process(alone, pair, kind):
    plan, unused = KINDS[kind]
    work = Work(((plan,),), objects=(3, 1))
    ranks, (single,) = pair(do, work), alone(do, work)
    assert_ranks_agree(ranks)
    assert distance(ranks[0].gradients, single.gradients) < ROUNDING
    assert len(single.gradients) == len(single.weights) - 1 - unused  # one is frozen always
    assert_same_memory(ranks[0], single)


@pytest.mark.parametrize("other", [BOXED, GIVEN], ids=["boxes", "masks"])
def test_a_parameter_that_only_one_rank_uses_gets_the_gradient_of_one_process(alone, pair, other):
    """Clicks on rank 0; what rank 1 does leaves the memory unused, or uses what rank 0 does not."""
    work = Work(((CLICKED, other),), objects=(2, 3))
    ranks, (single,) = pair(do, work), alone(do, work, OneAfterTheOther)
    assert_ranks_agree(ranks)
    assert distance(ranks[0].gradients, single.gradients) < ROUNDING
    assert_same_memory(ranks[0], single)


def test_a_parameter_that_no_rank_uses_in_a_step_is_not_touched_by_the_optimiser(alone, pair):
    """Neither weight decay nor fading moments: the second step is an image, which has no memory."""
    settings = {"optim.weight_decay": 0.5}
    before = Work(((CLICKED,),), settings=settings)
    both = Work(((CLICKED,), (IMAGE,)), settings=settings)
    first, ranks, (single,) = pair(do, before)[0], pair(do, both), alone(do, both)
    assert_same_memory(ranks[0], single)
    resting = first.gradients.keys() - ranks[0].gradients.keys()
    assert len(resting) == 81 - 2
    for name in resting:
        assert torch.equal(ranks[0].weights[name], first.weights[name]), name
        assert ranks[0].moments[name]["step"] == 1
    moving = next(name for name in ranks[0].gradients if name.endswith("neck.convs.0.conv.weight"))
    assert not torch.equal(ranks[0].weights[moving], first.weights[moving])


def test_logged_losses_are_those_of_one_process_with_all_objects(alone, pair):
    work = Work(((CLICKED,),), objects=(5, 1))
    ranks, (single,) = pair(do, work), alone(do, work)
    terms = [name for name in single.row if name.startswith("train/")]
    assert len(terms) == 5
    for name in terms:
        assert ranks[0].row[name] == pytest.approx(single.row[name], rel=1e-5), name
    # the plain mean of what the ranks would log by themselves is another number
    shares = [alone(do, Work(((CLICKED,),), objects=(count,)))[0].row["train/loss"] for count in (5, 1)]
    assert abs(sum(shares) / 2 / single.row["train/loss"] - 1) > 1e-3


def test_clips_and_bad_samples_are_summed_over_the_ranks_waiting_is_their_mean_memory_the_fullest(pair):
    row = pair(counting, Work(((IMAGE,),)))[0]
    expected = {"clips_per_s": 3.0, "bad_samples": 3.0, "waiting_for_data": 0.375, "memory_gb": 2.0}
    assert {name: row[name] for name in expected} == expected


def test_a_step_is_the_mean_of_its_micro_batches_however_many_objects_they_have(alone, pair):
    """Within a micro-batch objects weigh the same, whichever process has them; between micro-batches they do not."""
    step, objects = ((CLICKED,), (IMAGE,)), (3, 1)
    parts = [
        alone(do, Work((step[0],), objects))[0].gradients,
        alone(do, Work((step[1],), objects, first=2))[0].gradients,
    ]
    expected = {name: torch.zeros_like(value) for part in parts for name, value in part.items()}
    for part in parts:
        for name, value in part.items():
            expected[name] += value / 2
    accumulated = Work(step, objects, {"trainer.accumulate": 2})
    ranks, (single,) = pair(do, accumulated), alone(do, accumulated)
    assert_ranks_agree(ranks)
    assert distance(single.gradients, expected) < ROUNDING
    assert distance(ranks[0].gradients, expected) < ROUNDING


def test_two_micro_batches_of_one_process_are_one_of_two_processes_if_they_have_as_many_objects(alone, pair):
    accumulated = Work(((BOXED,), (BOXED,)), (2,), {"trainer.accumulate": 2})
    ranks, (single,) = pair(do, Work(((BOXED,),), (2, 2))), alone(do, accumulated)
    assert distance(ranks[0].gradients, single.gradients) < ROUNDING


def test_gradients_travel_once_a_step_and_not_once_a_micro_batch(pair):
    settings = {"trainer.compress": "bf16"}
    once = pair(travelling, Work(((CLICKED,),), settings=settings))
    thrice = pair(travelling, Work(((CLICKED,),) * 3, settings={**settings, "trainer.accumulate": 3}))
    sizes = [[bucket.own.numel() for bucket in seen] for _, seen in (*once, *thrice)]
    assert all(size == sizes[0] for size in sizes) and sizes[0]
    assert thrice[0][0].losses != once[0][0].losses


def test_compressed_gradients_are_within_the_rounding_of_bfloat16_and_equal_on_all_ranks(pair):
    work = Work(((CLICKED,),), settings={"trainer.compress": "bf16"})
    exact, results = pair(do, Work(((CLICKED,),))), pair(travelling, work)
    assert_ranks_agree([done for done, _ in results])
    for mine, theirs in zip(*(seen for _, seen in results), strict=True):
        assert torch.equal(mine.mean, theirs.mean)
        # 8 bits, rounded to nearest: each share once, their sum once more; halving is exact
        bound = 2**-8 * (mine.own.abs() + theirs.own.abs()) / 2 * (2 + 2**-8)
        error = (mine.mean - (mine.own + theirs.own) / 2).abs()
        assert (error <= bound + 1e-38).all()
    assert 1e-4 < distance(results[0][0].gradients, exact[0].gradients) < 2**-8


@pytest.mark.parametrize("settings", [{"trainer.bucket_view": False}, {"model.recompute": "light"}], ids=str)
def test_what_saves_time_or_memory_changes_no_gradient(pair, settings):
    plain, saving = pair(do, Work(((CLICKED,),))), pair(do, Work(((CLICKED,),), settings=settings))
    assert_ranks_agree(saving)
    assert distance(saving[0].gradients, plain[0].gradients) < ROUNDING
    assert saving[0].moments.keys() == plain[0].moments.keys()


def test_the_learning_rate_and_the_number_of_steps_depend_on_the_global_batch_alone(alone, pair):
    rising = {"optim.schedule": "cosine", "optim.warmup": 0.3, "optim.final": 0.0}
    ranks = pair(do, Work(((BOXED,),) * 4, (1, 1), rising))
    (wide,) = alone(do, Work(((BOXED,),) * 4, (1, 1), rising))
    (deep,) = alone(do, Work(((BOXED,),) * 8, (1,), {**rising, "trainer.accumulate": 2}))
    rates = ranks[0].learning_rates
    assert rates == ranks[1].learning_rates == wide.learning_rates == deep.learning_rates
    assert len(rates) == 4 and len(set(rates)) == 4
    for done in (*ranks, wide, deep):
        assert {int(state["step"]) for state in done.moments.values()} == {4}


@pytest.mark.parametrize("model", ["test", "sam2.1_t"])
def test_ranks_have_equal_weights_after_fifty_steps(pair: Ranks, tmp_path: Path, model: str) -> None:
    """A whole run with dropout, drop path and all kinds of prompts; each rank writes a digest of its own weights."""
    words = [f"runs={tmp_path}", "trainer.max_steps=50", "trainer.devices=2", "launcher.threads=1"]
    words += [f"model.name={model}", "model.image_size=64", "model.drop_path=0.1", "data.frames=2"]
    words += ["prompts.clicks=2", "evaluate.every_steps=null", "evaluate.at_start=false"]
    words += ["evaluate.at_end=false", "evaluate.baselines=false", "checkpoint.every_steps=null"]
    words += ["+callbacks.witness._target_=tests.sam2.training.witness.Witness"]
    config = resolve(compose(parse(["smoke", *words])), "smoke")
    assert config.synthetic is not None
    make(config.synthetic, config.runs)
    assert pair(run, config, tmp_path / "run") == [True, True]
    digests = [(tmp_path / "run" / "log" / f"weights-{rank}.txt").read_text() for rank in (0, 1)]
    assert digests[0] == digests[1] and len(digests[0]) == 64
