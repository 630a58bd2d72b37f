"""Choose which remembered frames the current frame may look at.

Pure bookkeeping on frame numbers: no tensors, no device, no learned weights.
Rule: SAM 2 paper (arXiv 2408.00714), memory attention; held to the reference by tests/sam2/model/test_memory_bank.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from sam2.types import Entry, Memory
from sam2.variants import Heads


@dataclass(frozen=True)
class MemoryPolicy:
    """How the past is used: data handed to every step, so that training and inference differ by value, not by mode.

    Attributes:
        slots: prompted frames plus `slots - 1` recent ones (the model has a time code for each).
        stride: frames between recent memories; the one just before is always in.
        max_prompted: prompted frames attended to, the closest in time; -1 for all.
        max_pointers: object pointers reach back this many frames.
        pointers_past_only: pointers of prompted frames count only from the side already seen.
        binarise_prompted: remember prompted masks as yes or no instead of soft.
        non_overlap: before remembering, a pixel belongs to the best object only.
        storage: dtype of remembered maps; None keeps the computing dtype.
        stability_delta: half width in logits of the band in which a single mask counts as unstable.
        stability_threshold: below this stability the best of three candidates replaces it; 0 never.
        hide_absent: an object whose score says it is not visible has no mask; off for still images.
    """

    slots: int = 7
    stride: int = 1
    max_prompted: int = -1
    max_pointers: int = 16
    pointers_past_only: bool = False
    binarise_prompted: bool = False
    non_overlap: bool = False
    storage: torch.dtype | None = None
    stability_delta: float = 0.05
    stability_threshold: float = 0.0
    hide_absent: bool = True

    def __post_init__(self) -> None:
        if self.slots < 1 or self.stride < 1 or self.max_pointers < 1:
            raise ValueError(f"slots, stride and max_pointers must be at least 1, got {self}")
        if self.max_prompted != -1 and self.max_prompted < 2:
            raise ValueError(f"max_prompted must be -1 (all) or at least 2, got {self.max_prompted}")


def fitted(policy: MemoryPolicy, heads: Heads) -> MemoryPolicy:
    """`policy` for what a model has been built for: all of its time codes, at most its reach of pointers.

    Fewer slots would give prompted frames, which have the last code, another one than they were trained with.
    """
    return replace(
        policy, slots=heads.memory_slots, max_pointers=min(policy.max_pointers, heads.max_pointers)
    )


TRAINING = MemoryPolicy()
INFERENCE = MemoryPolicy(pointers_past_only=True, binarise_prompted=True, stability_threshold=0.98)
# memories in 16 bits also where the model computes in 32: the released numbers on videos include this rounding
TRACKING = replace(INFERENCE, storage=torch.bfloat16)


class Place(NamedTuple):
    """Where in the video a frame is conditioned.

    `frames` is the length of the video as far as known: pointers reach back over min(frames, max_pointers) frames.
    """

    frame: int
    frames: int
    reverse: bool = False


class Recall(NamedTuple):
    """Chosen entries: maps with their row in the time code table, pointers with their distance in frames."""

    maps: list[tuple[Entry, int]]
    pointers: list[tuple[Entry, int]]
    reach: int

    @property
    def form(self) -> tuple[tuple[int, ...], int]:
        """Rows of the maps and number of pointers: objects whose recalls are of one form go through as one batch."""
        return tuple(row for _, row in self.maps), len(self.pointers)

    def to(self, device: torch.device) -> Recall:
        """The same entries on another device."""
        maps = [(entry.to(device), row) for entry, row in self.maps]
        return Recall(maps, [(entry.to(device), back) for entry, back in self.pointers], self.reach)


def recall(memory: Memory, place: Place, policy: MemoryPolicy) -> Recall:
    """The remembered frames that the frame at `place` looks at."""
    prompted = closest_prompted(memory, place.frame, policy.max_prompted)
    chosen = {entry.frame for entry in prompted}
    maps = [(entry, policy.slots - 1) for entry in prompted]
    for back in range(policy.slots - 1, 0, -1):
        entry = memory.get(_earlier_frame(place, back, policy.stride))
        if entry is not None and entry.frame not in chosen:
            maps.append((entry, back - 1))

    sign = -1 if place.reverse else 1
    reach = min(place.frames, policy.max_pointers)
    pointers = [
        (entry, sign * (place.frame - entry.frame))
        for entry in prompted
        if not policy.pointers_past_only or sign * (place.frame - entry.frame) >= 0
    ]
    for back in range(1, reach):
        entry = memory.get(place.frame - sign * back)
        if entry is not None and entry.frame not in chosen:
            pointers.append((entry, back))
    return Recall(maps, pointers, reach)


def forget(memory: Memory, frame: int, policy: MemoryPolicy) -> Memory:
    """`memory` without tracked frames that no frame from `frame` on, going forward, can recall.

    Frames whose pointer alone can be recalled lose their map, which is ten to a hundred times as large.
    """
    with_map = frame - (policy.slots - 1) * policy.stride - 1
    oldest = min(with_map, frame - policy.max_pointers)
    kept = (e for e in memory.entries if e.is_prompted or e.frame >= oldest)
    return Memory(tuple(e if e.is_prompted or e.frame >= with_map else e.without_map() for e in kept))


def closest_prompted(memory: Memory, frame: int, limit: int) -> list[Entry]:
    """At most `limit` prompted entries: the nearest before, the nearest at or after, then by distance."""
    prompted = [entry for entry in memory.entries if entry.is_prompted]
    if limit == -1 or len(prompted) <= limit:
        return prompted
    before = [e for e in prompted if e.frame < frame][-1:]
    after = [e for e in prompted if e.frame >= frame][:1]
    rest = [e for e in prompted if e not in before and e not in after]
    rest.sort(key=lambda e: abs(e.frame - frame))
    return [*before, *after, *rest[: limit - len(before) - len(after)]]


def _earlier_frame(place: Place, back: int, stride: int) -> int:
    """The frame `back` memories ago: the one just before, then multiples of the stride going back."""
    sign = -1 if place.reverse else 1
    if back == 1:
        return place.frame - sign
    nearest = sign * ((sign * place.frame - 2) // stride) * stride
    return nearest - sign * (back - 2) * stride
