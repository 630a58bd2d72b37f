"""Clips whose frames are still as they were decoded: the device that trains on them warps and colours them.

What is drawn at random is drawn with the clip, so that it does not matter who does the work; the two differ by rounding
alone. Masks are made where the clip is read: they are small there, and large on their way to the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data.clip import Clip, ClipBatch, collate
from data.mosaic import Mosaic
from data.warp import Geometry, warp_frames


@dataclass(frozen=True)
class RawFrames:
    """The frames of a clip and what remains to be done to them.

    Attributes:
        pixels: (T, H, W, 3) uint8 RGB.
        geometry: where they go.
        colours: (T, 3, 6) float32, see `data.colour.colour_table`; None: colours stay.
        size: side of the model's square, pixels.
        mosaic: what the square is put together of; None: of one copy.
    """

    pixels: Tensor
    geometry: Geometry
    colours: Tensor | None
    size: int
    mosaic: Mosaic | None = None

    def finish(self) -> Tensor:
        """(T, 3, size, size) uint8, on the device where `pixels` is."""
        if self.mosaic is None:
            return warp_frames(self.pixels, self.geometry, self.colours, self.size)
        return self.mosaic.frames(warp_frames(self.pixels, self.geometry, self.colours, self.size // 2))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> RawFrames:
        """The same on another device."""
        colours = None if self.colours is None else self.colours.to(device, non_blocking=non_blocking)
        return replace(self, pixels=self.pixels.to(device, non_blocking=non_blocking), colours=colours)

    def pin_memory(self) -> RawFrames:
        """The same in page-locked host memory."""
        colours = None if self.colours is None else self.colours.pin_memory()
        return replace(self, pixels=self.pixels.pin_memory(), colours=colours)


@dataclass(frozen=True)
class RawClip:
    """A clip before its frames are finished; `rest` is all else, its own frames empty."""

    frames: RawFrames
    rest: Clip

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Of its objects."""
        return self.rest.object_ids


@dataclass(frozen=True)
class RawBatch:
    """A batch before its frames are finished: one of `frames` a clip; `rest` is all else, its own frames empty."""

    frames: tuple[RawFrames, ...]
    rest: ClipBatch

    def finish(self) -> ClipBatch:
        """The batch as training sees it."""
        return replace(self.rest, frames=torch.stack([clip.finish() for clip in self.frames], dim=1))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> RawBatch:
        """The same on another device."""
        frames = tuple(clip.to(device, non_blocking) for clip in self.frames)
        return RawBatch(frames, self.rest.to(device, non_blocking))

    def pin_memory(self) -> RawBatch:
        """The same in page-locked host memory."""
        return RawBatch(tuple(clip.pin_memory() for clip in self.frames), self.rest.pin_memory())


def collate_raw(clips: Sequence[RawClip], step: int, skipped: int = 0) -> RawBatch:
    """As `data.clip.collate`."""
    return RawBatch(tuple(c.frames for c in clips), collate([c.rest for c in clips], step, skipped))
