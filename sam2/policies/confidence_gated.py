"""Remember only what is likely to be right: a frame enters the memory by its predicted quality.

Source: the idea of quality-aware memory, QDMN (arXiv 2207.07922); the two scores are those that SAM 2's decoder gives
anyway. The thresholds are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sam2.model.memory_bank import MemoryPolicy, Place, Recall
from sam2.policies.policy import Answer, Path, Policy
from sam2.policies.recency import keep_newest, recall_newest
from sam2.policies.thresholds import ANY, check
from sam2.types import Memory


@dataclass(frozen=True)
class ConfidenceGated(Policy):
    """Admit a tracked frame if its predicted IoU and its object score are above thresholds.

    So a ghost (a doubtful mask while the object is hidden) never teaches later frames. The newest admitted frames are
    looked at however long ago they were; prompted frames always count.

    Attributes:
        min_iou: predicted IoU of the chosen mask must be above this; ours.
        min_object: the object score (a logit) must be above this; 0 is the model's own limit of "visible".
    """

    min_iou: float = 0.5
    min_object: float = 0.0

    def __post_init__(self) -> None:
        check(self, min_iou=(-math.inf, 1), min_object=ANY)

    def select(self, path: Path, place: Place, rules: MemoryPolicy) -> Recall:
        """Prompted frames and the newest admitted ones."""
        return recall_newest(path.memory, place, rules)

    def admit(self, path: Path, answer: Answer, place: Place) -> bool:
        """Whether both scores are high enough."""
        return max(answer.ious) > self.min_iou and answer.object_logit > self.min_object

    def evict(self, path: Path, place: Place, rules: MemoryPolicy) -> Memory:
        """Only the newest admitted frames, and pointers in reach, are of any use."""
        return keep_newest(path.memory, place, rules)
