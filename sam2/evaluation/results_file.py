"""Results files as `sam2 eval score --out` and `sam2 eval run` write them, read back; they may come from anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.protocols import PROTOCOLS
from sam2.evaluation.scorecard import FORMAT
from sam2.evaluation.scores import Mean, Numbers, ObjectScore
from sam2.evaluation.uncertainty import video_sums

MAX_BYTES = 256 << 20
_ROUNDING = 1e-6  # points by which a mean may differ from that of the objects
_MAX_NAME = 1000


@dataclass(frozen=True)
class Results:
    """What a results file says.

    Attributes:
        path: the file.
        test: what was asked of the model: the protocol, its version and options, the hash of the frames.
        totals: the benchmark's numbers that are means over objects, percent, the one that leads first.
        means: how these are made.
        objects: every object, by sequence and name; without their frames.
        run: how the masks were made; empty where the file does not say.
    """

    path: Path
    test: Mapping[str, Any]
    totals: Numbers
    means: tuple[Mean, ...]
    objects: tuple[ObjectScore, ...]
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
        if content.get("format") != FORMAT:
            self._stop(
                f"format is {_shown(content.get('format'))}, expected {FORMAT!r}; "
                "compare files of sam2 eval score --out or sam2 eval run"
            )
        protocol = self._text(content, "protocol")
        if protocol not in PROTOCOLS:
            self._stop(f"protocol is {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
        test: dict[str, Any] = {"protocol": protocol}
        test["protocol_version"] = self._typed(content, "protocol_version", int, "a whole number")
        for key in ("as_published", "all_frames"):
            test[key] = self._typed(content, key, bool, "true or false")
        test["frames_sha256"] = self._text(content, "frames_sha256")
        means = tuple(mean for mean in PROTOCOLS[protocol].means if mean.name in content)
        if not means:
            self._stop("has none of the protocol's numbers, such as J&F")
        totals: Numbers = {mean.name: self._percent(content, mean.name) for mean in means}
        objects = self._objects(content, {mean.of for mean in means} - {"J&F", "J", "F"})
        self._check_totals(totals, means, objects)
        run = content.get("run", {})
        if not isinstance(run, dict):
            self._stop(f"run is {_shown(run)}, expected settings by name")
        return Results(self._path, test, totals, means, objects, run)

    def _load(self) -> dict[str, Any]:
        if not self._path.is_file():
            self._stop(
                "is no file; name one that sam2 eval score --out or sam2 eval run wrote, such as results.json"
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

    def _objects(self, content: Mapping[str, Any], extras: set[str]) -> tuple[ObjectScore, ...]:
        rows = self._typed(content, "objects", list, "a list")
        if not rows:
            self._stop("objects is empty; there is nothing to compare")
        found: dict[tuple[str, str], ObjectScore] = {}
        for k, row in enumerate(rows):
            where = f"objects[{k}]"
            if not isinstance(row, dict):
                self._stop(f"{where} is {_shown(row)}, expected an object's numbers by name")
            score = self._object(row, where, extras)
            key = score.sequence, str(score.object_id)
            if key in found:
                self._stop(f"{where} is a second object {key[1]} of the sequence {key[0]}; expected it once")
            found[key] = score
        if len({score.part is None for score in found.values()}) > 1:
            self._stop("some objects have a part and some have none; score again")
        return tuple(found[key] for key in sorted(found))

    def _object(self, row: Mapping[str, Any], where: str, extras: set[str]) -> ObjectScore:
        sequence, name = self._text(row, "sequence", where), row.get("object")
        if isinstance(name, str):
            name = self._text(row, "object", where)
        elif isinstance(name, bool) or not isinstance(name, int):
            self._stop(f"{where}.object is {_shown(name)}, expected an id or a name")
        part = row.get("part")
        if part not in (None, "seen", "unseen"):
            self._stop(f"{where}.part is {_shown(part)}, expected seen or unseen")
        j, f = self._percent(row, "J", where), self._percent(row, "F", where)
        more: Numbers = {key: self._percent(row, key, where) for key in sorted(extras)}
        return ObjectScore(sequence, name, j, f, (), more, part=part)

    def _check_totals(self, totals: Numbers, means: Sequence[Mean], objects: Sequence[ObjectScore]) -> None:
        """Means that are not those of the objects were changed, or belong to other objects."""
        for mean in means:
            said, made = totals[mean.name], video_sums(objects, mean.values(objects), mean.by_part).mean
            if said is None or abs(said - made) > _ROUNDING:
                self._stop(f"{mean.name} is {said}, its objects give {made}; score again")

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

    def _percent(self, content: Mapping[str, Any], key: str, where: str = "") -> float:
        value = content.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e-9 <= value <= 100 + 1e-9:
            self._stop(f"{_join(where, key)} is {_shown(value)}, expected a number from 0 to 100")
        return float(value)

    def _no_number(self, word: str) -> NoReturn:
        self._stop(f"has {word}, which is no JSON number")

    def _stop(self, problem: str) -> NoReturn:
        raise EvaluationError(f"{self._path}: {problem}")


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _shown(value: Any) -> str:
    """A value as a line of text that says enough and hides nothing."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return "missing" if value is None else f"{value!r:.80}"
