"""The simulated user: plans, clicks and boxes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.prompts import PromptPlan, PromptPolicy, SimulatedUser, draw_plan, noisy_box, pick_pixel


@given(st.integers(0, 2**32), st.integers(0, 10**9), st.integers(1, 16))
def test_plans_keep_the_rules(seed, step, frames):
    plan = draw_plan(PromptPolicy(), seed, step, frames)
    assert sorted(plan.order) == list(range(frames))
    assert plan.first[0] == 0 and plan.order[: len(plan.first)] == plan.first
    assert len(plan.first) <= 2 and (frames == 1 or len(plan.first) < frames)
    assert plan.boxes <= set(plan.first)
    assert len(plan.corrected) <= 2 and plan.corrected <= set(range(frames))
    if plan.from_masks:
        assert frames > 1 and not plan.corrected and not plan.boxes
    else:
        assert set(plan.first) <= plan.corrected


def test_kinds_are_drawn_as_often_as_asked():
    plans = [draw_plan(PromptPolicy(), 0, step, 8) for step in range(4000)]
    masks = sum(p.from_masks for p in plans)
    points = [p for p in plans if not p.from_masks]
    boxes = sum(0 in p.boxes for p in points)
    assert masks / len(plans) == pytest.approx(0.5, abs=0.03)
    assert boxes / len(points) == pytest.approx(0.5, abs=0.03)
    assert sum(len(p.first) == 2 for p in plans) / len(plans) == pytest.approx(0.5, abs=0.03)
    # one prompted frame: one or two corrected, equally often; two prompted: those two
    one = [p for p in points if len(p.first) == 1]
    assert sum(len(p.corrected) == 2 for p in one) / len(one) == pytest.approx(0.5, abs=0.05)


def test_an_image_starts_from_points_and_is_corrected():
    assert all(
        not p.from_masks and p.corrected == {0}
        for p in (draw_plan(PromptPolicy(), 0, s, 1) for s in range(50))
    )


def test_first_clicks_fall_on_the_object_uniformly():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 2, 3] = mask[0, 5, 1] = mask[0, 5, 2] = mask[0, 7, 7] = True
    counts = Counter()
    for draw in np.arange(0, 1, 1 / 64):
        points, labels = pick_pixel(mask, torch.tensor([draw]))
        assert labels.tolist() == [1]
        counts[tuple(points[0].int().tolist())] += 1
    assert counts == {(3, 2): 16, (1, 5): 16, (2, 5): 16, (7, 7): 16}


def test_the_last_possible_draw_is_still_inside():
    mask = torch.ones(1, 5, 7, dtype=torch.bool)
    points, _ = pick_pixel(mask, torch.tensor([np.nextafter(1.0, 0.0)], dtype=torch.float64))
    assert points.tolist() == [[6.0, 4.0]]


def test_corrections_are_positive_on_missed_and_negative_on_ghost_pixels():
    truth, predicted = torch.zeros(2, 6, 6, dtype=torch.bool), torch.zeros(2, 6, 6, dtype=torch.bool)
    truth[:, :3], predicted[0, :2], predicted[1, :4] = True, True, True
    plan = PromptPlan(1, False, (0,), corrected=frozenset({0}), clicks=20)
    user = SimulatedUser(plan, PromptPolicy(truth_clicks=0.0), truth[None], torch.tensor([1, 2]))
    for click in range(20):
        points, labels = user.correct(0, click, predicted)
        assert labels[:, 0].tolist() == [1, 0]
        assert points[0, 0, 1] == 2 and points[1, 0, 1] == 3


def test_a_perfect_prediction_gets_a_background_click():
    truth = torch.zeros(1, 6, 6, dtype=torch.bool)
    truth[0, :3] = True
    points, labels = pick_pixel(truth, torch.tensor([0.5]), torch.zeros_like(truth))
    assert labels.tolist() == [0] and points[0, 1] >= 3


@pytest.mark.parametrize("box", [False, True])
def test_an_absent_object_never_gets_a_box_or_a_positive_click(box):
    truth = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    plan = PromptPlan(1, False, (0,), frozenset({0}) if box else frozenset(), frozenset({0}), clicks=30)
    user = SimulatedUser(plan, PromptPolicy(truth_clicks=0.5), truth, torch.tensor([3]))
    points, labels = user.start(0)
    assert set(labels.flatten().tolist()) <= {0, -1}
    assert ((points >= 0) & (points < 16)).all()
    predicted = torch.zeros(1, 16, 16, dtype=torch.bool)
    predicted[0, 4:9, 4:9] = True
    for click in range(30):
        assert user.correct(0, click, predicted)[1].item() == 0


def test_an_object_that_fills_the_image_gets_a_positive_click_when_all_is_right():
    truth = torch.ones(1, 4, 4, dtype=torch.bool)
    assert pick_pixel(truth, torch.tensor([0.3]), torch.zeros_like(truth))[1].tolist() == [1]


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=4, max_size=4))
def test_box_noise_is_bounded_and_stays_inside(draws):
    truth = torch.zeros(1, 100, 400, dtype=torch.bool)
    truth[0, 10:60, 100:399] = True  # 299 wide: a tenth is more than 20 px
    points, labels = noisy_box(truth, torch.tensor([draws], dtype=torch.float64), PromptPolicy())
    assert labels.tolist() == [[2, 3]]
    (x0, y0), (x1, y1) = points[0].tolist()
    assert abs(x0 - 100) <= 20 and abs(y0 - 10) <= 4.9 + 1e-4
    assert 378 <= x1 <= 399 and abs(y1 - 59) <= 4.9 + 1e-4


def test_places_depend_on_the_object_alone():
    truth = torch.zeros(2, 3, 32, 32, dtype=torch.bool)
    truth[:, :, 4:20, 4:20] = True
    plan = PromptPlan(2, False, (0,), frozenset(), frozenset({0}), clicks=2)
    together = SimulatedUser(plan, PromptPolicy(), truth, torch.tensor([7, 8, 9]))
    alone = SimulatedUser(plan, PromptPolicy(), truth[:, 1:2], torch.tensor([8]))
    nothing = torch.zeros(3, 32, 32, dtype=torch.bool)
    assert torch.equal(together.start(0)[0][1:2], alone.start(0)[0])
    assert torch.equal(together.correct(0, 1, nothing)[0][1:2], alone.correct(0, 1, nothing[:1])[0])


def test_blind_clicks_fall_on_the_object_even_where_it_is_found():
    truth = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    truth[0, 0, 4:9, 4:9] = True
    plan = PromptPlan(1, False, (0,), corrected=frozenset({0}), clicks=400)
    user = SimulatedUser(plan, PromptPolicy(truth_clicks=0.25), truth, torch.tensor([0]))
    positive = sum(user.correct(0, click, truth[0])[1].item() for click in range(400))
    assert positive / 400 == pytest.approx(0.25, abs=0.07)


def test_impossible_policies_are_refused():
    with pytest.raises(ValueError, match="point_start"):
        PromptPolicy(point_start=1.5)
    with pytest.raises(ValueError, match="first_frames"):
        PromptPolicy(first_frames=0)
