"""Pad what varies while a video is tracked, so that a compiled model sees one shape from the first frame on.

Memories fill up, clicks are added, objects come: each would be another shape, and compiling again takes minutes.
Padding is masked out of every attention; answers differ from unpadded ones by rounding only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2.model.memory_bank import MemoryPolicy, Recall


@dataclass(frozen=True)
class FixedShapes:
    """Room that is always there; where it does not suffice it doubles, which compiles once more.

    Attributes:
        prompted: prompted frames of the memory, an object.
        points: clicks and box corners on a frame, an object; more are rounded up to a multiple.
        objects: objects in a batch.
    """

    prompted: int = 1
    points: int = 8
    objects: int = 1

    def maps_and_pointers(self, recalls: Sequence[Recall], rules: MemoryPolicy) -> tuple[int, int]:
        """Room for remembered maps and for pointers."""
        recent, consecutive = rules.slots - 1, rules.max_pointers - 1
        beyond = max(
            [self.prompted, *(len(r.maps) - recent for r in recalls)]
            + [len(r.pointers) - consecutive for r in recalls]
        )
        prompted = _doubled(self.prompted, beyond)
        return prompted + recent, prompted + consecutive

    def padded_points(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Prompt tokens (B, P, C) with room, and which are real (B, P')."""
        count = tokens.shape[1]
        # one more than the clicks: prompts end with a token that is no point
        room = -(-max(count - 1, 1) // self.points) * self.points + 1
        return pad_tokens(tokens, room), _real(len(tokens), count, room, tokens.device)

    def rows(self, count: int) -> list[int]:
        """Row numbers of a batch of `count` objects, repeated up to the batch that is run."""
        room = _doubled(self.objects, count)
        return [*range(count), *[count - 1] * (room - count)]


def pad_tokens(tokens: Tensor, room: int) -> Tensor:
    """Tokens (B, N, C) with zeros up to (B, room, C)."""
    return F.pad(tokens, (0, 0, 0, room - tokens.shape[1]))


def _doubled(room: int, needed: int) -> int:
    while room < needed:
        room *= 2
    return room


def _real(rows: int, count: int, room: int, device: torch.device) -> Tensor:
    return (torch.arange(room, device=device) < count).expand(rows, -1)
