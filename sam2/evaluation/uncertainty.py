"""How far a mean over the objects of a benchmark would move if its videos were others of the same kind.

Videos are the unit: the objects and frames of one resemble each other, so that only whole videos are drawn again.
The method is the studentised bootstrap ("bootstrap-t") of a ratio of sums. Percentile, BCa and Student's t cover too
little with tens of videos and scores that pile up below 100. Differences of two scores go both ways, and what is right
for one long tail is wrong for two: their intervals are symmetric. docs/evaluation.md has the coverage of each, held by
tests/sam2/evaluation/test_uncertainty.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sam2.evaluation.boundary import Floats
from sam2.evaluation.scores import Mean, Scored

Interval = tuple[float, float]

MIN_VIDEOS = 5  # with fewer, the resamples that draw one video again and again make the interval endless
MIN_RESAMPLES, MAX_RESAMPLES = 100, 1_000_000  # what a person may ask for
_DRAWS_AT_ONCE = 1 << 21  # bounds memory: videos times resamples
_NO_SPREAD = 1e-9  # points: less is the rounding of sums


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: their level, how often videos are drawn, and the seed of the draws."""

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0

    def draws(self, videos: int) -> Iterator[Floats]:
        """How often each video is in each resample: (resamples, videos) in parts, a function of the seed alone."""
        random = np.random.default_rng(self.seed)
        rows = max(1, _DRAWS_AT_ONCE // videos)
        for start in range(0, self.resamples, rows):
            n = min(rows, self.resamples - start)
            drawn = random.integers(0, videos, (n, videos)) + videos * np.arange(n)[:, None]
            yield np.bincount(drawn.ravel(), minlength=n * videos).reshape(n, videos).astype(float)


@dataclass(frozen=True)
class Kind:
    """What an interval is of.

    Attributes:
        method: its name in files.
        bounds: from the least and greatest value that a score can have to those of the number.
        cut: from studentised resamples and a level to the two ends, in standard errors from the number.
    """

    method: str
    bounds: Callable[[Interval], Interval]
    cut: Callable[[Floats, float], Interval]


def _equal_tails(studentised: Floats, level: float) -> Interval:
    """As many resamples beyond one end as beyond the other; a long tail makes one side longer."""
    low = np.quantile(studentised, (1 - level) / 2, method="lower")
    high = np.quantile(studentised, (1 + level) / 2, method="higher")
    return -float(high), -float(low)


def _symmetric(studentised: Floats, level: float) -> Interval:
    """The same on both sides."""
    reach = float(np.quantile(np.abs(studentised), level, method="higher"))
    return -reach, reach


def _between(bounds: Interval) -> Interval:
    """What a difference of two scores can be."""
    low, high = bounds
    return low - high, high - low


SCORE = Kind("bootstrap-t", lambda bounds: bounds, _equal_tails)
DIFFERENCE = Kind("symmetric bootstrap-t", _between, _symmetric)


@dataclass(frozen=True)
class VideoSums:
    """What a mean over objects is made of, video by video (or image by image, volume by volume).

    Attributes:
        values: (videos, parts), sum over the objects of a video that belong to a part.
        objects: (videos, parts), how many these are.
        bounds: the least and the greatest value that an object's score can have.
    """

    values: Floats
    objects: Floats
    bounds: Interval = (0.0, 100.0)

    @property
    def means(self) -> Floats:
        """(parts,), the mean over the objects of each part."""
        return self.values.sum(0) / self.objects.sum(0)

    @property
    def mean(self) -> float:
        """The number itself: the mean over parts of their means over objects."""
        return float(self.means.mean())

    @property
    def shares(self) -> Floats:
        """(videos,), what each video adds to the number; they sum to it."""
        shares: Floats = (self.values / self.objects.sum(0)).mean(1)
        return shares

    @property
    def has_enough_videos(self) -> bool:
        """Whether every part has objects in MIN_VIDEOS videos."""
        return bool(((self.objects > 0).sum(0) >= MIN_VIDEOS).all())


def videos_of(objects: Sequence[Scored]) -> tuple[str, ...]:
    """The names of the videos, in the order in which they are drawn."""
    return tuple(sorted({o.sequence for o in objects}))


def video_sums(
    objects: Sequence[Scored], values: Floats, by_part: bool = False, bounds: Interval = (0.0, 100.0)
) -> VideoSums:
    """Sum values of objects by video and, where that is asked for and parts are known, by part.

    The order of the objects does not matter. Those whose value is NaN are left out.
    """
    order = sorted(range(len(objects)), key=lambda k: (objects[k].sequence, str(objects[k].object_id)))
    video = {name: v for v, name in enumerate(videos_of(objects))}
    names = [objects[k].part if by_part else None for k in order]
    part = {name: p for p, name in enumerate(sorted(set(names), key=str))}
    cells = [
        video[objects[k].sequence] * len(part) + part[name] for k, name in zip(order, names, strict=True)
    ]
    shape, ordered = (len(video), len(part)), values[order]
    sums, numbers = (
        np.bincount(cells, weights, math.prod(shape)).reshape(shape).astype(np.float64)
        for weights in (np.nan_to_num(ordered), ~np.isnan(ordered))
    )
    return VideoSums(sums, numbers, bounds)


def sums_of(mean: Mean, objects: Sequence[Scored]) -> VideoSums:
    """What a mean is made of."""
    return video_sums(objects, mean.values(objects), mean.by_part, mean.bounds)


def intervals(statistics: Mapping[str, VideoSums], kind: Kind, how: Bootstrap) -> dict[str, Interval | None]:
    """An interval for each number, all from the same draws of the same videos.

    Args:
        statistics: by name; all over the same videos.
        kind: whether they are scores or differences of scores.
        how: level, number and seed of the draws.

    Returns:
        (low, high), or None where a part of the number has objects in too few videos, or nothing bounds an end.
    """
    able = {name: sums for name, sums in statistics.items() if sums.has_enough_videos}
    found: dict[str, list[Floats]] = {name: [] for name in able}
    videos = {len(sums.values) for sums in able.values()}
    for counts in how.draws(videos.pop()) if videos else ():
        for name, sums in able.items():
            found[name].append(_studentised(sums, counts))
    ready = {
        name: _interval(sums, np.concatenate(found[name]), kind, how.level) for name, sums in able.items()
    }
    return {name: ready.get(name) for name in statistics}


def _studentised(sums: VideoSums, counts: Floats) -> Floats:
    """(number* - number) / its standard error, per resample; resamples that lack a part are left out."""
    centred = sums.values - sums.means * sums.objects
    objects = counts @ sums.objects
    counts, objects = counts[whole := (objects > 0).all(1)], objects[whole]
    moved = (
        counts @ centred / objects
    )  # (resamples, parts): how far each part's mean is from that of all videos
    # the number is, to first order, a sum of one term a video: the columns below times these weights
    columns = np.hstack([centred, sums.objects])
    weights = np.hstack([1 / objects, -moved / objects]) / objects.shape[1]
    squares = counts @ (columns[:, :, None] * columns[:, None, :]).reshape(len(columns), -1)
    squares = squares.reshape(len(counts), *2 * columns.shape[1:])
    variance = np.einsum("rp,rpq,rq->r", weights, squares, weights) * _freedom(len(columns))
    error = np.sqrt(np.maximum(variance, 0))
    change = moved.mean(1)
    change[np.abs(change) < _NO_SPREAD] = 0
    endless = np.where(change == 0, 0, np.copysign(np.inf, change))
    return np.divide(change, error, out=endless, where=error > _NO_SPREAD)


def _freedom(videos: int) -> float:
    return videos / (videos - 1)


def _interval(sums: VideoSums, studentised: Floats, kind: Kind, level: float) -> Interval | None:
    error, mean = standard_error(sums), sums.mean
    if error < _NO_SPREAD:
        return mean, mean
    low, high = kind.cut(studentised, level)
    least, most = kind.bounds(sums.bounds)
    ends = max(least, mean + low * error), min(most, mean + high * error)
    return ends if all(map(math.isfinite, ends)) else None


def standard_error(sums: VideoSums) -> float:
    """Jackknife over videos; every part must have objects in two videos or more."""
    values, objects = sums.values.sum(0) - sums.values, sums.objects.sum(0) - sums.objects
    without = (values / objects).mean(1)
    return math.sqrt(float(np.sum((without - without.mean()) ** 2)) / _freedom(len(without)))


@dataclass(frozen=True)
class Uncertainty:
    """The intervals of a benchmark's numbers.

    Attributes:
        intervals: (low, high) by the number's name; None where videos are too few.
        videos: how many there are.
        how: level, number and seed of the draws.
        unit: what they are, if they are no videos: "images", "volumes".
    """

    intervals: Mapping[str, Interval | None]
    videos: int
    how: Bootstrap
    unit: str = "videos"

    @property
    def remark(self) -> str:
        """One line: what the intervals are, or why there are none."""
        missing = [name for name, interval in self.intervals.items() if interval is None]
        videos = f"1 {self.unit[:-1]}" if self.videos == 1 else f"{self.videos} {self.unit}"
        if self.videos < MIN_VIDEOS:
            return f"no intervals: {videos}, they need {MIN_VIDEOS}"
        said = f"{100 * self.how.level:g} % intervals over {videos} ({SCORE.method}, {self.how.resamples} resamples)"
        why = f"; none for {', '.join(missing)}: too few {self.unit} have objects for it, or differ in it"
        return said + why * bool(missing)


def uncertainty(
    objects: Sequence[Scored],
    means: Sequence[Mean],
    totals: Mapping[str, float | None],
    how: Bootstrap | None = None,
    unit: str = "videos",
) -> Uncertainty:
    """Intervals for the numbers in `totals` that are means over objects.

    Args:
        objects: all that were scored.
        means: how the protocol averages them.
        totals: the benchmark's numbers; a mean that is not among them is passed over.
        how: level, number and seed of the draws.
        unit: what is drawn, for the reader.
    """
    how = how or Bootstrap()
    statistics = {mean.name: sums_of(mean, objects) for mean in means if mean.name in totals}
    return Uncertainty(intervals(statistics, SCORE, how), len(videos_of(objects)), how, unit)
