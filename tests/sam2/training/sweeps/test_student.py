"""Student's t against printed tables, closed forms and, where it is installed, scipy."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from sam2.training.sweeps.student import over_repetitions, quantile


@pytest.mark.parametrize(
    ("freedom", "printed"),
    [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (9, 2.262),
        (10, 2.228),
        (30, 2.042),
        (120, 1.980),
    ],
)
def test_quantiles_are_those_of_the_printed_table(freedom: int, printed: float) -> None:
    assert quantile(0.95, freedom) == pytest.approx(printed, abs=5e-4)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_one_and_two_degrees_of_freedom_have_formulas(level: float) -> None:
    assert quantile(level, 1) == pytest.approx(math.tan(math.pi * level / 2), rel=1e-12)
    assert quantile(level, 2) == pytest.approx(level * math.sqrt(2 / (1 - level**2)), rel=1e-12)


def test_many_degrees_of_freedom_are_the_normal_distribution() -> None:
    assert quantile(0.95, 20_001) == pytest.approx(NormalDist().inv_cdf(0.975), rel=1e-4)


# of the tables in every textbook, and of scipy.stats.t.ppf
TABLE = {
    0.95: {1: 12.7062, 2: 4.30265, 3: 3.18245, 4: 2.77645, 5: 2.57058, 9: 2.26216, 10: 2.22814, 30: 2.04227},
    0.99: {1: 63.6567, 2: 9.92484, 3: 5.84091, 4: 4.60409, 5: 4.03214, 9: 3.24984, 10: 3.16927, 30: 2.75000},
}


@pytest.mark.parametrize("level", TABLE)
def test_the_tables_agree(level: float) -> None:
    for freedom, value in TABLE[level].items():
        assert quantile(level, freedom) == pytest.approx(value, rel=2e-6)


def test_the_interval_of_three_numbers_by_hand() -> None:
    """Mean 12, standard deviation 2, standard error 2 / sqrt(3) = 1.1547, times 4.302653: 4.968."""
    found = over_repetitions([10.0, 12.0, 14.0], "seed")
    assert found.value == 12.0 and found.over == "3 seeds"
    assert found.interval == pytest.approx((12 - 4.96828, 12 + 4.96828), abs=1e-4)


def test_one_number_has_no_interval() -> None:
    found = over_repetitions([7.0], "seed")
    assert (found.value, found.interval, found.over) == (7.0, None, "1 seed")


def test_an_interval_ends_where_no_value_can_lie() -> None:
    """Mean 3, t(1) = 12.7062: 3 +- 12.7."""
    found = over_repetitions([2.0, 4.0], "seed", (0.0, 100.0))
    assert found.value == 3.0 and found.interval == pytest.approx((0.0, 15.7062), abs=1e-4)
    assert over_repetitions([98.0, 96.0], "seed", (0.0, 100.0)).interval == pytest.approx((84.2938, 100.0))
