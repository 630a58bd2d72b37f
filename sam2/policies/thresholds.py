"""The thresholds of a policy are numbers of their kind within their limits, wherever they come from."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

ANY = (-math.inf, math.inf)


class PolicyError(ValueError):
    """A memory policy does not exist, or its thresholds make no sense."""


def check(policy: Any, **limits: tuple[float, float]) -> None:
    """Refuse a policy whose thresholds are no numbers or lie beyond their limits.

    Args:
        policy: a frozen dataclass whose fields are all thresholds, annotated `int` or `float`.
        limits: least and greatest value of every field.

    Raises:
        PolicyError: names the policy, the threshold, what it is and what it may be.
    """
    for threshold in fields(policy):
        value, (low, high) = getattr(policy, threshold.name), limits[threshold.name]
        kinds = (int,) if threshold.type == "int" else (int, float)
        if isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high:
            continue
        what = "a whole number" if kinds == (int,) else "a number"
        raise PolicyError(
            f"{type(policy).__name__}.{threshold.name} is {value!r}; it must be {what}{_span(low, high)}"
        )


def _span(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return ""
    if math.isinf(high):
        return f" of at least {low:g}"
    return f" of at most {high:g}" if math.isinf(low) else f" from {low:g} to {high:g}"
