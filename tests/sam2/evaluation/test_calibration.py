"""Whether a model knows how good its masks are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2.evaluation.calibration import calibration, rank_correlation

VALUES = st.lists(st.tuples(*[st.integers(0, 10).map(lambda n: n / 10)] * 2), min_size=2, max_size=30)


def test_errors_by_hand():
    numbers = calibration(np.array([0.95, 0.91, 0.25, 0.21]), np.array([0.85, 0.81, 0.45, 0.11]))
    assert numbers["iou_mae"] == pytest.approx(100 * (0.1 + 0.1 + 0.2 + 0.1) / 4)
    assert numbers["iou_bias"] == pytest.approx(100 * (0.1 + 0.1 - 0.2 + 0.1) / 4)
    # the bin from 0.9 is 0.1 too high, that from 0.2 is 0.05 too low
    assert numbers["iou_ece"] == pytest.approx(100 * (2 * 0.1 + 2 * 0.05) / 4)
    assert numbers["iou_rank"] == pytest.approx(1.0)  # 0.95 > 0.91 > 0.25 > 0.21, and so are the true ones


def test_predictions_outside_of_0_to_1_fall_into_the_outer_bins():
    numbers = calibration(np.array([1.2, -0.1]), np.array([1.0, 0.0]))
    assert numbers["iou_ece"] == pytest.approx(100 * (0.2 + 0.1) / 2)


def test_a_perfect_prediction_has_no_error():
    true = np.linspace(0, 1, 21)
    numbers = calibration(true, true)
    assert numbers["iou_mae"] == numbers["iou_bias"] == numbers["iou_ece"] == 0.0
    assert numbers["iou_rank"] == pytest.approx(1.0) and numbers["frames"] == 21


def test_nothing_to_compare_is_none():
    numbers = calibration(np.zeros(0), np.zeros(0))
    assert numbers["frames"] == 0 and {numbers[k] for k in numbers if k != "frames"} == {None}
    with pytest.raises(ValueError, match="expected equal"):
        calibration(np.zeros(2), np.zeros(3))


@given(VALUES)
def test_rank_correlation_is_that_of_ranks_counted_by_hand(pairs):
    a, b = (np.array(column) for column in zip(*pairs, strict=True))
    ranks = [[(v < x).sum() + ((v == x).sum() + 1) / 2 for x in v] for v in (a, b)]
    found = rank_correlation(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)


def test_order_alone_counts_for_ranks():
    a = np.array([0.1, 0.5, 0.3, 0.9])
    assert rank_correlation(a, a**3) == pytest.approx(1.0)
    assert rank_correlation(a, -a) == pytest.approx(-1.0)
