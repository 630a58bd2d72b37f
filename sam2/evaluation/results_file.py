"""Results files as the verbs of `sam2 eval` write them (kinds.py), read back; they may come from anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import numpy as np

from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.kinds import KINDS, ResultsKind
from sam2.evaluation.scores import Mean, Numbers, ObjectNumbers
from sam2.evaluation.uncertainty import sums_of

MAX_BYTES = 256 << 20
_ROUNDING = 1e-6  # points by which a mean may differ from that of the objects
_EDGE = 1e-9  # a rounded mean of equal values may lie so far beyond the last one
_MAX_NAME = 1000
_MAX_VALUE = 1e12  # of what has no greatest value


@dataclass(frozen=True)
class Results:
    """What a results file says.

    Attributes:
        path: the file.
        kind: which of the verbs wrote it.
        test: what was asked of the model: the protocol, its version and options, the hash of the frames.
        totals: the numbers that are means over objects, the one that leads first.
        means: how these are made.
        objects: every object with what is averaged, by sequence and name.
        run: how the masks were made; empty where the file does not say.
    """

    path: Path
    kind: ResultsKind
    test: Mapping[str, Any]
    totals: Numbers
    means: tuple[Mean, ...]
    objects: tuple[ObjectNumbers, ...]
    run: Mapping[str, Any]


def read_results(path: Path) -> Results:
    """Read and check a results file.

    Raises:
        EvaluationError: naming the file, the key, what was expected and what is there.
    """
    return _Reader(path).read()


class _Reader:
    """One file, whose path begins every message."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Results:
        content = self._load()
        kind = KINDS.get(str(content.get("format")))
        if kind is None:
            self._stop(
                f"format is {_shown(content.get('format'))}, expected one of {', '.join(KINDS)}; "
                "compare files of sam2 eval score --out, or of another verb of sam2 eval"
            )
        test = {key: self._asked(content, key, expected) for key, expected in kind.test.items()}
        run = content.get("run", None if kind.has_run else {})
        if not isinstance(run, dict):
            self._stop(f"run is {_shown(run)}, expected settings by name")
        try:
            means = kind.means(content)
        except EvaluationError as error:
            self._stop(str(error))
        numbers = kind.by_name(content)
        totals: Numbers = {mean.name: self._number(numbers, mean.name, mean) for mean in means}
        objects = self._objects(content, kind, means)
        self._check_totals(totals, means, objects)
        return Results(self._path, kind, test, totals, means, objects, run)

    def _load(self) -> dict[str, Any]:
        if not self._path.is_file():
            self._stop(
                "is no file; name one that sam2 eval score --out or another verb of sam2 eval wrote, such as "
                "results.json"
            )
        try:
            with self._path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
            if len(raw) > MAX_BYTES:
                self._stop(f"has more than {MAX_BYTES >> 20} MiB; score again without --per-frame")
            content = json.loads(raw, parse_constant=self._no_number)
        except EvaluationError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise EvaluationError(f"{self._path}: is no JSON that can be read ({error})") from error
        if not isinstance(content, dict):
            self._stop(f"expected a JSON object, found {_shown(content)}")
        return content

    def _objects(
        self, content: Mapping[str, Any], kind: ResultsKind, means: Sequence[Mean]
    ) -> tuple[ObjectNumbers, ...]:
        rows = self._typed(content, "objects", list, "a list")
        if not rows:
            self._stop("objects is empty; there is nothing to compare")
        of = {mean.of: mean for mean in means}
        found: dict[tuple[str, str], ObjectNumbers] = {}
        for k, row in enumerate(rows):
            where = f"objects[{k}]"
            if not isinstance(row, dict):
                self._stop(f"{where} is {_shown(row)}, expected an object's numbers by name")
            score = self._object(kind.by_name(row), where, of)
            key = score.sequence, str(score.object_id)
            if key in found:
                self._stop(f"{where} is a second object {key[1]} of the sequence {key[0]}; expected it once")
            found[key] = score
        if len({score.part is None for score in found.values()}) > 1:
            self._stop("some objects have a part and some have none; score again")
        return tuple(found[key] for key in sorted(found))

    def _object(self, row: Mapping[str, Any], where: str, of: Mapping[str, Mean]) -> ObjectNumbers:
        sequence, name = self._text(row, "sequence", where), row.get("object")
        if isinstance(name, str):
            name = self._text(row, "object", where)
        elif isinstance(name, bool) or not isinstance(name, int):
            self._stop(f"{where}.object is {_shown(name)}, expected an id or a name")
        part = row.get("part")
        if part not in (None, "seen", "unseen"):
            self._stop(f"{where}.part is {_shown(part)}, expected seen or unseen")
        numbers: Numbers = {key: self._number(row, key, mean, where) for key, mean in of.items()}
        return ObjectNumbers(sequence, name, numbers, part)

    def _check_totals(self, totals: Numbers, means: Sequence[Mean], objects: Sequence[ObjectNumbers]) -> None:
        """Means that are not those of the objects were changed, or belong to other objects."""
        for mean in means:
            said, has_any = totals[mean.name], not np.isnan(mean.values(objects)).all()
            made = sums_of(mean, objects).mean if has_any else None
            if (said is None) != (made is None) or abs((said or 0) - (made or 0)) > _ROUNDING:
                self._stop(f"{mean.name} is {said}, its objects give {made}; score again")

    def _asked(self, content: Mapping[str, Any], key: str, expected: type) -> Any:
        """A key that says what was asked."""
        if expected is str:
            return self._text(content, key)
        if expected is list:
            steps = self._typed(content, key, list, "a list of three lengths")
            if len(steps) != 3 or not all(_is_number(step, 0, _MAX_VALUE) for step in steps):
                self._stop(f"{key} is {str(steps):.80}, expected three lengths")
            return [float(step) for step in steps]
        if expected is float:
            value = content.get(key)
            if not _is_number(value, 0, _MAX_VALUE):
                self._stop(f"{key} is {_shown(value)}, expected a length")
            return float(value)
        return self._typed(content, key, expected, "true or false" if expected is bool else "a whole number")

    def _typed(self, content: Mapping[str, Any], key: str, kind: type, expected: str) -> Any:
        value = content.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self._stop(f"{key} is {_shown(value)}, expected {expected}")
        return value

    def _text(self, content: Mapping[str, Any], key: str, where: str = "") -> str:
        value = content.get(key)
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME or not value.isprintable():
            self._stop(f"{_join(where, key)} is {_shown(value)}, expected printable text")
        return value

    def _number(self, content: Mapping[str, Any], key: str, mean: Mean, where: str = "") -> float | None:
        """One of the values that `mean` is about."""
        value, (low, high) = content.get(key), mean.bounds
        if value is None and mean.may_lack and key in content:
            return None
        if not _is_number(value, low, min(high, _MAX_VALUE)):
            expected = f"{low:g} to {high:g}" if high < _MAX_VALUE else f"{low:g} on"
            self._stop(f"{_join(where, key)} is {_shown(value)}, expected a number from {expected}")
        return float(value)

    def _no_number(self, word: str) -> NoReturn:
        self._stop(f"has {word}, which is no JSON number")

    def _stop(self, problem: str) -> NoReturn:
        raise EvaluationError(f"{self._path}: {problem}")


def _is_number(value: Any, low: float, high: float) -> TypeGuard[float]:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and low - _EDGE <= value <= high + _EDGE
    )


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _shown(value: Any) -> str:
    """A value as a line of text that says enough and hides nothing."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return "missing" if value is None else f"{value!r:.80}"
