"""Fields of JSON files of others: of the type that is needed, or a message that says where they are not."""

from __future__ import annotations

import math
from typing import Any

from data.clip import DataError


def whole(value: Any, where: str, least: int, most: int) -> int:
    """A whole number, which may be written as a float (1024.0).

    Raises:
        DataError: another type, or out of bounds.
    """
    is_number = type(value) is int or (type(value) is float and value.is_integer())
    if not is_number or not least <= value <= most:
        raise DataError(f"{where}: is {_shown(value)}, expected a whole number from {least} to {most}")
    return int(value)


def number(value: Any, where: str) -> float:
    """A finite number; errors as in `whole`."""
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1e15:
        raise DataError(f"{where}: is {_shown(value)}, expected a number")
    return float(value)


def text(value: Any, where: str) -> str:
    """A string; errors as in `whole`."""
    if not isinstance(value, str):
        raise DataError(f"{where}: is {_shown(value)}, expected a string")
    return value


def objects(value: Any, where: str) -> list[dict[str, Any]]:
    """A list of objects; errors as in `whole`."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(f"{where}: is {_shown(value)}, expected a list of objects")
    return value


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:60]
