"""Does memory grow with the length of a video: sampled while it is followed, fitted over all videos.

Two views: what the session holds, exact and the same every time, and what process and GPU occupy, which includes
everything else and is noisy. Formula: docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from sam2.held_memory import held_bytes, resident_bytes
from sam2.video_session import VideoSession

Numbers = dict[str, float | None]
Samples = Mapping[str, Sequence[int | None]]

WARM_UP = 32  # frames after the last object came; the reference's memory is full after 16, strided's after 24
EVERY = 4  # frames between samples
LEAST = 12  # frames from the first sample to the last one; shorter videos say nothing
HOLDERS = ("state", "process", "device")


@dataclass
class MemoryLog:
    """Bytes at some frames of a video: of the session's tensors, of the process, and allocated on its GPU.

    Attributes:
        since: frame on which the last object comes.
        samples: `frame` and a list for each of `HOLDERS`; None where there is no such thing.
    """

    since: int
    samples: dict[str, list[int | None]] = field(
        default_factory=lambda: {name: [] for name in ("frame", *HOLDERS)}
    )

    def note(self, frame: int, session: VideoSession) -> None:
        """Take a sample after a frame, if it is time."""
        after = frame - self.since - WARM_UP
        if after < 0 or after % EVERY:
            return
        on_gpu = session.device.type == "cuda"
        row = {
            "frame": frame,
            "state": held_bytes(session),
            "process": resident_bytes(),
            "device": torch.cuda.memory_allocated(session.device) if on_gpu else None,
        }
        for name, value in row.items():
            self.samples[name].append(value)


def growth(videos: Sequence[Samples]) -> Numbers:
    """MB (1e6 bytes) that memory grows in 100 frames, over all videos that are long enough.

    One slope for all and a level for each video, by least squares: long videos weigh most.

    Args:
        videos: `MemoryLog.samples` each.

    Returns:
        `state_growth_mb`, `process_growth_mb`, `device_growth_mb`: None where nothing was measured; `growth_videos`:
        how many were long enough.
    """
    long = [video for video in videos if _span(video) >= LEAST]
    slopes = {f"{name}_growth_mb": _slope(long, name) for name in HOLDERS}
    return {**slopes, "growth_videos": float(len(long))}


def _span(video: Samples) -> int:
    frames = [frame for frame in video["frame"] if frame is not None]
    return frames[-1] - frames[0] if frames else 0


def _slope(videos: Sequence[Samples], name: str) -> float | None:
    """MB in 100 frames; exactly 0 where nothing ever changes."""
    along, spread = 0.0, 0.0
    for video in videos:
        if any(value is None for value in video[name]):
            continue
        frames, held = (np.array(column, np.float64) for column in (video["frame"], video[name]))
        frames -= frames.mean()
        along += float(frames @ (held - held[0]))
        spread += float(frames @ frames)
    return 100 * along / spread / 1e6 if spread else None
