"""Choose among the candidates by how the object has been moving, and remember what fits.

Source: SAMURAI (arXiv 2411.11922): a constant-velocity Kalman filter on the mask's box (section 4.1), a memory
selected by mask, object and motion scores (4.2). The paper's numbers: alpha 0.15, thresholds 0.5 (mask) and 0 (object).
Ours: how many frames make a track stable, what counts as one, the motion threshold (0, off), the filter's noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sam2.model.memory_bank import MemoryPolicy, Place, Recall
from sam2.policies import kalman
from sam2.policies.extents import EMPTY, Extent
from sam2.policies.kalman import BoxFilter
from sam2.policies.policy import Answer, Branch, Path, Policy
from sam2.policies.recency import keep_newest, recall_newest
from sam2.policies.thresholds import ANY, check
from sam2.types import Memory


@dataclass(frozen=True)
class Motion:
    """How an object has been moving.

    Attributes:
        frame: the latest that was tracked; None before the first.
        believed: the filter after that frame; None where nothing is known.
        stable: frames in a row on which the object was followed well.
        prompted: boxes that persons gave, of prompted frames that are remembered.
        mask_score: predicted IoU of the mask chosen last.
        motion_score: IoU of its box with the predicted one; 1 where there was none.
    """

    frame: int | None = None
    believed: BoxFilter | None = None
    stable: int = 0
    prompted: Mapping[int, Extent] = field(default_factory=dict)
    mask_score: float = 0.0
    motion_score: float = 1.0


@dataclass(frozen=True)
class Samurai(Policy):
    """Weigh predicted IoU against agreement with the motion; admit frames where all scores are good.

    Once the object has been followed well for `stable_frames` frames, the candidate with the highest
    `alpha * IoU(predicted box, its box) + (1 - alpha) * predicted IoU` is chosen. A lost object makes the count start
    again, while its box moves on as predicted.

    Attributes:
        alpha: weight of the motion.
        min_mask: predicted IoU of an admitted frame must be above this.
        min_object: object score (a logit) of an admitted frame must be above this.
        min_motion: IoU of the box with the predicted one must be at least this, where motion is stable.
        stable_frames: frames of good tracking before motion has a say.
        stable_mask: predicted IoU above which a frame counts as good tracking.
    """

    alpha: float = 0.15
    min_mask: float = 0.5
    min_object: float = 0.0
    min_motion: float = 0.0
    stable_frames: int = 15
    stable_mask: float = 0.3

    def __post_init__(self) -> None:
        at_most_1 = (-math.inf, 1)
        check(
            self,
            alpha=(0, 1),
            min_mask=at_most_1,
            min_object=ANY,
            min_motion=at_most_1,
            stable_frames=(1, math.inf),
            stable_mask=at_most_1,
        )

    def begin(self) -> Motion:
        """Nothing has moved."""
        return Motion()

    def select(self, path: Path, place: Place, rules: MemoryPolicy) -> Recall:
        """Prompted frames and the newest admitted ones."""
        return recall_newest(path.memory, place, rules)

    def branch(self, paths: Sequence[Path], answers: Sequence[Answer], place: Place) -> list[Branch]:
        """One path, its candidate chosen with an eye on the motion."""
        motion, answer = _arrive(paths[0].state, place), answers[0]
        predicted = None if motion.believed is None else kalman.predict(motion.believed)
        expected = EMPTY if predicted is None else predicted.extent
        agreement = [box.iou(expected) for box in answer.extents]
        likeliest = max(range(len(agreement)), key=lambda k: answer.ious[k])
        chosen = likeliest
        if motion.stable >= self.stable_frames:
            scores = [
                self.alpha * a + (1 - self.alpha) * b for a, b in zip(agreement, answer.ious, strict=True)
            ]
            chosen = max(range(len(scores)), key=lambda k: (scores[k], k == likeliest))
        followed = self._follow(motion, predicted, answer, chosen)
        score = agreement[chosen] if motion.stable >= self.stable_frames else 1.0
        state = replace(followed, frame=place.frame, mask_score=answer.ious[chosen], motion_score=score)
        return [Branch(0, None if chosen == likeliest else chosen, state)]

    def admit(self, path: Path, answer: Answer, place: Place) -> bool:
        """Whether mask, object and motion scores are high enough."""
        motion: Motion = path.state
        return (
            motion.mask_score > self.min_mask
            and answer.object_logit > self.min_object
            and motion.motion_score >= self.min_motion
        )

    def prompted(self, path: Path, answer: Answer, place: Place) -> Motion:
        """A person's mask is where the object is."""
        motion: Motion = path.state
        known = {f: box for f, box in motion.prompted.items() if path.memory.get(f) is not None}
        return replace(motion, prompted={**known, place.frame: answer.extents[0]})

    def evict(self, path: Path, place: Place, rules: MemoryPolicy) -> Memory:
        """Only the newest admitted frames, and pointers in reach, are of any use."""
        return keep_newest(path.memory, place, rules)

    def _follow(self, motion: Motion, predicted: BoxFilter | None, answer: Answer, chosen: int) -> Motion:
        """What is believed after the chosen mask has been seen."""
        box = answer.extents[chosen]
        if box.is_empty or answer.object_logit <= 0 or not answer.ious[chosen] > self.stable_mask:
            return replace(motion, believed=predicted, stable=0)
        believed = kalman.begin(box) if predicted is None else kalman.update(predicted, box)
        return replace(motion, believed=believed, stable=motion.stable + 1)


def _arrive(motion: Motion, place: Place) -> Motion:
    """What is believed of the frame before `place`, however it was passed.

    A person's box starts the motion anew: a correction says that what was believed is wrong. A jump in time to where
    nobody answered leaves nothing to believe.
    """
    before = place.frame + 1 if place.reverse else place.frame - 1
    box = motion.prompted.get(before, EMPTY)
    if not box.is_empty:
        return replace(motion, believed=kalman.begin(box), stable=0)
    if motion.frame == before and before not in motion.prompted:
        return motion
    return replace(motion, believed=None, stable=0)
