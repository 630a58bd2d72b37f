import itertools
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.clip import DataError
from data.order import Blocks, permute
from data.plan import BLOCK, Plan, PlannedDataset


def videos(size=10, batch=2, **more):
    return PlannedDataset("videos", size, "aa", batch, **more)


def images(size=30, batch=4, **more):
    return PlannedDataset("images", size, "bb", batch, **more)


def everyone(plan, step, world):
    """The global batch in the order in which it is dealt out."""
    ranks = [plan.jobs(step, rank, world) for rank in range(world)]
    return [job for jobs in zip(*ranks, strict=True) for job in jobs]


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 60),
    batch=st.integers(1, 5),
    world=st.integers(1, 8),
    repeat=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
def test_every_sample_comes_once_an_epoch_over_all_ranks(size, batch, world, repeat, seed):
    plan = Plan((videos(size, batch, repeat=repeat),), seed)
    epoch = size * repeat
    steps = -(-2 * epoch // (batch * world))
    order = [job for step in range(steps) for job in everyone(plan, step, world)]
    for start in (0, epoch):
        counts = Counter(job.index for job in order[start : start + epoch])
        assert counts == {index: repeat for index in range(size)}
    assert len({job.seed for job in order}) == len(order)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**40), step=st.integers(0, 10**6), world=st.integers(1, 8))
def test_all_ranks_use_the_same_data_set_in_a_step(seed, step, world):
    plan = Plan((videos(weight=2.0), images(weight=1.0)), seed)
    assert len({job.dataset for job in everyone(plan, step, world)}) == 1


def test_the_same_global_batch_has_the_same_samples_for_any_number_of_ranks():
    def order(world):
        plan = Plan((videos(101, 8 // world), images(307, 16 // world)), seed=3)
        return [everyone(plan, step, world) for step in range(60)]

    alone = order(1)
    assert {jobs[0].dataset for jobs in alone} == {0, 1}
    for world in (2, 4, 8):
        assert order(world) == alone


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 500), key=st.integers(0, 2**62))
def test_a_permutation_holds_every_number_once(n, key):
    assert sorted(permute(place, n, key) for place in range(n)) == list(range(n))


def test_all_orders_of_a_small_data_set_are_about_equally_likely():
    seen = Counter(tuple(permute(k, 4, key) for k in range(4)) for key in range(2400))
    assert set(seen) == set(itertools.permutations(range(4)))
    chi2 = sum((count - 100) ** 2 / 100 for count in seen.values())
    assert chi2 < 49.7  # 23 degrees of freedom, p = 0.001


def test_a_hundred_million_samples_need_no_permutation_in_memory():
    plan = Plan((videos(10**8, 64),), seed=1)
    start = time.perf_counter()
    found = {job.index for step in range(10) for job in plan.jobs(step, 3, 8)}
    assert time.perf_counter() - start < 1
    assert len(found) == 640
    assert np.std(list(found)) == pytest.approx(10**8 / 12**0.5, rel=0.1)


def test_counts_after_a_million_steps_are_exact_and_cost_little():
    plan = Plan((videos(weight=0.7), images(weight=0.3)), seed=5)
    start = time.perf_counter()
    late = plan.used(10**6)
    assert time.perf_counter() - start < 1
    assert sum(late) == 10**6
    assert late[0] / 10**6 == pytest.approx(0.7, abs=2e-3)
    edge = 3 * BLOCK
    for step in (0, 1, 2, edge - 1, edge, edge + 1):
        before, after = np.array(plan.used(step)), np.array(plan.used(step + 1))
        expected = np.eye(2, dtype=int)[plan.dataset(step)]
        assert (after - before == expected).all()
    replayed = Counter(plan.dataset(step) for step in range(1000))
    assert plan.used(1000) == (replayed[0], replayed[1])


def test_the_order_of_questions_does_not_matter():
    steps = [7, 10**5, 0, 70_000, 7, 3]
    one = Plan((videos(), images()), seed=2)
    assert [one.jobs(s, 0, 2) for s in steps] == [Plan((videos(), images()), 2).jobs(s, 0, 2) for s in steps]


def test_without_weights_every_data_set_is_used_up_at_the_same_pace():
    plan = Plan((videos(10, 2, repeat=3), images(30, 3)), seed=0)
    assert [float(share) for share in plan.shares()] == [0.6, 0.4]  # 15 and 10 batches
    assert plan.steps_per_epoch(1) == 25
    assert plan.steps_per_epoch(2) == 12.5


def test_another_seed_gives_another_order():
    orders = {
        tuple(job.index for s in range(5) for job in Plan((videos(),), seed).jobs(s, 0, 1))
        for seed in range(9)
    }
    assert len(orders) == 9


def test_replacements_are_other_samples_and_run_out_when_all_were_tried():
    plan = Plan((videos(5),), seed=0)
    job = plan.jobs(0, 0, 1)[0]
    tried = [plan.replacement(job, attempt) for attempt in range(1, 5)]
    assert {job.index, *(other.index for other in tried)} == set(range(5))
    assert len({other.seed for other in tried} | {job.seed}) == 5
    assert plan.replacement(job, 5) is None
    assert plan.replacement(job, 2) == Plan((videos(5),), 0).replacement(job, 2)


def test_a_plan_is_refused_with_the_setting_that_differs():
    plan = Plan((videos(batch=4), images()), seed=1)
    described = plan.describe(world=2)
    plan.check(described, world=2)
    with pytest.raises(
        DataError, match=r"seed was 1, is 2.*run from its weights: run_id=NAME model\.checkpoint="
    ):
        Plan((videos(batch=4), images()), 2).check(described, world=2)
    with pytest.raises(DataError, match=r"global batch of data set 0 was 8, is 12"):
        plan.check(described, world=3, is_elastic=True)
    with pytest.raises(DataError, match=r"index of data set 1 was bb, is cc"):
        Plan((videos(batch=4), PlannedDataset("images", 30, "cc", 4)), 1).check(described, world=2)
    with pytest.raises(DataError, match=r"data sets was 2, is 1"):
        Plan((videos(batch=4),), 1).check(described, world=2)
    fingerprints = {
        plan.fingerprint(1),
        plan.fingerprint(2),
        Plan((videos(batch=4), images()), 2).fingerprint(1),
    }
    assert len(fingerprints) == 3


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ((), "data.root or data.datasets"),
        ((videos(weight=1.0), images()), "images has none"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(datasets, message):
    with pytest.raises(DataError, match=message):
        Plan(datasets, seed=0)


@pytest.mark.parametrize(
    "bad", [{"size": 0}, {"batch": 0}, {"repeat": 0}, {"weight": 0.0}, {"weight": float("nan")}]
)
def test_a_data_set_that_cannot_be_is_refused(bad):
    with pytest.raises(DataError, match="data set videos"):
        PlannedDataset(**{"name": "videos", "size": 1, "fingerprint": "", "batch": 1} | bad)


def test_another_number_of_processes_needs_the_same_global_batch_and_permission():
    described = Plan((videos(batch=4), images(batch=4)), seed=1).describe(world=2)
    alone = Plan((videos(batch=8), images(batch=8)), 1)
    with pytest.raises(DataError, match=r"made by 2 processes, now there are 1; .*data\.resume=elastic"):
        alone.check(described, world=1)
    alone.check(described, world=1, is_elastic=True)
    with pytest.raises(DataError, match="global batch of data set 1 was 8, is 4"):
        Plan((videos(batch=8), images(batch=4)), 1).check(described, world=1, is_elastic=True)


@settings(deadline=None, max_examples=40)
@given(weights=st.lists(st.floats(0.01, 1), min_size=2, max_size=5), seed=st.integers(0, 2**40))
def test_ten_thousand_steps_use_the_data_sets_by_their_weights_within_a_percent(weights, seed):
    plan = Plan(tuple(videos(weight=w) for w in weights), seed)
    for start in (0, 54_321):
        used = np.array(plan.used(start + 10_000)) - plan.used(start)
        assert np.abs(used / 10_000 - np.array(weights) / sum(weights)).max() < 0.01


def test_the_kinds_of_neighbouring_steps_are_independent_enough():
    """No pattern: after a step of either kind the next is a video about as often as any."""
    plan = Plan((videos(weight=0.5), images(weight=0.5)), seed=4)
    kinds = np.array([plan.dataset(step) for step in range(20_000)])
    assert abs(np.corrcoef(kinds[:-1], kinds[1:])[0, 1]) < 0.02


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    window=st.integers(1, 5),
    batch=st.integers(1, 4),
    world=st.integers(1, 8),
    repeat=st.integers(1, 2),
    seed=st.integers(0, 2**40),
)
def test_blocks_hold_every_sample_once_and_few_shards_at_a_time(sizes, window, batch, world, repeat, seed):
    size, shard_of = sum(sizes), np.repeat(np.arange(len(sizes)), sizes)
    plan = Plan((videos(size, batch, repeat=repeat, blocks=Blocks(tuple(sizes), window)),), seed)
    steps = -(-2 * repeat * size // (batch * world))
    order = [job.index for step in range(steps) for job in everyone(plan, step, world)][: 2 * repeat * size]
    for start in range(0, len(order), size):
        passage = order[start : start + size]
        assert sorted(passage) == list(range(size))
        shards = list(dict.fromkeys(shard_of[passage].tolist()))
        at = 0
        for k in range(0, len(shards), window):
            inside = set(shards[k : k + window])
            count = sum(sizes[shard] for shard in inside)
            assert set(shard_of[passage[at : at + count]]) == inside
            at += count


def test_blocks_come_in_another_order_every_epoch_and_cost_nothing_at_scale():
    blocks = Blocks((100,) * 20_000, 32)
    plan = Plan((videos(2_000_000, 4, blocks=blocks),), seed=1)
    start = time.perf_counter()
    first = [job.index for step in range(500) for job in plan.jobs(step, 0, 1)]
    assert time.perf_counter() - start < 5
    assert len({index // 100 for index in first}) <= 32
    later = [plan.jobs(500_000 + step, 0, 1)[0].index for step in range(10)]
    assert {index // 100 for index in later} != {index // 100 for index in first}
