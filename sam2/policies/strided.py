"""Spread the recent memories over a longer time.

Source: memorising every few frames is as old as memory networks for videos (STM, arXiv 1904.00607: every fifth); SAM 2
(arXiv 2408.00714) has it as the setting `memory_temporal_stride_for_eval`, off. The default is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sam2.model.memory_bank import MemoryPolicy, Place
from sam2.policies.policy import Path, Policy
from sam2.policies.recency import keep_newest
from sam2.policies.thresholds import check
from sam2.types import Memory


@dataclass(frozen=True)
class Strided(Policy):
    """Look at the frame before, then at every `stride`-th one.

    Attributes:
        stride: frames between two recent memories; 1 is the reference. With 4 and 7 slots the memory spans 21 frames
            instead of 6.
    """

    stride: int = 4

    def __post_init__(self) -> None:
        check(self, stride=(1, math.inf))

    def rules_for(self, rules: MemoryPolicy) -> MemoryPolicy:
        """The model's numbers with this stride."""
        return replace(rules, stride=self.stride)

    def evict(self, path: Path, place: Place, rules: MemoryPolicy) -> Memory:
        """Between the multiples of the stride only pointers are of use."""
        return keep_newest(path.memory, place, rules)
