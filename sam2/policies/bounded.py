"""A hard limit on everything: memory that cannot grow, however often a person corrects.

Source: SAM 2's own limits on what is attended to (`max_cond_frames_in_attn`, `max_obj_ptrs_in_encoder`; arXiv
2408.00714), applied to what is kept. The first prompted frame stays for good, as in DAM4SAM (arXiv 2411.17576). The
limits are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sam2.model.memory_bank import MemoryPolicy, Place, Recall, recall
from sam2.policies.policy import Path, Policy
from sam2.policies.recency import keep_newest
from sam2.policies.thresholds import check
from sam2.types import Entry, Memory


@dataclass(frozen=True)
class Bounded(Policy):
    """Cap prompted frames and pointers; keep nothing that is beyond the caps.

    Of the prompted frames the first stays, and those nearest in time, which in a stream are the latest.

    Attributes:
        max_prompted: prompted frames that are remembered; ours.
        max_pointers: how many frames back pointers of tracked frames reach (at most the model's reach); how distances
            are coded stays the model's. Ours.
    """

    max_prompted: int = 4
    max_pointers: int = 8

    def __post_init__(self) -> None:
        check(self, max_prompted=(1, math.inf), max_pointers=(1, math.inf))

    def select(self, path: Path, place: Place, rules: MemoryPolicy) -> Recall:
        """The reference's choice among what is within the caps."""
        found = recall(self._capped(path.memory, place.frame), place, rules)
        within = [(e, back) for e, back in found.pointers if e.is_prompted or back <= self.max_pointers]
        return found._replace(pointers=within)

    def evict(self, path: Path, place: Place, rules: MemoryPolicy) -> Memory:
        """Prompted frames within the cap, the recent maps, and pointers within the cap."""
        reach = min(rules.max_pointers, self.max_pointers + 1)
        return keep_newest(self._capped(path.memory, place.frame + 1), place, rules, pointers=reach)

    def _capped(self, memory: Memory, frame: int) -> Memory:
        """`memory` with at most `max_prompted` prompted frames."""
        prompted = [entry for entry in memory.entries if entry.is_prompted]
        if len(prompted) <= self.max_prompted:
            return memory
        later = sorted(prompted[1:], key=lambda entry: abs(entry.frame - frame))
        kept = {prompted[0].frame, *(entry.frame for entry in later[: self.max_prompted - 1])}
        return Memory(tuple(e for e in memory.entries if _stays(e, kept)))


def _stays(entry: Entry, kept: set[int]) -> bool:
    return not entry.is_prompted or entry.frame in kept
