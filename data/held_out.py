"""Annotated videos for evaluation by tracking from the first masks: nothing random, nothing left out for speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.clip import DataError
from data.decode import decode_frames, decode_masklet, read_masks
from data.index import ShardIndex
from data.quarantine import SampleError
from data.shard import MASKS
from data.storage.access import Access
from data.storage.place import shown
from data.warp import resize

_CHUNK = 16  # frames at full size held in memory together


@dataclass(frozen=True)
class HeldOutVideo:
    """One video with its truth, from the first annotated frame in which an object is visible to the last.

    Attributes:
        key: of the sample.
        frames: (T, 3, S, S) uint8, resized as training clips are (bilinear, antialiased).
        truth: (T, H, W) uint8 or uint16 at the video's own size: 0 is background, k + 1 the object at position k of
            `object_ids`. Where objects overlap, the smaller one is on top.
        object_ids: identity in the source of each of the O objects that are visible in the first of these frames; what
            appears later is background.
    """

    key: str
    frames: Tensor
    truth: NDArray[np.uint8] | NDArray[np.uint16]
    object_ids: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video, pixels."""
        return self.truth.shape[1], self.truth.shape[2]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(T, O, H, W), each object on its own."""
        return self.truth[:, None] == np.arange(1, len(self.object_ids) + 1)[:, None, None]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, frame: int) -> Tensor:
        """A frame, (3, S, S) uint8."""
        return self.frames[frame]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> HeldOutVideo:
        """The same video with its frames on another device."""
        return replace(self, frames=self.frames.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class HeldOut:
    """Some videos of a folder of shards, in the order of the index; each is read when it is asked for.

    Attributes:
        index: of the shards.
        size: side of the model's square, pixels.
        numbers: the videos that belong to it; None: all.
    """

    index: ShardIndex
    size: int
    numbers: range | None = None

    @classmethod
    def open(cls, root: Path | str, size: int, access: Access | None = None) -> HeldOut:
        """All videos of a folder.

        Raises:
            DataError: the index or a shard is not as it should be, or a video has nothing to track, or is an image.
        """
        index = ShardIndex.load(root, access).staged(access or Access())
        if index.is_image.any():
            raise DataError(
                f"{shown(root)}: holds images, and held-out videos are tracked; leave data.val_root out and score the "
                "trained model with `sam2 eval image`"
            )
        for sample in map(index.__getitem__, range(len(index))):
            if not sample.visible.any():
                raise SampleError(
                    "no object is ever visible; leave the video out", sample.shard, sample.key, MASKS
                )
        return cls(index, size)

    def __len__(self) -> int:
        return len(self.index if self.numbers is None else self.numbers)

    def __iter__(self) -> Iterator[HeldOutVideo]:
        return (self[k] for k in range(len(self)))

    def share(self, rank: int, world: int, limit: int | None = None) -> HeldOut:
        """What one of `world` processes evaluates of the first `limit` videos; together they take each once."""
        return replace(self, numbers=(self.numbers or range(len(self)))[:limit][rank::world])

    def __getitem__(self, k: int) -> HeldOutVideo:
        """Video `k` of these.

        Raises:
            SampleError: it cannot be read; an evaluation leaves nothing out.
        """
        i = range(len(self.index))[k] if self.numbers is None else self.numbers[k]
        sample = self.index[i]
        start = int(sample.visible.any(0).argmax())
        objects, frames = np.flatnonzero(sample.visible[:, start]).tolist(), range(start, sample.n_frames)
        chunks = [frames[k : k + _CHUNK] for k in range(0, len(frames), _CHUNK)]
        pixels = [
            resize(torch.from_numpy(decode_frames(self.index, i, chunk)), self.size, self.size)
            for chunk in chunks
        ]
        ids = tuple(sample.object_ids[o] for o in objects)
        return HeldOutVideo(sample.key, torch.cat(pixels).contiguous(), self._truth(i, objects, frames), ids)

    def _truth(self, i: int, objects: Sequence[int], frames: range) -> NDArray[np.uint8] | NDArray[np.uint16]:
        sample = self.index[i]
        if len(objects) > np.iinfo(np.uint16).max:
            raise DataError(f"{sample.where}: {len(objects)} objects do not fit an id map")
        table = read_masks(self.index, i)
        masklets = [decode_masklet(sample, table[o], o, frames) for o in objects]
        areas = np.array([masklet.areas for masklet in masklets])
        kind = np.uint8 if len(objects) < 256 else np.uint16
        truth = np.zeros((len(frames), sample.height, sample.width), kind)
        for t in range(len(frames)):
            for position in np.argsort(-areas[:, t], kind="stable").tolist():
                masklets[position].paste(truth[t], t, position + 1)
        return truth
