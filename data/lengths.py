"""Are the videos of a data set long enough for the clips? Told by the index alone, before a run begins."""

from __future__ import annotations

import numpy as np

from data.clip import DataError
from data.index import ShardIndex
from data.plural import plural
from data.quarantine import allowed_bad
from data.sample import SamplingConfig, frames_needed
from data.storage.place import shown


def refuse_short_videos(
    index: ShardIndex,
    frames: int,
    sampling: SamplingConfig,
    max_bad_fraction: float,
    setting: str = "data.frames",
) -> None:
    """See that all videos but so few as may be bad hold a clip of `frames` frames.

    Args:
        index: of the data set.
        frames: of a clip.
        sampling: how clips are cut; the least stride decides how much a clip needs.
        max_bad_fraction: see data/quarantine.py; short videos are bad samples.
        setting: what the user calls `frames`.

    Raises:
        DataError: none, or too few, are long enough; says what would be.
    """
    held, needed = np.sort(index.n_frames), frames_needed(frames, sampling)
    count, fitting = len(held), int((held >= needed).sum())
    allowed = int(allowed_bad(count, count, max_bad_fraction))
    if not count or (fitting and count - fitting <= allowed):
        return
    most = (int(held[min(allowed, count - 1)]) - 1) // sampling.stride_min + 1
    stride = f" with data.sampling.stride_min={sampling.stride_min}" if sampling.stride_min > 1 else ""
    tolerated = f"; data.max_bad_fraction={max_bad_fraction} lets {allowed} be shorter" if fitting else ""
    raise DataError(
        f"{setting}={frames}{stride}, but only {fitting} of {plural(count, 'video')} in {shown(index.root)} have "
        f"{plural(needed, 'annotated frame')} (longest: {held[-1]}{tolerated}); lower {setting} to {most} or less"
        + (", or the stride" if stride else "")
    )
