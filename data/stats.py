"""What a data set is like: numbers of clips and objects, and how sizes, lengths, visibility and motion are spread."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.clip import DataError
from data.facts import ClipFacts

BINS = 10


@dataclass(frozen=True)
class Quantity:
    """Something that is measured many times; `is_log`: bins grow by a factor, for what spans powers of ten."""

    name: str
    meaning: str
    is_log: bool = False


QUANTITIES = (
    Quantity("short_side", "shorter side of the picture, pixels"),
    Quantity("long_side", "longer side of the picture, pixels"),
    Quantity("frames", "annotated frames of a video"),
    Quantity("seconds", "length of a video, first to last annotated frame"),
    Quantity("objects", "objects of a clip"),
    Quantity("area", "area of an object where visible, share of the picture", is_log=True),
    Quantity("visibility", "share of a video's frames in which an object is visible"),
    Quantity("reappearances", "how often an object of a video comes back"),
    Quantity(
        "motion", "median move of an object from frame to frame, in side lengths of it (root of its area)"
    ),
)


@dataclass(frozen=True)
class Distribution:
    """How a quantity is spread.

    Attributes:
        count: how many values there are.
        min: the smallest.
        median: the middle one.
        mean: their mean.
        max: the largest.
        edges: of the bins, one more than there are.
        counts: values in each bin; the last one holds its upper edge.
    """

    count: int
    min: float
    median: float
    mean: float
    max: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass
class Statistics:
    """Of a data set whose clips are added one by one."""

    clips: int = 0
    images: int = 0
    annotated_frames: int = 0
    objects: int = 0
    masks: int = 0
    unreadable: list[str] = field(default_factory=list)
    values: dict[str, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    labels: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, clip: ClipFacts) -> None:
        """Count a clip."""
        objects, frames = clip.visible.shape
        self.clips += 1
        self.images += clip.is_image
        self.annotated_frames += frames
        self.objects += objects
        self.masks += int(clip.visible.sum())
        self.values["short_side"].append(min(clip.height, clip.width))
        self.values["long_side"].append(max(clip.height, clip.width))
        self.values["objects"].append(objects)
        for name, label in clip.labels.items():
            self.labels[name][label or "not stated"] += 1
        if clip.areas is not None:
            self.values["area"].extend(_mean_areas(clip.areas) / (clip.height * clip.width))
        if not clip.is_image:
            self._add_video(clip, frames)

    def _add_video(self, clip: ClipFacts, frames: int) -> None:
        self.values["frames"].append(frames)
        if clip.fps > 0:
            self.values["seconds"].append((frames - 1) / clip.fps)
        self.values["visibility"].extend(clip.visible.mean(1))
        self.values["reappearances"].extend(reappearances(clip.visible))
        if clip.areas is not None and clip.centres is not None:
            self.values["motion"].extend(motion(clip.areas, clip.centres))

    def distributions(self) -> dict[str, Distribution]:
        """How every quantity of which there are values is spread."""
        return {q.name: spread(self.values[q.name], q.is_log) for q in QUANTITIES if self.values[q.name]}

    def summary(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "clips": self.clips,
            "images": self.images,
            "videos": self.clips - self.images,
            "annotated_frames": self.annotated_frames,
            "objects": self.objects,
            "masks": self.masks,
            "unreadable": self.unreadable,
            "distributions": {name: vars(found) for name, found in self.distributions().items()},
            **{f"{name}s": dict(found.most_common()) for name, found in self.labels.items()},
        }


def gather(clips: Iterable[ClipFacts | DataError]) -> Statistics:
    """The statistics of all clips; those that cannot be read are listed."""
    found = Statistics()
    for clip in clips:
        if isinstance(clip, DataError):
            found.unreadable.append(str(clip))
        else:
            found.add(clip)
    return found


def reappearances(visible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(O,) how often each object of (O, T) becomes visible again after it was hidden or away."""
    starts = np.diff(visible.astype(np.int8), axis=1, prepend=0) == 1
    return np.maximum(starts.sum(1) - 1, 0)


def motion(areas: NDArray[np.int64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median step of each object, in its own side lengths; of objects never visible in two frames running, none.

    Args:
        areas: (O, T) pixels.
        centres: (O, T, 2), not a number where an object is absent.
    """
    there = (areas[:, 1:] > 0) & (areas[:, :-1] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.linalg.norm(np.diff(centres, axis=1), axis=2) / np.sqrt(areas[:, :-1])
    return np.array([np.median(row[fine]) for row, fine in zip(steps, there, strict=True) if fine.any()])


def _mean_areas(areas: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pixels of each object that is ever visible, the mean over the frames in which it is."""
    seen = (areas > 0).sum(1)
    return areas.sum(1)[seen > 0] / seen[seen > 0]


def spread(values: Iterable[float], is_log: bool = False) -> Distribution:
    """The distribution of one or more values."""
    found = np.array(values, np.float64)
    edges = _edges(found, is_log)
    counts, _ = np.histogram(found, edges)
    return Distribution(
        count=len(found),
        min=float(found.min()),
        median=float(np.median(found)),
        mean=float(found.mean()),
        max=float(found.max()),
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


def _edges(values: NDArray[np.float64], is_log: bool) -> NDArray[np.float64]:
    """Bins from the least value to the largest; a few whole numbers have a bin each."""
    low, high = float(values.min()), float(values.max())
    if (values == np.round(values)).all() and high - low < BINS:
        return np.arange(low, high + 2) - 0.5
    if is_log and low > 0 and high > low:
        edges = np.geomspace(low, high, BINS + 1)
        edges[0], edges[-1] = low, high  # which rounding may have moved
        return edges
    return np.histogram_bin_edges(values, BINS)
