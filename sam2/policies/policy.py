"""What an object's memory holds and what a frame looks at: the interface of memory policies, and the reference's way.

A policy is a frozen set of thresholds. All that changes over time is in `Path`: frozen too, so that a fork is a copy
of references. Source of the rules here: SAM 2 (arXiv 2408.00714), as released.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sam2.model.memory_bank import MemoryPolicy, Place, Recall, forget, recall
from sam2.policies.extents import Extent, extents, fetched
from sam2.types import Memory, Output


@dataclass(frozen=True)
class Path:
    """One account of one object's past: what is remembered, and what its policy knows beside that."""

    memory: Memory = Memory()
    state: Any = None


class Scores:
    """What policies ask of a batch, fetched from the device for all objects at once and only if somebody asks."""

    def __init__(self, output: Output) -> None:
        self._ious, self._objects, self._masks = output.ious, output.object_logit, output.candidates

    @cached_property
    def rows(self) -> list[list[float]]:
        """Per object its object logit, then the IoU of every candidate."""
        return torch.cat((self._objects, self._ious), dim=1).float().tolist()

    @cached_property
    def extents(self) -> list[list[Extent]]:
        """Per object box and area of every candidate."""
        return fetched(extents(self._masks))


class Answer:
    """What the decoder said about one object on one frame, in the light of one path.

    `output` is a batch of one. Numbers are on the host; the masks stay on the device.
    """

    def __init__(self, output: Output, scores: Scores, row: int) -> None:
        self.output, self._scores, self._row = output, scores, row

    @property
    def object_logit(self) -> float:
        """Above zero where the object is thought visible."""
        return self._scores.rows[self._row][0]

    @property
    def ious(self) -> list[float]:
        """The predicted IoU of every candidate."""
        return self._scores.rows[self._row][1:]

    @property
    def extents(self) -> list[Extent]:
        """Box and area of every candidate, in low-resolution pixels."""
        return self._scores.extents[self._row]

    @property
    def masks(self) -> Tensor:
        """Logits (M, 4h, 4w) of all candidates."""
        return self.output.candidates[0]

    def with_output(self, output: Output) -> Answer:
        """The same scores with another candidate chosen."""
        return Answer(output, self._scores, self._row)


class Branch(NamedTuple):
    """How a path goes on: from the `parent`-th path, with a candidate (None: the decoder's choice) and a state."""

    parent: int
    candidate: int | None
    state: Any


@dataclass(frozen=True)
class Policy:
    """The reference: every tracked frame is remembered, the latest ones and all prompted ones are looked at.

    Other policies override what they do differently. `rules` are the numbers of a step, from `rules_for(model.policy)`.
    """

    def rules_for(self, rules: MemoryPolicy) -> MemoryPolicy:
        """The numbers to run by, given those that the model was built with."""
        return rules

    def begin(self) -> Any:
        """The state of an object that nothing is known of."""
        return None

    def select(self, path: Path, place: Place, rules: MemoryPolicy) -> Recall:
        """What the frame at `place` looks at."""
        return recall(path.memory, place, rules)

    def branch(self, paths: Sequence[Path], answers: Sequence[Answer], place: Place) -> list[Branch]:
        """How the paths of one object go on after a tracked frame; the first one's answer is shown."""
        return [Branch(i, None, path.state) for i, path in enumerate(paths)]

    def admit(self, path: Path, answer: Answer, place: Place) -> bool:
        """Whether a tracked frame is remembered at all; if not, it is not even encoded."""
        return True

    def prompted(self, path: Path, answer: Answer, place: Place) -> Any:
        """The state of `path` after a person answered the frame at `place`."""
        return path.state

    def evict(self, path: Path, place: Place, rules: MemoryPolicy) -> Memory:
        """What is left of a memory when only frames after `place` will be asked for, going forward."""
        return forget(path.memory, place.frame + 1, rules)


REFERENCE = Policy()
