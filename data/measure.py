"""Where the masks of a clip are and how large, told from run lengths without drawing a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from data.rle import run_lengths

Runs = NDArray[np.int64] | None
"""The `run_lengths` of a mask; None: empty."""


def runs_by_frame(
    object_ids: Sequence[int], rows: Sequence[Sequence[str]], height: int, width: int
) -> Iterator[list[Runs]]:
    """The masks of all objects, a frame at a time.

    Args:
        object_ids: for messages.
        rows: COCO strings, `rows[object][frame]`, "" where the object is absent.
        height: of the picture.
        width: of the picture.

    Raises:
        DataError: a string is not such a mask; names object and frame.
    """
    for frame in range(len(rows[0]) if rows else 0):
        yield [
            run_lengths(row[frame], height, width, f"object {i}, frame {frame}") if row[frame] else None
            for i, row in zip(object_ids, rows, strict=True)
        ]


def area_of(runs: Runs) -> int:
    """Pixels of a mask."""
    return 0 if runs is None else int(runs[1::2].sum())


def centre_of(runs: NDArray[np.int64], height: int) -> tuple[float, float]:
    """Mean x and y of the pixels of a mask that is not empty; runs go down the columns."""
    stops = np.cumsum(runs)[1::2]
    lengths = runs[1::2][: len(stops)]
    starts = stops - lengths
    area = lengths.sum()
    x = (_columns_before(stops, height) - _columns_before(starts, height)).sum()
    places = (lengths * (starts + stops - 1) // 2).sum()  # of all pixels, counted down the columns
    return float(x / area), float((places - height * x) / area)


def _columns_before(place: NDArray[np.int64], height: int) -> NDArray[np.int64]:
    """The sum of the columns of all pixels before `place`."""
    column, rest = np.divmod(place, height)
    return height * (column * (column - 1) // 2) + rest * column


def shared_pixels(masks: Sequence[Runs]) -> tuple[int, tuple[int, int]]:
    """How many pixels belong to several of the masks, counted once for each further mask, and two that meet.

    Args:
        masks: of one frame.

    Returns:
        The number, and the positions of the two masks; 0 and (0, 0) where none meet.
    """
    there = [(k, runs) for k, runs in enumerate(masks) if runs is not None]
    if len(there) < 2:
        return 0, (0, 0)
    stops = [np.cumsum(runs)[1::2] for _, runs in there]
    lengths = [runs[1::2][: len(stop)] for (_, runs), stop in zip(there, stops, strict=True)]
    owner = np.repeat([k for k, _ in there], [len(stop) for stop in stops])
    stop, length = np.concatenate(stops), np.concatenate(lengths)
    order = np.lexsort((owner, stop - length))
    owner, stop, start = owner[order], stop[order], (stop - length)[order]
    reached = np.concatenate(([0], np.maximum.accumulate(stop)[:-1]))  # by the runs before
    shared = np.minimum(stop, reached) - start
    meeting = np.flatnonzero((shared > 0) & (stop > start))
    if not len(meeting):
        return 0, (0, 0)
    second = int(meeting[0])
    first = int(np.argmax(stop[:second]))
    pair = sorted((int(owner[first]), int(owner[second])))
    return int(shared[meeting].sum()), (pair[0], pair[1])
