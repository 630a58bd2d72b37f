"""How many steps a run has."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from data.plan import Plan, PlannedDataset
from sam2.training.outcome import steps_of


@given(
    size=st.integers(1, 500),
    images=st.integers(1, 500),
    log_batch=st.integers(0, 3),
    epochs=st.sampled_from([0.1, 0.5, 1.0, 2.0, 2.5, 30.0]),
)
def test_steps_of_so_many_epochs_depend_on_the_global_batch_and_not_on_who_does_it(
    size, images, log_batch, epochs
):
    counts = set()
    for log_world in range(4):
        for log_accumulate in range(4 - log_world):
            world, accumulate = 2**log_world, 2**log_accumulate
            batch = 2 ** (log_batch + 3 - log_world - log_accumulate)
            videos = PlannedDataset("videos", size, "a", batch)
            plan = Plan((videos, PlannedDataset("images", images, "b", 2 * batch)), seed=0)
            counts.add(steps_of(epochs, plan.steps_per_epoch(world), accumulate))
    assert len(counts) == 1


def test_a_tenth_of_ten_steps_is_one_step_and_what_is_left_over_is_another():
    assert steps_of(0.1, Fraction(10), 1) == 1  # 0.1 as a binary fraction is a little more than a tenth
    assert steps_of(2.0, Fraction(9, 4), 1) == 5
    assert steps_of(1.0, Fraction(9), 4) == 3
