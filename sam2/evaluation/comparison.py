"""Whether one result is better than another: paired over the videos (images, volumes) of one test.

Both sides are drawn together (the same resamples of the same videos), so that what is hard for both cancels. The
p-value flips signs of whole videos: if the two are alike, each video could as well have gone the other way.
Formulas and edge cases: docs/evaluation.md. Held by tests/sam2/evaluation/test_comparison.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sam2.evaluation.boundary import Floats
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.files import write_atomically
from sam2.evaluation.results_file import Results
from sam2.evaluation.scores import Mean
from sam2.evaluation.uncertainty import (
    DIFFERENCE,
    Bootstrap,
    Interval,
    VideoSums,
    intervals,
    video_sums,
    videos_of,
)

FORMAT = "sam2-train/comparison/1"
EXACT_VIDEOS = 16  # up to so many videos that differ all patterns of signs are tried
FLIPS = 20_000  # patterns drawn where there are more
TIE = 1e-9  # points: less is rounding
_FLIPPED_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Difference:
    """One number on both sides, over the objects that have it on both.

    Attributes:
        mean: the number.
        objects: how many objects these are.
        first: its value in the first file.
        other: in the other one.
        difference: other less first.
        interval: of the difference; None where videos are too few.
        p: two-sided p-value.
    """

    mean: Mean
    objects: int
    first: float
    other: float
    difference: float
    interval: Interval | None
    p: float

    @property
    def name(self) -> str:
        """Of the number."""
        return self.mean.name


@dataclass(frozen=True)
class VideoChange:
    """A video's (image's, volume's) mean over its objects on both sides."""

    sequence: str
    first: float
    other: float

    @property
    def difference(self) -> float:
        """Other less first."""
        return self.other - self.first


@dataclass(frozen=True)
class Comparison:
    """A file against the first one.

    Attributes:
        first, other: the two.
        differences: of each number that an object has on both sides, the one that leads first.
        videos: each with the mean of what the leading number is made of, by name.
        flips: how many patterns of signs a p-value is made of; None: all of them, it is exact.
    """

    first: Results
    other: Results
    differences: tuple[Difference, ...]
    videos: tuple[VideoChange, ...]
    flips: int | None

    @cached_property
    def outcome(self) -> dict[str, int]:
        """How many videos the other file wins, loses and ties."""
        changes = np.array([video.difference for video in self.videos])
        counts = {"wins": changes > TIE, "losses": changes < -TIE, "ties": np.abs(changes) <= TIE}
        return {name: int(which.sum()) for name, which in counts.items()}

    def gains(self, rows: int) -> list[VideoChange]:
        """The videos that gained most."""
        better = (video for video in self.videos if video.difference > TIE)
        return list(islice(sorted(better, key=lambda v: -v.difference), rows))

    def losses(self, rows: int) -> list[VideoChange]:
        """The videos that lost most."""
        worse = (video for video in self.videos if video.difference < -TIE)
        return list(islice(sorted(worse, key=lambda v: v.difference), rows))

    @cached_property
    def settings(self) -> dict[str, tuple[Any, Any]]:
        """What the two runs were told differently, both values by name; speed is no setting."""
        one, two = (_flat({**side.run, "speed": None}) for side in (self.first, self.other))
        pairs = {name: (one.get(name), two.get(name)) for name in sorted({*one, *two})}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def compare(first: Results, other: Results, how: Bootstrap | None = None) -> Comparison:
    """Compare `other` with `first`.

    Args:
        first: what the differences are taken from.
        other: of the same protocol, frames and objects.
        how: level, number and seed of the draws.

    Raises:
        EvaluationError: they answer different questions; it names what differs.
    """
    how = how or Bootstrap()
    refuse_unlike(first, other)
    pairs = {mean.name: pair for mean in first.means if (pair := _Pair.of(mean, first, other)) is not None}
    ends = intervals({name: pair.change for name, pair in pairs.items()}, DIFFERENCE, how)
    differences = tuple(pair.difference(ends[name], how.seed) for name, pair in pairs.items())
    lead = first.means[0]
    whole = [video_sums(side.objects, lead.values(side.objects)) for side in (first, other)]
    each = [(sums.values / sums.objects)[:, 0].tolist() for sums in whole]
    videos = tuple(map(VideoChange, videos_of(first.objects), *each))
    most = max(_moving(pair.change.shares).size for pair in pairs.values())
    return Comparison(first, other, differences, videos, None if most <= EXACT_VIDEOS else FLIPS)


@dataclass(frozen=True)
class _Pair:
    """What a number is made of on both sides, and their difference, object by object."""

    mean: Mean
    before: VideoSums
    after: VideoSums
    change: VideoSums

    @classmethod
    def of(cls, mean: Mean, first: Results, other: Results) -> _Pair | None:
        """Of the objects that have the number on both sides; None if there are none."""
        one, two = (mean.values(side.objects) for side in (first, other))
        change = two - one
        if np.isnan(change).all():
            return None
        one, two = (np.where(np.isnan(change), np.nan, values) for values in (one, two))
        return cls(
            mean, *(video_sums(first.objects, v, mean.by_part, mean.bounds) for v in (one, two, change))
        )

    def difference(self, interval: Interval | None, seed: int) -> Difference:
        """What is said about it."""
        return Difference(
            self.mean,
            int(self.change.objects.sum()),
            self.before.mean,
            self.after.mean,
            self.change.mean,
            interval,
            sign_flip(self.change.shares, seed),
        )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in groups by dotted names; groups in groups stay as they are."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        group = value if isinstance(value, Mapping) else {}
        flat |= {f"{name}.{key}": item for key, item in group.items()} if group else {name: value}
    return flat


def refuse_unlike(first: Results, other: Results) -> None:
    """Stop unless both answer the same question.

    Raises:
        EvaluationError: naming the files, what differs, and both values.
    """
    if first.kind is not other.kind:
        _refuse(first, other, "format", first.kind.format, other.kind.format)
    for key, value in first.test.items():
        if other.test[key] != value:
            _refuse(first, other, key, value, other.test[key])
    for key in first.kind.asked:
        if first.run and other.run and first.run.get(key) != other.run.get(key):
            _refuse(first, other, f"run.{key}", first.run.get(key), other.run.get(key))
    mine, theirs = ({(o.sequence, o.object_id, o.part) for o in side.objects} for side in (first, other))
    for side, alone in ((first, mine - theirs), (other, theirs - mine)):
        if alone:
            sequence, name, part = min(alone, key=str)
            raise EvaluationError(
                f"{first.path} and {other.path} have different objects: {side.path} has {len(alone)} that the other "
                f"has not, such as object {name} of the sequence {sequence}{f' ({part})' if part else ''}; "
                "score both against the same ground truth and lists"
            )
    if first.means != other.means:
        _refuse(first, other, "the list of numbers", *(", ".join(side.totals) for side in (first, other)))


def _refuse(first: Results, other: Results, key: str, one: Any, two: Any) -> None:
    raise EvaluationError(
        f"{first.path} and {other.path} cannot be compared: {key} is {one!r:.100} in the first and {two!r:.100} in the "
        "other; evaluate both in the same way"
    )


def _moving(shares: Floats) -> Floats:
    """Those of videos that differ; flipping the others changes nothing."""
    return shares[np.abs(shares) > TIE / max(1, len(shares))]


def sign_flip(shares: Floats, seed: int) -> float:
    """Two-sided p-value: how often random signs of the videos give a sum as far from 0 as theirs.

    Args:
        shares: what each video adds to the difference.
        seed: of the patterns of signs, where these are too many to try all.

    Returns:
        Exact with at most EXACT_VIDEOS videos that differ, else (1 + as far) / (1 + FLIPS), which is valid, too.
    """
    moving = _moving(shares)
    n = len(moving)
    least = abs(float(moving.sum())) * (1 - 1e-9) - 1e-12  # sums of the same terms differ by rounding
    if n <= EXACT_VIDEOS:
        # the last sign is fixed: a pattern and its opposite are as far from 0
        patterns = np.arange(1 << max(n - 1, 0))
        signs = 1 - 2 * (patterns[:, None] >> np.arange(n) & 1)
        return float(np.mean(np.abs(signs @ moving) >= least))
    random = np.random.default_rng([seed, 1])  # not the numbers that draw videos
    rows, far = max(1, _FLIPPED_AT_ONCE // n), 0
    for start in range(0, FLIPS, rows):
        signs = 1 - 2 * random.integers(0, 2, (min(rows, FLIPS - start), n), dtype=np.int8)
        far += int(np.sum(np.abs(signs @ moving) >= least))
    return (1 + far) / (1 + FLIPS)


def as_json(comparisons: Sequence[Comparison], how: Bootstrap) -> dict[str, Any]:
    """The content of a comparison file; every file is against the first."""
    first = comparisons[0].first
    return {
        "format": FORMAT,
        "of": first.kind.format,
        "first": str(first.path),
        **first.test,
        first.kind.unit: len(comparisons[0].videos),
        "objects": len(first.objects),
        "level": how.level,
        "resamples": how.resamples,
        "seed": how.seed,
        "unit": first.kind.unit,
        "method": DIFFERENCE.method,
        "test": f"sign flips of whole {first.kind.unit}, two-sided",
        "comparisons": [_comparison(found) for found in comparisons],
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "file": str(found.other.path),
        "flips": "all" if found.flips is None else found.flips,
        "settings": {name: list(pair) for name, pair in found.settings.items()},
        "numbers": {d.name: _difference(d) for d in found.differences},
        **found.outcome,
        f"per_{found.first.kind.one}": [
            {"sequence": v.sequence, "first": v.first, "other": v.other, "difference": v.difference}
            for v in found.videos
        ],
    }


def _difference(found: Difference) -> Mapping[str, Any]:
    return {
        "unit": found.mean.unit,
        "less_is_better": found.mean.less_is_better,
        "objects": found.objects,
        "first": found.first,
        "other": found.other,
        "difference": found.difference,
        "interval": None if found.interval is None else list(found.interval),
        "p": found.p,
    }


def write_json(path: Path, comparisons: Sequence[Comparison], how: Bootstrap) -> None:
    """Write `as_json`, whole or not at all."""
    write_atomically(path, json.dumps(as_json(comparisons, how), indent=1, allow_nan=False) + "\n")
