"""Keep apart the object and what looks like it: memories of the object's look, and anchors against distractors.

Source: DAM4SAM (arXiv 2411.17576; extended in 2509.13864). Two memories: recent appearance (3 frames, renewed every 5th
frame, never with frames on which the object is absent), and anchors (the prompted frame and 3 more) that carry no time.
A frame becomes an anchor if the decoder's candidates disagree on where the object is (the box around chosen mask and
alternative is larger than the chosen one's by a ratio below 0.7) while the chosen mask is reliable: predicted IoU above
0.8, area within 20 % of the median of the last 10 frames, 5 frames since the last anchor. These numbers are the
paper's. Ours: of an alternative counts the largest component beside the chosen mask; anchors have the time code of
prompted frames, which the model knows; pointers stay with the reference's rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

from torch import Tensor

from sam2.connected_components import areas, label
from sam2.model.memory_bank import MemoryPolicy, Place, Recall
from sam2.policies.extents import Extent, extents, fetched
from sam2.policies.policy import Answer, Branch, Path, Policy
from sam2.policies.recency import keep_newest, recall_newest
from sam2.policies.thresholds import ANY, check
from sam2.types import Memory

_WINDOW = 10  # frames whose median area is usual


class Watch(NamedTuple):
    """Frames that are anchors, the latest last; areas of the object on the last frames where it was seen."""

    anchors: tuple[int, ...] = ()
    areas: tuple[float, ...] = ()


@dataclass(frozen=True)
class DAM4SAM(Policy):
    """Few recent frames, spread out, and anchor frames on which a distractor was told from the object.

    Attributes:
        recent: tracked frames looked at for the object's recent appearance.
        every: frames between them; the newest is always among them.
        anchors: anchor frames that are kept beside the prompted ones; the oldest gives way.
        min_object: object score (a logit) of a remembered frame must be above this.
        min_iou: predicted IoU of an anchor must be above this.
        area_change: relative deviation from the usual area that an anchor may have.
        box_share: candidates disagree where the chosen mask's box has less than this share of the common one.
        anchor_gap: frames between two anchors.
    """

    recent: int = 3
    every: int = 5
    anchors: int = 3
    min_object: float = 0.0
    min_iou: float = 0.8
    area_change: float = 0.2
    box_share: float = 0.7
    anchor_gap: int = 5

    def __post_init__(self) -> None:
        whole = (1, math.inf)
        check(
            self,
            recent=whole,
            every=whole,
            anchors=(0, math.inf),
            min_object=ANY,
            min_iou=(-math.inf, 1),
            area_change=(0, math.inf),
            box_share=(0, 1),
            anchor_gap=whole,
        )

    def begin(self) -> Watch:
        """No anchor yet."""
        return Watch()

    def select(self, path: Path, place: Place, rules: MemoryPolicy) -> Recall:
        """Prompted frames and anchors, without time, and the recent appearance."""
        watch: Watch = path.state
        timeless = rules.slots - 1
        found = recall_newest(path.memory, place, self._spread(rules))
        prompted = [(entry, row) for entry, row in found.maps if row == timeless]
        recent = [
            (e, row)
            for e, row in found.maps
            if row < min(self.recent, timeless) and e.frame not in watch.anchors
        ]
        known = [path.memory.get(frame) for frame in watch.anchors]
        anchors = [(entry, timeless) for entry in known if entry is not None and not entry.is_prompted]
        return found._replace(maps=[*prompted, *anchors, *recent])

    def branch(self, paths: Sequence[Path], answers: Sequence[Answer], place: Place) -> list[Branch]:
        """One path with the decoder's choice; the frame may become an anchor."""
        watch, answer = paths[0].state, answers[0]
        if not answer.object_logit > max(self.min_object, 0.0):
            return [Branch(0, None, watch)]
        chosen = max(range(len(answer.ious)), key=lambda k: answer.ious[k])
        area = answer.extents[chosen].area
        if self._is_reliable(watch, answer.ious[chosen], area, place) and self._disagree(answer, chosen):
            watch = watch._replace(anchors=(*watch.anchors, place.frame)[-self.anchors :])
        return [Branch(0, None, watch._replace(areas=(*watch.areas, area)[-_WINDOW:]))]

    def admit(self, path: Path, answer: Answer, place: Place) -> bool:
        """Frames on which the object is absent teach nothing about it."""
        return answer.object_logit > self.min_object

    def evict(self, path: Path, place: Place, rules: MemoryPolicy) -> Memory:
        """Anchors, the recent appearance, and pointers in reach."""
        spread = self._spread(rules)
        narrow = replace(spread, slots=min(rules.slots, self.recent + 1))
        return keep_newest(path.memory, place, narrow, also=path.state.anchors)

    def _spread(self, rules: MemoryPolicy) -> MemoryPolicy:
        return replace(rules, stride=self.every)

    def _is_reliable(self, watch: Watch, iou: float, area: float, place: Place) -> bool:
        if self.anchors == 0 or not iou > self.min_iou or not watch.areas:
            return False
        usual = median(watch.areas)
        is_apart = all(abs(place.frame - frame) >= self.anchor_gap for frame in watch.anchors)
        return is_apart and abs(area - usual) <= self.area_change * usual

    def _disagree(self, answer: Answer, chosen: int) -> bool:
        """Whether a candidate sees the object elsewhere, too; components are found only where boxes suggest it."""
        own = answer.extents[chosen]
        suspects = [k for k, box in enumerate(answer.extents) if k != chosen and self._is_wider(own, box)]
        if not suspects or own.is_empty:
            return False
        masks = answer.masks > 0
        beside = largest_component(masks[suspects] & ~masks[chosen])
        return any(self._is_wider(own, box) for box in fetched(extents(beside.float())[None])[0])

    def _is_wider(self, own: Extent, other: Extent) -> bool:
        return own.box_area < self.box_share * own.around(other).box_area


def largest_component(masks: Tensor) -> Tensor:
    """The largest connected component of boolean masks (N, H, W); where several are, all of them."""
    size = areas(label(masks))
    return masks & (size == size.flatten(1).amax(dim=1)[:, None, None])
