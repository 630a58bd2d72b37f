"""Means over few repetitions: Student's t, without a statistics library.

With 1 to 10 seeds and scores that vary like a normal distribution, mean and t interval are what there is to say; for
whole degrees of freedom the distribution has a closed form (Abramowitz & Stegun 26.7.3 and 26.7.4).
Held by tests/sam2/training/sweeps/test_student.py to printed tables and, where it is installed, to scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number and how sure it is.

    Attributes:
        value: the number.
        interval: of LEVEL; None where there is too little to say.
        over: what it is an interval over: "3 seeds", "24 videos".
    """

    value: float
    interval: tuple[float, float] | None
    over: str


def over_repetitions(
    values: Sequence[float], unit: str, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Estimate:
    """Mean and t interval of at least one value; one alone has no interval.

    Args:
        values: of the repetitions.
        unit: what they are, one of them.
        bounds: beyond which no value can lie. The interval ends there: what is cut off cannot hold the mean, so that
            the rest covers it as often.
    """
    mean, n = fmean(values), len(values)
    over = f"{n} {unit}{'s' * (n != 1)}"
    if n < 2:
        return Estimate(mean, None, over)
    reach = quantile(LEVEL, n - 1) * stdev(values) / math.sqrt(n)
    return Estimate(mean, (max(mean - reach, bounds[0]), min(mean + reach, bounds[1])), over)


def quantile(level: float, freedom: int) -> float:
    """The t that a share `level` of all |T| stay below."""
    low, high = 0.0, math.pi / 2
    for _ in range(200):  # halving an interval of angles ends at neighbouring numbers long before
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _within(angle: float, freedom: int) -> float:
    """P(|T| < t) for t = sqrt(freedom) * tan(angle)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = freedom % 2
    term, total = (cosine, cosine if freedom > 1 else 0.0) if is_odd else (1.0, 1.0)
    for k in range(3 if is_odd else 2, freedom - 1, 2):
        term *= cosine**2 * ((k - 1) / k)
        total += term
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total
