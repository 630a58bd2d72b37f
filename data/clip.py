"""The shapes a clip takes on its way to the model: found in a source, annotated video, training clip, batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # sources and settings name clips, and need no torch
    import torch
    from torch import Tensor


class DataError(ValueError):
    """Something is wrong with a file or a sample; the message names both and the remedy.

    `code` is its kind as `sam2 data check` reports it; "": no particular one.
    """

    def __init__(self, message: str = "", code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class VideoFile:
    """A video; annotated frame k is its frame `frame_index[k]`."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the pixels come from."""
        return (self.path,)


@dataclass(frozen=True)
class ImageFiles:
    """One image file for each annotated frame."""

    paths: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The file, or the folder of several: what messages name."""
        return self.paths[0] if len(self.paths) == 1 else self.paths[0].parent

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the pixels come from."""
        return self.paths


@dataclass(frozen=True)
class Pictures:
    """Pictures that the source computes, the slices of a volume for instance.

    `read` yields one for each annotated frame, (H, W) or (H, W, 3) uint8; `path` is what messages name.
    """

    path: Path
    files: tuple[Path, ...]
    read: Callable[[], Iterator[NDArray[np.uint8]]]


Media = VideoFile | ImageFiles | Pictures


@dataclass(frozen=True)
class AnnotatedVideo:
    """One video or image of a source, with the masks of its objects, before it is written to a shard.

    Attributes:
        key: unique in the dataset, `[a-z0-9_-]+`.
        media: what holds the pixels.
        height: pixels, of the media and of every mask.
        width: pixels, of the media and of every mask.
        fps: frames per second of the numbers in `frame_index`; 0 for an image, which then is its one frame.
        frame_index: for annotated frame k, its frame number in the video file, or in the video that the images show.
        object_ids: identity of each object in the source.
        masks: `masks[object][annotated frame]`, a COCO compressed RLE string; "" where the object is absent.
        meta: whatever else the source knows (license, split, per-object type, ...), JSON types only.
    """

    key: str
    media: Media
    height: int
    width: int
    fps: float
    frame_index: tuple[int, ...]
    object_ids: tuple[int, ...]
    masks: tuple[tuple[str, ...], ...]
    meta: dict[str, Any]


@dataclass(frozen=True)
class SourceClip:
    """A clip that a source has found and not read yet.

    Attributes:
        key: as that of the `AnnotatedVideo` it will be.
        read: reads its annotation and masks; raises DataError if that cannot be done. Called in any thread.
        group: what must stay together when a data set is split (the video, the patient); "": the clip alone.
    """

    key: str
    read: Callable[[], AnnotatedVideo]
    group: str = ""


@dataclass(frozen=True)
class Clip:
    """One training clip on the host: T frames, O objects, all at model size S.

    `frames` (T, 3, S, S) uint8 RGB; `masks` (T, O, S, S) bool; `object_ids` O source ids;
    `source` names shard, key and frames; `seed` drives every later random draw for this clip (its clicks).
    """

    frames: Tensor
    masks: Tensor
    object_ids: tuple[int, ...]
    source: str
    seed: int


@dataclass(frozen=True)
class ClipBatch:
    """B clips of equal length, their objects side by side.

    `frames` (T, B, 3, S, S) uint8; `masks` (T, O, S, S) bool with O the objects of all clips;
    `video_of_object` (O,) int64, the clip each object belongs to; `object_seeds` (O,) int64, one seed an object;
    `step` the micro-batch number in the run (the prompt plan is a function of it and the run's seed);
    `sources` names the clips; `skipped` counts the samples that were replaced to make this batch.
    """

    frames: Tensor
    masks: Tensor
    video_of_object: Tensor
    object_seeds: Tensor
    step: int
    sources: tuple[str, ...]
    skipped: int = 0

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ClipBatch:
        """The same batch on another device; the seeds stay on the host, where they are read."""
        tensors = {
            name: getattr(self, name).to(device, non_blocking=non_blocking)
            for name in ("frames", "masks", "video_of_object")
        }
        return replace(self, **tensors)

    def pin_memory(self) -> ClipBatch:
        """The same batch in page-locked host memory."""
        tensors = {name: getattr(self, name).pin_memory() for name in ("frames", "masks", "video_of_object")}
        return replace(self, **tensors)


def collate(clips: Sequence[Clip], step: int, skipped: int = 0) -> ClipBatch:
    """Put clips of equal length side by side; objects that are absent in a frame keep an empty mask."""
    import torch

    lengths = {clip.frames.shape[0] for clip in clips}
    if len(lengths) != 1:
        raise DataError(f"clips of one batch must have one length, got {sorted(lengths)}")
    owner = [i for i, clip in enumerate(clips) for _ in clip.object_ids]
    seeds = [object_seed(clip.seed, j) for clip in clips for j in range(len(clip.object_ids))]
    return ClipBatch(
        frames=torch.stack([clip.frames for clip in clips], dim=1),
        masks=torch.cat([clip.masks for clip in clips], dim=1) if len(clips) > 1 else clips[0].masks,
        video_of_object=torch.tensor(owner, dtype=torch.int64),
        object_seeds=torch.tensor(seeds, dtype=torch.int64),
        step=step,
        sources=tuple(clip.source for clip in clips),
        skipped=skipped,
    )


def object_seed(clip_seed: int, position: int) -> int:
    """A 63-bit seed for the object at `position` in its clip (splitmix64 of both)."""
    z = (clip_seed + 0x9E3779B97F4A7C15 * (position + 1)) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (z ^ (z >> 31)) >> 1
