"""Drop memories that have become irrelevant: too old, or of something that looks unlike the object now.

Source: restricted memory banks, RMem (arXiv 2406.08476): a concise bank of relevant and fresh frames tracks better
than a full one. There relevance is measured by attention; here, for the price of one small transfer per object and
frame, by object pointers. Rule and thresholds are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import cosine_similarity

from sam2.model.memory_bank import MemoryPolicy, Place, Recall
from sam2.policies.policy import Path, Policy
from sam2.policies.recency import keep_newest, newest, recall_newest
from sam2.policies.thresholds import check
from sam2.types import Entry, Memory


@dataclass(frozen=True)
class Pruned(Policy):
    """Look at recent frames that are fresh and relevant.

    The relevance of a remembered frame is the cosine similarity of its object pointer to that of the newest frame, or
    of the nearest prompted frame, whichever is more alike. The newest frame itself always counts.

    Attributes:
        min_similarity: less relevant frames are not looked at; -1 keeps all. Ours.
        max_age: frames older than this are not looked at. Ours.
    """

    min_similarity: float = 0.3
    max_age: int = 16

    def __post_init__(self) -> None:
        check(self, min_similarity=(-1, 1), max_age=(1, math.inf))

    def select(self, path: Path, place: Place, rules: MemoryPolicy) -> Recall:
        """Prompted frames and the newest of those that are fresh and relevant."""
        tracked = [e for e in path.memory.entries if not e.is_prompted]
        dropped = {e.frame for e in tracked if abs(place.frame - e.frame) > self.max_age}
        dropped |= self._irrelevant(path.memory, place, [e for e in tracked if e.frame not in dropped])
        return recall_newest(path.memory, place, rules, left_out=dropped)

    def evict(self, path: Path, place: Place, rules: MemoryPolicy) -> Memory:
        """Whatever is fresh may become relevant again."""
        oldest = place.frame + 1 - self.max_age
        fresh = {e.frame for e in path.memory.entries if e.frame >= oldest}
        kept = keep_newest(path.memory, place, rules, also=fresh)
        return Memory(tuple(e for e in kept.entries if e.is_prompted or e.frame in fresh))

    def _irrelevant(self, memory: Memory, place: Place, tracked: list[Entry]) -> set[int]:
        latest = newest(memory, place, 1)
        if self.min_similarity <= -1 or not tracked or not latest:
            return set()
        prompted = [e for e in memory.entries if e.is_prompted]
        asked = latest + sorted(prompted, key=lambda e: abs(place.frame - e.frame))[:1]
        pointers = torch.cat([e.pointer for e in tracked]).float()[:, None]
        wanted = torch.cat([e.pointer for e in asked]).float()[None]
        relevance = cosine_similarity(pointers, wanted, dim=-1).amax(dim=1).tolist()
        found = zip(tracked, relevance, strict=True)
        return {e.frame for e, r in found if r < self.min_similarity and e.frame != latest[0].frame}
