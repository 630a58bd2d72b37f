"""Intervals: whether they cover what they say, and what must hold whatever the scores are."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from sam2.evaluation.boundary import Floats
from sam2.evaluation.scores import Mean, ObjectScore
from sam2.evaluation.uncertainty import (
    DIFFERENCE,
    MIN_VIDEOS,
    SCORE,
    Bootstrap,
    Interval,
    VideoSums,
    intervals,
    standard_error,
    uncertainty,
    video_sums,
)

MEANS = (Mean("J&F", "J&F"), Mean("J", "J"), Mean("F", "F"))
PARTED = (Mean("G", "J&F", by_part=True), *MEANS)


def scores(seed: int, videos: int, unseen: int | None = None) -> list[ObjectScore]:
    """Objects of made-up videos, the first `unseen` of which are unseen."""
    random = np.random.default_rng(seed)
    part = [None if unseen is None else "unseen" if v < unseen else "seen" for v in range(videos)]
    return [
        ObjectScore(f"v{v:03d}", i, *(100 * random.beta(6, 1.5, 2)), ("00000",), part=part[v])
        for v in range(videos)
        for i in range(1, 1 + random.geometric(0.4))
    ]


# ----------------------------------------------------------------------------------------------- simulation


def benchmark(random: np.random.Generator, videos: int, kind: str, parts: int) -> VideoSums:
    """A benchmark whose videos differ in difficulty and in their number of objects, which resemble each other."""
    objects, level = {
        "even": lambda: (random.integers(1, 6, videos), random.beta(5, 5, videos)),
        "piled up below 100": lambda: (random.geometric(0.5, videos), 1 - 0.6 * random.beta(0.6, 8, videos)),
        "skewed": lambda: (random.geometric(0.45, videos), random.beta(6, 1.2, videos)),
        "many objects are harder": lambda: (
            n := random.geometric(0.35, videos),
            random.beta(8 / np.sqrt(n), 1.2),
        ),
    }[kind]()
    video = np.repeat(np.arange(videos), objects)
    a, b = 12 * level[video], 12 * (1 - level[video])
    values = 100 * random.beta(np.maximum(a, 0.05), np.maximum(b, 0.05))
    part = (random.random(len(video)) < 0.25) * (parts - 1)  # the second part has lower scores
    cells = video * parts + part
    sums = np.bincount(cells, values * (1 - 0.1 * part), videos * parts).reshape(videos, parts)
    return VideoSums(sums, np.bincount(cells, minlength=videos * parts).reshape(videos, parts).astype(float))


def coverage(kind: str, videos: int, parts: int, draws: int) -> float:
    """How often, in percent, the interval of a drawn benchmark has the number of all videos in the world."""
    truth = benchmark(np.random.default_rng(10**6), 10**6, kind, parts).mean
    random, how = np.random.default_rng(videos), Bootstrap(resamples=999)
    drawn = (benchmark(random, videos, kind, parts) for _ in range(draws))
    return share_of_hits(truth, [intervals({"": sums}, SCORE, how)[""] for sums in drawn])


def share_of_hits(truth: float, found: list[Interval | None]) -> float:
    return 100 * float(np.mean([ends[0] <= truth <= ends[1] for ends in found if ends is not None]))


def change(random: np.random.Generator, videos: int, kind: str) -> VideoSums:
    """Differences of two models, most of which are on objects that are hard for both, or alike on all."""
    objects, level = random.geometric(0.45, videos), random.beta(6, 1.2, videos)
    video = np.repeat(np.arange(videos), objects)
    if kind == "alike":
        values = random.normal(0.5, 2, videos)[video] + random.normal(0, 2, len(video))
    else:
        values = 100 * (1 - level[video]) * random.normal(0.05, 0.3, len(video))
    return VideoSums(np.bincount(video, values, videos)[:, None], objects[:, None].astype(float))


@pytest.mark.parametrize("kind, videos", [("alike", 30), ("where it is hard", 30), ("where it is hard", 60)])
def test_intervals_of_differences_cover_the_truth_in_93_to_97_percent_of_1000_draws(kind, videos):
    truth = change(np.random.default_rng(10**6), 10**6, kind).mean
    random, how = np.random.default_rng(videos), Bootstrap(resamples=999)
    drawn = [intervals({"": change(random, videos, kind)}, DIFFERENCE, how)[""] for _ in range(1000)]
    assert 93 <= share_of_hits(truth, drawn) <= 97


@pytest.mark.parametrize("kind, videos, parts", [("skewed", 20, 1), ("skewed", 40, 2)])
def test_intervals_cover_the_truth_in_93_to_97_percent_of_1000_draws(kind, videos, parts):
    assert 93 <= coverage(kind, videos, parts, 1000) <= 97


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("videos", [30, 60])
@pytest.mark.parametrize("kind", ["even", "piled up below 100", "skewed", "many objects are harder"])
def test_intervals_cover_the_truth_for_scores_of_other_kinds(kind, videos, parts):
    assert 93 <= coverage(kind, videos, parts, 1000) <= 97


def test_the_simulation_tells_a_method_that_covers_too_little(monkeypatch):
    def percentile(sums, counts):
        drawn = (counts @ sums.values) / (counts @ sums.objects)
        return (sums.mean - drawn.mean(1)) / standard_error(sums)

    monkeypatch.setattr("sam2.evaluation.uncertainty._studentised", percentile)
    assert coverage("skewed", 20, 1, 500) < 93


# ------------------------------------------------------------------------------------------------ what holds


def test_constant_scores_have_an_interval_of_zero_width():
    same = [replace(o, j=73.3, f=91.7) for o in scores(0, 12)]
    found = uncertainty(same, MEANS, {"J&F": 0, "J": 0, "F": 0}).intervals
    for name, value in (("J", 73.3), ("F", 91.7), ("J&F", 82.5)):
        low, high = found[name]
        assert low == high == pytest.approx(value, abs=1e-12)


def test_one_object_a_video_has_the_standard_error_of_a_plain_mean():
    values = np.random.default_rng(3).random(30) * 100
    sums = VideoSums(values[:, None], np.ones((30, 1)))
    assert sums.mean == pytest.approx(values.mean())
    assert standard_error(sums) == pytest.approx(values.std(ddof=1) / np.sqrt(30))


def test_the_interval_is_the_textbooks_bootstrap_t_for_one_object_a_video():
    values: Floats = np.random.default_rng(4).beta(5, 2, 25) * 100
    how = Bootstrap(resamples=999, seed=5)
    drawn = [np.repeat(values, row.astype(int)) for part in how.draws(25) for row in part]
    # the divisor n - 1 is that of the 25 videos, which every resample has, too
    t = np.sort([(d.mean() - values.mean()) / (d.std(ddof=1) / 5) for d in drawn])
    error = values.std(ddof=1) / 5
    wanted = values.mean() - t[974] * error, values.mean() - t[24] * error
    found = intervals({"": VideoSums(values[:, None], np.ones((25, 1)))}, SCORE, how)[""]
    assert found == pytest.approx(wanted, rel=1e-9)


def test_the_numbers_are_the_means_over_objects_and_over_parts():
    objects = scores(1, 20, unseen=6)
    jf = np.array([o.jf for o in objects])
    unseen = np.array([o.part == "unseen" for o in objects])
    assert video_sums(objects, jf, by_part=False).mean == pytest.approx(jf.mean())
    both = video_sums(objects, jf, by_part=True)
    assert both.mean == pytest.approx((jf[unseen].mean() + jf[~unseen].mean()) / 2)
    assert both.shares.sum() == pytest.approx(both.mean)


def test_the_seed_alone_decides_the_draws():
    objects = scores(2, 15)
    totals = {"J&F": 0.0, "J": 0.0, "F": 0.0}
    first = uncertainty(objects, MEANS, totals)
    np.random.seed(1)
    assert uncertainty(objects, MEANS, totals) == first
    assert uncertainty(objects, MEANS, totals, Bootstrap(seed=1)).intervals != first.intervals


def test_the_order_of_objects_does_not_matter():
    objects = scores(3, 25, unseen=8)
    totals = {"G": 0.0, "J&F": 0.0, "J": 0.0, "F": 0.0}
    shuffled = [objects[k] for k in np.random.default_rng(0).permutation(len(objects))]
    assert uncertainty(shuffled, PARTED, totals) == uncertainty(objects, PARTED, totals)


def test_memory_does_not_decide_which_videos_are_drawn(monkeypatch):
    how = Bootstrap(resamples=50)
    whole = np.concatenate(list(how.draws(30)))
    monkeypatch.setattr("sam2.evaluation.uncertainty._DRAWS_AT_ONCE", 100)
    parts = list(how.draws(30))
    assert len(parts) > 1 and (np.concatenate(parts) == whole).all() and (whole.sum(1) == 30).all()


@pytest.mark.parametrize("videos", [1, MIN_VIDEOS - 1])
def test_few_videos_have_no_interval_and_it_is_said(videos):
    found = uncertainty(scores(0, videos), MEANS, {"J&F": 0.0, "J": 0.0})
    assert found.intervals == {"J&F": None, "J": None}  # and F is none of the totals
    assert found.remark.startswith(f"no intervals: {videos} video")


def test_a_part_with_few_videos_has_no_interval_where_it_counts_and_it_is_said():
    found = uncertainty(scores(0, 30, unseen=MIN_VIDEOS - 1), PARTED, {"G": 0.0, "J&F": 0.0})
    assert found.intervals["G"] is None and found.intervals["J&F"] is not None
    assert "none for G" in found.remark
    found = uncertainty(scores(0, 30, unseen=MIN_VIDEOS), PARTED, {"G": 0.0, "J&F": 0.0})
    assert None not in found.intervals.values() and "none" not in found.remark


def test_intervals_stay_between_0_and_100_and_hold_the_number():
    for seed in range(20):
        objects = scores(seed, MIN_VIDEOS)
        low, high = uncertainty(objects, MEANS, {"J": 0.0}).intervals["J"]
        assert 0 <= low <= np.mean([o.j for o in objects]) <= high <= 100


def test_five_hundred_videos_take_less_than_half_a_second():
    objects = scores(0, 500, unseen=100)
    totals = {"G": 0.0, "J&F": 0.0, "J": 0.0, "F": 0.0}
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        uncertainty(objects, PARTED, totals)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.5
