"""What a clip is like: sizes, lengths, and where its objects are; from shards or a source, no picture decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data.clip import DataError, SourceClip
from data.decode import read_masks
from data.in_order import in_order
from data.index import ShardIndex
from data.measure import area_of, centre_of, runs_by_frame
from data.sources import VideoSource
from data.storage.place import StorageError

Progress = Callable[[int, int], None]
"""Called with (clips done, clips in all)."""


@dataclass(frozen=True)
class ClipFacts:
    """One clip of O objects and T annotated frames.

    Attributes:
        is_image: whether it is one.
        height: of the picture.
        width: of the picture.
        fps: annotated frames a second; 0 if unknown.
        visible: (O, T) bool.
        areas: (O, T) pixels; None: not read.
        centres: (O, T, 2) mean x and y of each mask, not a number where it is empty; None: not read.
        labels: what the source says: "source", "license", "split".
    """

    is_image: bool
    height: int
    width: int
    fps: float
    visible: NDArray[np.bool_]
    areas: NDArray[np.int64] | None
    centres: NDArray[np.float64] | None
    labels: dict[str, str]


def facts_of_shards(
    index: ShardIndex, is_fast: bool, workers: int, progress: Progress | None = None
) -> Iterator[ClipFacts | DataError]:
    """Every sample of shards, or why its masks cannot be read.

    Args:
        index: of the shards.
        is_fast: read nothing but the index: no areas, no centres, no labels.
        workers: samples read at the same time.
        progress: called as samples are done.
    """
    work = partial(_indexed if is_fast else _stored, index)
    yield from _counted(in_order(work, range(len(index)), workers), len(index), progress)


def facts_of_source(
    source: VideoSource, is_fast: bool, workers: int, progress: Progress | None = None
) -> Iterator[ClipFacts | DataError]:
    """Every clip of a source, or why it cannot be read.

    Args:
        source: see `data.sources`.
        is_fast: measure no mask: no areas, no centres.
        workers: clips read at the same time.
        progress: called as clips are done.

    Raises:
        DataError: the layout is not the source's.
    """
    clips = source.clips()
    yield from _counted(in_order(partial(_read, is_fast), clips, workers), len(clips), progress)


def _counted(
    results: Iterator[ClipFacts | DataError], total: int, progress: Progress | None
) -> Iterator[ClipFacts | DataError]:
    for done, result in enumerate(results, 1):
        yield result
        if progress:
            progress(done, total)


def _indexed(index: ShardIndex, i: int) -> ClipFacts:
    """What the index says of sample `i`."""
    sample = index[i]
    steps = np.diff(sample.frame_index)
    fps = sample.fps / max(1, int(np.median(steps))) if len(steps) else 0.0
    return ClipFacts(sample.kind == "image", sample.height, sample.width, fps, sample.visible, None, None, {})


def _stored(index: ShardIndex, i: int) -> ClipFacts | DataError:
    """All of sample `i` but its pixels."""
    known, sample = _indexed(index, i), index[i]
    try:
        meta = index.meta(i)
        areas, centres = measured(sample.object_ids, read_masks(index, i), sample.height, sample.width)
    except StorageError:  # of no sample, of the way to it
        raise
    except DataError as error:
        return error
    labels = {"source": meta.source, "license": meta.license, "split": meta.split}
    return ClipFacts(known.is_image, known.height, known.width, known.fps, areas > 0, areas, centres, labels)


def _read(is_fast: bool, clip: SourceClip) -> ClipFacts | DataError:
    """All of a clip but its pixels."""
    try:
        video = clip.read()
        if is_fast:
            areas, centres = None, None
            visible = np.array([[bool(counts) for counts in row] for row in video.masks], bool)
            visible = visible.reshape(len(video.object_ids), len(video.frame_index))
        else:
            areas, centres = measured(video.object_ids, video.masks, video.height, video.width)
            visible = areas > 0
    except DataError as error:
        return error
    steps = np.diff(video.frame_index)
    fps = video.fps / max(1, int(np.median(steps))) if len(steps) else 0.0
    labels = {name: str(video.meta.get(name, "")) for name in ("source", "license", "split")}
    is_image = video.fps == 0
    return ClipFacts(is_image, video.height, video.width, fps, visible, areas, centres, labels)


def measured(
    object_ids: tuple[int, ...], rows: list[list[str]] | tuple[tuple[str, ...], ...], height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Areas (O, T) and centres (O, T, 2) of masks.

    Raises:
        DataError: a string is not a mask of this size.
    """
    objects, frames = len(rows), len(rows[0]) if rows else 0
    areas, centres = np.zeros((objects, frames), np.int64), np.full((objects, frames, 2), np.nan)
    for t, masks in enumerate(runs_by_frame(object_ids, rows, height, width)):
        for k, runs in enumerate(masks):
            areas[k, t] = area_of(runs)
            if runs is not None and areas[k, t]:
                centres[k, t] = centre_of(runs, height)
    return areas, centres
