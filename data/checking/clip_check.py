"""What can be wrong with a clip whatever it comes from, told from its masks; and with clips side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data.checking.finding import Finding
from data.measure import area_of, runs_by_frame, shared_pixels
from data.plural import plural

TINY_PIXELS = 10
# Shrunk to a model of 1024 px, such an object covers less than one of the 4 x 4 px cells that masks are predicted in.
TINY_SHARE = 16 / 1024**2
MOST_PALETTE = 255


@dataclass(frozen=True)
class ClipMasks:
    """The masks of a clip and where messages say they are.

    Attributes:
        where: shard and clip, or file and clip.
        object_ids: of O objects.
        rows: COCO strings, `rows[object][frame]`, "" where the object is absent.
        height: of the picture and of every mask.
        width: likewise.
    """

    where: str
    object_ids: Sequence[int]
    rows: Sequence[Sequence[str]]
    height: int
    width: int


@dataclass
class _Overlap:
    """What is known of objects that share pixels."""

    frames: int = 0
    pixels: int = 0
    first: tuple[int, int, int] | None = None  # frame, and the positions of two objects

    def add(self, frame: int, shared: int, pair: tuple[int, int]) -> None:
        if shared:
            self.frames += 1
            self.pixels += shared
            self.first = self.first or (frame, *pair)


def measure_clip(clip: ClipMasks) -> tuple[NDArray[np.int64], list[Finding]]:
    """Pixels of every mask, (O, T), and what is wrong or remarkable.

    Raises:
        DataError: a string is not a mask of this size; names object and frame.
    """
    areas, overlap = [], _Overlap()
    for frame, masks in enumerate(runs_by_frame(clip.object_ids, clip.rows, clip.height, clip.width)):
        areas.append([area_of(runs) for runs in masks])
        overlap.add(frame, *shared_pixels(masks))
    found = np.array(areas, np.int64).reshape(len(areas), len(clip.object_ids)).T
    return found, [*_check_ids(clip), *_check_areas(clip, found), *_check_overlap(clip, overlap)]


def _check_ids(clip: ClipMasks) -> Iterator[Finding]:
    ids = clip.object_ids
    repeated = [i for i, count in Counter(ids).items() if count > 1]
    if repeated:
        message = f"{_objects(repeated)} there more than once"
        yield Finding("error", "duplicate-id", clip.where, message, "give every object an id of its own")
    highest = max(ids, default=0)
    if highest > MOST_PALETTE:
        message = f"object ids go up to {highest}, an 8-bit mask holds {MOST_PALETTE}"
        remedy = "no matter for training; number objects from 1 for tools that read palette images"
        yield Finding("note", "ids-above-255", clip.where, message, remedy)
        return
    lowest = 1 if clip.rows and len(clip.rows[0]) > 1 else min(ids, default=1)  # those of images may run on
    missing = sorted(set(range(max(lowest, 1), highest)) - set(ids))
    if missing:
        message = f"ids are {_list(sorted(ids))}: {_list(missing)} left out"
        yield Finding("note", "label-gap", clip.where, message, "see whether an object was lost on the way")


def _check_areas(clip: ClipMasks, areas: NDArray[np.int64]) -> Iterator[Finding]:
    largest = areas.max(1, initial=0)
    never = [i for i, pixels in zip(clip.object_ids, largest, strict=True) if not pixels]
    if len(never) == len(clip.object_ids):
        message = "no object is visible in any frame: training cannot use this clip"
        yield Finding("warning", "nothing-visible", clip.where, message, "remove the clip or annotate it")
    elif never:
        remedy = "harmless; left out of the source it would save room"
        yield Finding(
            "warning", "never-visible", clip.where, f"{_objects(never)} visible in no frame", remedy
        )
    limit = max(TINY_PIXELS, TINY_SHARE * clip.height * clip.width)
    tiny = [i for i, pixels in zip(clip.object_ids, largest, strict=True) if 0 < pixels < limit]
    if tiny:
        message = f"{_objects(tiny)} never larger than {plural(int(max(largest[largest < limit])), 'pixel')}"
        remedy = "remove stray pixels, or leave such objects out of training with data.sampling.min_area"
        yield Finding("warning", "tiny-object", clip.where, message, remedy)


def _check_overlap(clip: ClipMasks, overlap: _Overlap) -> Iterator[Finding]:
    if overlap.first is None:
        return
    frame, *pair = overlap.first
    one, other = (clip.object_ids[k] for k in pair)
    message = f"masks of {plural(overlap.frames, 'frame')} overlap by {plural(overlap.pixels, 'pixel')}, first objects"
    message += f" {one} and {other} in frame {frame}"
    yield Finding("note", "overlap", clip.where, message, "usual where parts or hidden objects are annotated")


def _objects(ids: Sequence[int]) -> str:
    return f"object {ids[0]} is" if len(ids) == 1 else f"objects {_list(ids)} are"


def _list(ids: Sequence[int], most: int = 20) -> str:
    return ", ".join(map(str, ids[:most])) + (", ..." if len(ids) > most else "")


@dataclass
class SideBySide:
    """What only shows when clips are compared; they are added in their order.

    Attributes:
        keys: where the first clip with each key is.
        media: where the first clip with each content is, by a digest of its pixels' files.
        sizes: how many clips have each height and width.
    """

    keys: dict[str, str] = field(default_factory=dict)
    media: dict[str, str] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add_key(self, key: str, where: str) -> Iterator[Finding]:
        """Another clip called `key`."""
        if key in self.keys:
            message = f"the key appears a second time, first in {self.keys[key]}"
            remedy = "rename one of the clips and convert again"
            yield Finding("error", "duplicate-key", where, message, remedy)
        self.keys.setdefault(key, where)

    def add_media(self, digest: str, where: str) -> Iterator[Finding]:
        """Another clip whose pixels have this digest."""
        if digest in self.media:
            message = f"has the same pictures as {self.media[digest]}"
            remedy = "keep one of them, or see that both are in the same split"
            yield Finding("warning", "duplicate-media", where, message, remedy)
        self.media.setdefault(digest, where)

    def finish(self, root: str) -> Iterator[Finding]:
        """What all clips together show."""
        if len(self.sizes) > 1:
            smallest, largest = min(self.sizes, key=_pixels), max(self.sizes, key=_pixels)
            message = f"pictures have {len(self.sizes)} sizes, from {_size(smallest)} to {_size(largest)}"
            remedy = "no matter for training: each is resized to the model's square"
            yield Finding("note", "mixed-sizes", root, message, remedy)


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
