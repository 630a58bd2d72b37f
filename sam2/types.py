"""The data that travels between the four verbs of the model: shapes written once.

Letters used everywhere: `B` objects, `F` frames in a batch, `C` channels, `H W` model pixels (`S` x `S`),
`h w` stride-16 cells, `P` points, `M` mask candidates. All states are frozen: a verb never changes its input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


class ShapeError(ValueError):
    """Two tensors that must agree in a dimension do not."""


@dataclass(frozen=True)
class Features:
    """What the trunk and neck saw in F frames.

    `s4` (F, C/8, 4h, 4w) and `s8` (F, C/4, 2h, 2w) are already projected for the mask decoder;
    `s16` (F, C, h, w) is the raw stride-16 map; `position` (1, C, h, w) its sine position code.
    """

    s4: Tensor
    s8: Tensor
    s16: Tensor
    position: Tensor

    def __len__(self) -> int:
        return self.s16.shape[0]

    def pick(self, index: int | Sequence[int] | Tensor) -> Features:
        """Features of the frames in `index`, one row each; repeat a frame to give it to several objects."""
        if isinstance(index, int):
            rows = slice(index, index + 1)
            return Features(self.s4[rows], self.s8[rows], self.s16[rows], self.position)
        index = torch.as_tensor(index, device=self.s16.device)
        return Features(self.s4[index], self.s8[index], self.s16[index], self.position)

    def expand(self, objects: int) -> Features:
        """One frame seen by `objects` objects, without copying memory."""
        if len(self) != 1:
            raise ShapeError(f"expand needs the features of one frame, got {len(self)}")
        return Features(
            self.s4.expand(objects, -1, -1, -1),
            self.s8.expand(objects, -1, -1, -1),
            self.s16.expand(objects, -1, -1, -1),
            self.position,
        )


@dataclass(frozen=True)
class Prompt:
    """Clicks, boxes and a rough mask for B objects.

    `points` (B, P, 2) are x, y in model pixels; `labels` (B, P): 1 object, 0 background, 2 and 3 the corners of a
    box (always first), -1 padding. `mask_logits` (B, 1, 4h, 4w) is an earlier low-resolution answer, or None.
    """

    points: Tensor
    labels: Tensor
    mask_logits: Tensor | None = None

    def __post_init__(self) -> None:
        if self.points.shape[:-1] != self.labels.shape:
            raise ShapeError(
                f"points {tuple(self.points.shape)} and labels {tuple(self.labels.shape)} disagree"
            )


@dataclass(frozen=True)
class MaskPrompt:
    """The answer itself, given from outside: `masks` (B, 1, S, S), true or 1 on the object."""

    masks: Tensor


@dataclass(frozen=True)
class Output:
    """What the decoder says about B objects on one frame.

    `low_res` (B, 1, 4h, 4w) are the logits of the chosen candidate; `candidates` (B, M, 4h, 4w) and `ious` (B, M)
    all of them; `object_logit` (B, 1) is above zero where the object is thought visible; `pointer` (B, C) is the
    object pointer. `tokens` (B, M, C) are what the candidates' pointers are made of; when the mask was a prompt there
    are none, and `given` (B, 1, S, S) holds its image-size logits, else None.
    """

    low_res: Tensor
    candidates: Tensor
    ious: Tensor
    object_logit: Tensor
    pointer: Tensor
    tokens: Tensor | None = None
    given: Tensor | None = None

    def __len__(self) -> int:
        return self.low_res.shape[0]

    @property
    def iou(self) -> Tensor:
        """Predicted IoU (B, 1) of the chosen candidate."""
        return self.ious.amax(dim=1, keepdim=True)

    def settled(self) -> Output:
        """Without the candidates that were not chosen: what is worth keeping."""
        return Output(self.low_res, self.low_res, self.iou, self.object_logit, self.pointer, given=self.given)

    def to(self, device: torch.device) -> Output:
        """The same on another device."""
        return self._each(lambda x: x.to(device))

    def pick(self, rows: slice) -> Output:
        """The objects in `rows`; copies nothing."""
        return self._each(lambda x: x[rows])

    @staticmethod
    def join(parts: Sequence[Output]) -> Output:
        """The objects of all parts, one after another."""
        if len(parts) == 1:
            return parts[0]
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Output)}
        # what one part lacks, such as a mask given at model size, the whole has not
        lacking = {name for name, column in columns.items() if any(x is None for x in column)}
        whole: dict[str, Any] = {
            n: None if n in lacking else torch.cat(column) for n, column in columns.items()
        }
        return replace(parts[0], **whole)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Output:
        """With every tensor changed."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {name: change(x) for name, x in tensors.items() if x is not None}
        return replace(self, **changed)

    def logits(self, size_px: int) -> Tensor:
        """Logits of the chosen candidate at model size, (B, 1, size_px, size_px)."""
        return upsample(self.low_res, size_px) if self.given is None else self.given

    def candidate_logits(self, size_px: int) -> Tensor:
        """Logits of all candidates at model size, (B, M, size_px, size_px)."""
        return upsample(self.candidates, size_px) if self.given is None else self.given


def upsample(logits: Tensor, size_px: int) -> Tensor:
    """Enlarge mask logits (B, M, h, w) to size_px x size_px, bilinear, in float32."""
    size = (size_px, size_px)
    return torch.nn.functional.interpolate(logits.float(), size, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Entry:
    """One remembered frame: `spatial` (B, 64, h, w), `pointer` (B, C), `object_logit` (B, 1)."""

    frame: int
    is_prompted: bool
    spatial: Tensor
    pointer: Tensor
    object_logit: Tensor

    def to(self, device: torch.device) -> Entry:
        """The same on another device; nothing is copied where it is there already."""
        if self.spatial.device == device:
            return self
        moved = self.spatial.to(device), self.pointer.to(device), self.object_logit.to(device)
        return Entry(self.frame, self.is_prompted, *moved)

    def without_map(self) -> Entry:
        """The pointer alone: what is left when the map is too old to be looked at."""
        return replace(self, spatial=self.spatial.new_empty(len(self.spatial), 0))

    def pick(self, rows: slice) -> Entry:
        """The objects in `rows`; it copies nothing."""
        return replace(
            self, spatial=self.spatial[rows], pointer=self.pointer[rows], object_logit=self.object_logit[rows]
        )

    def split(self, count: int) -> list[Entry]:
        """The first `count` objects, one by one; each with tensors of its own, so that none keeps the others alive."""
        rows = [self.pick(slice(k, k + 1)) for k in range(count)]
        return [
            replace(e, spatial=_own(e.spatial), pointer=_own(e.pointer), object_logit=_own(e.object_logit))
            for e in rows
        ]


def _own(view: Tensor) -> Tensor:
    """The same numbers, in memory that holds nothing else."""
    return view.clone() if view.untyped_storage().nbytes() > view.nbytes else view


@dataclass(frozen=True)
class Memory:
    """Remembered frames of B objects, at most one entry a frame, in the order of their frames."""

    entries: tuple[Entry, ...] = ()
    _by_frame: dict[int, Entry] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_frame", {entry.frame: entry for entry in self.entries})

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, frame: int) -> Entry | None:
        """The entry of `frame`, if it is remembered."""
        return self._by_frame.get(frame)

    def add(self, entry: Entry) -> Memory:
        """A memory that also holds `entry`; it replaces an older one of the same frame."""
        return Memory(tuple(sorted([*self.without(entry.frame).entries, entry], key=lambda e: e.frame)))

    def without(self, frame: int) -> Memory:
        """A memory that holds nothing of `frame`."""
        return Memory(tuple(e for e in self.entries if e.frame != frame)) if frame in self._by_frame else self
