"""Follow several accounts of what happened at once, and believe the one that fits best over time.

Source: SAM2Long (arXiv 2410.16268): a constrained tree of memories. The paper's numbers: 3 paths, a predicted IoU
above 0.3 for a frame to be remembered, object scores within 2 of zero as uncertain, weights 0.95 to 1.05. Ours: a path
on which the object is hidden does not fork (its candidates are all empty), weights apply to recent maps alone, IoUs
count as distinct where they differ in the second decimal, and what is shown is the path that is best so far, because a
stream has no end to wait for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from sam2.model.memory_bank import MemoryPolicy, Place, Recall
from sam2.policies.policy import Answer, Branch, Path, Policy
from sam2.policies.recency import keep_newest, recall_newest
from sam2.policies.thresholds import ANY, check
from sam2.types import Entry, Memory

_LEAST = 1e-6  # an IoU of zero must not rule a path out for ever


class Account(NamedTuple):
    """A path's history in numbers: the sum of its log IoUs, relative to the best path; the latest IoU and frame."""

    score: float = 0.0
    iou: float = 1.0
    frame: int | None = None


class _Guess(NamedTuple):
    """One way on: from a path, with a candidate."""

    parent: int
    candidate: int
    iou: float
    score: float


@dataclass(frozen=True)
class SAM2Long(Policy):
    """Keep the best `paths` of all ways on, by their cumulative log IoU.

    Every path proposes its candidates on every frame. Where no path is certain whether the object is there, guesses of
    different quality are preferred, so that the tree keeps unlike accounts. A path remembers only frames on which it
    saw the object well, looks at the newest of those however old, and weighs them by their object score.

    Attributes:
        paths: accounts that are kept; each costs memory attention, a decoder pass and memories of its own.
        min_iou: predicted IoU of a remembered frame must be above this.
        min_object: object score (a logit) of a remembered frame must be above this.
        uncertain_below: a frame is uncertain where no path's object score is further from zero than this.
        least_weight: of the recent map with the lowest object score.
        most_weight: of the recent map with the highest one.
    """

    paths: int = 3
    min_iou: float = 0.3
    min_object: float = 0.0
    uncertain_below: float = 2.0
    least_weight: float = 0.95
    most_weight: float = 1.05

    def __post_init__(self) -> None:
        positive = (0, math.inf)
        check(
            self,
            paths=(1, 16),
            min_iou=(-math.inf, 1),
            min_object=ANY,
            uncertain_below=positive,
            least_weight=positive,
            most_weight=positive,
        )

    def begin(self) -> Account:
        """No frame has been judged."""
        return Account()

    def select(self, path: Path, place: Place, rules: MemoryPolicy) -> Recall:
        """Prompted frames and the newest remembered ones, weighted."""
        found = recall_newest(path.memory, place, rules)
        prompted = [(entry, row) for entry, row in found.maps if entry.is_prompted]
        recent = [(entry, row) for entry, row in found.maps if not entry.is_prompted]
        weighted = self._weighted([entry for entry, _ in recent])
        rows = [row for _, row in recent]
        return found._replace(maps=[*prompted, *zip(weighted, rows, strict=True)])

    def branch(self, paths: Sequence[Path], answers: Sequence[Answer], place: Place) -> list[Branch]:
        """The best ways on, the best first."""
        before = place.frame + 1 if place.reverse else place.frame - 1
        first: Account = paths[0].state
        if first.frame not in (before, None):
            paths, answers = (
                paths[:1],
                answers[:1],
            )  # after a jump in time there is nothing to tell paths apart
        guesses = [g for i, path in enumerate(paths) for g in _guesses(i, path.state, answers[i])]
        guesses.sort(key=lambda guess: -guess.score)
        if all(abs(answer.object_logit) < self.uncertain_below for answer in answers):
            guesses = _distinct_first(guesses)
        kept = sorted(guesses[: self.paths], key=lambda guess: -guess.score)
        best = kept[0].score
        return [
            Branch(g.parent, _other(g, answers[g.parent]), Account(g.score - best, g.iou, place.frame))
            for g in kept
        ]

    def admit(self, path: Path, answer: Answer, place: Place) -> bool:
        """Whether this path saw the object well."""
        account: Account = path.state
        return account.iou > self.min_iou and answer.object_logit > self.min_object

    def prompted(self, path: Path, answer: Answer, place: Place) -> Account:
        """A person's answer ends all doubt: one path goes on."""
        return Account()

    def evict(self, path: Path, place: Place, rules: MemoryPolicy) -> Memory:
        """Only the newest remembered frames, and pointers in reach, are of any use."""
        return keep_newest(path.memory, place, rules)

    def _weighted(self, recent: list[Entry]) -> list[Entry]:
        """Maps scaled by the rank of their object score; the ranking stays on the device."""
        if self.least_weight == self.most_weight == 1 or not recent:
            return recent
        scores = torch.cat([entry.object_logit for entry in recent])[:, 0]
        weights = torch.linspace(self.least_weight, self.most_weight, len(recent), device=scores.device)
        own = weights[scores.argsort(stable=True).argsort()]
        return [replace(e, spatial=e.spatial.float() * w) for e, w in zip(recent, own, strict=True)]


def _guesses(parent: int, account: Account, answer: Answer) -> list[_Guess]:
    candidates = range(len(answer.ious))
    if answer.object_logit <= 0:
        candidates = range(_likeliest(answer), _likeliest(answer) + 1)
    scored = [(k, answer.ious[k]) for k in candidates]
    return [_Guess(parent, k, iou, account.score + math.log(max(iou, _LEAST))) for k, iou in scored]


def _distinct_first(guesses: list[_Guess]) -> list[_Guess]:
    """Guesses of an IoU that no earlier one has, then the others."""
    seen: set[float] = set()
    alike: list[_Guess] = []
    distinct: list[_Guess] = []
    for guess in guesses:
        (alike if round(guess.iou, 2) in seen else distinct).append(guess)
        seen.add(round(guess.iou, 2))
    return distinct + alike


def _other(guess: _Guess, answer: Answer) -> int | None:
    """The candidate, or None where it is the decoder's own choice."""
    return None if guess.candidate == _likeliest(answer) else guess.candidate


def _likeliest(answer: Answer) -> int:
    return max(range(len(answer.ious)), key=lambda k: answer.ious[k])
