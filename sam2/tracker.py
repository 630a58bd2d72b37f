"""Take objects one frame further: the model's verbs under a memory policy, all objects of a frame together.

Objects are independent of one another. Those whose recalled past has one form go through the model as one batch, which
changes nothing but the speed; both the video predictor and streaming run this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from sam2.model.memory_bank import MemoryPolicy, Place, Recall
from sam2.model.sam2 import SAM2, no_prompt, suppress_overlap
from sam2.policies.policy import REFERENCE, Answer, Branch, Path, Policy, Scores
from sam2.types import Entry, Features, MaskPrompt, Output, Prompt


@dataclass(frozen=True)
class Track:
    """One object: the accounts of its past that its policy keeps, the best first."""

    paths: tuple[Path, ...]

    @property
    def best(self) -> Path:
        """The account whose answer is shown."""
        return self.paths[0]


class Offer(NamedTuple):
    """What the decoder gave to choose from for one object on a frame.

    `candidates` (M, 4h, 4w) are logits, `ious` (M,) the predicted IoU of each; M is 1 where there was no choice.
    `chosen` is the index of what is shown, None: the one with the highest predicted IoU.
    """

    candidates: Tensor
    ious: Tensor
    chosen: int | None = None

    @classmethod
    def of(cls, output: Output, chosen: int | None = None) -> Offer:
        """Of an answer that is not settled, a batch of one."""
        return cls(output.candidates[0], output.ious[0], chosen)


@dataclass(frozen=True)
class Tracker:
    """A model and a policy.

    Attributes:
        model: in eval mode.
        policy: decides what is remembered and looked at.
        max_rows: objects (times paths) that go through the model together; bounds memory. By default 16, and on a CPU
            one: see `rows_on`. More are faster there for models of a few milliseconds, and change masks by rounding.
        store: where memories are kept; by default where they are made.
    """

    model: SAM2
    policy: Policy = REFERENCE
    max_rows: int | None = None
    store: torch.device | None = None

    def rows_on(self, device: torch.device) -> int:
        """How many objects go through the model together.

        On a CPU one by one: it is filled by one, and then which others are tracked changes nothing, to the last bit.
        """
        return self.max_rows or (1 if device.type == "cpu" else 16)

    @property
    def rules(self) -> MemoryPolicy:
        """The numbers of a step."""
        return self.policy.rules_for(self.model.policy)

    def begin(self) -> Track:
        """An object that nothing is known of."""
        return Track((Path(state=self.policy.begin()),))

    def advance(
        self,
        features: Features,
        tracks: Sequence[Track],
        place: Place,
        on_offer: Callable[[int, Offer], None] | None = None,
    ) -> list[tuple[Output, Track]]:
        """Track objects on a frame that nobody has answered.

        Args:
            features: of this one frame.
            tracks: the objects.
            place: of the frame.
            on_offer: called for each object with its index in `tracks` and what its answer was chosen from.

        Returns:
            For each object its answer, a batch of one, and what is known of it now.
        """
        rules = self.rules
        recalls = [self.policy.select(path, place, rules) for track in tracks for path in track.paths]
        answers = self._answers(features, recalls)
        grown = []
        for index, track in enumerate(tracks):
            own = [next(answers) for _ in track.paths]
            branches = self.policy.branch(track.paths, own, place)
            if on_offer is not None:
                on_offer(index, Offer.of(own[branches[0].parent].output, branches[0].candidate))
            grown.append(self._follow(track, own, branches))
        shown = [branches[0][1].output for branches in grown]
        return list(zip(shown, self._remember(features, grown, place), strict=True))

    def ask(
        self, features: Features, track: Track, place: Place, prompt: Prompt | MaskPrompt, first: bool
    ) -> Output:
        """Answer a person's prompt for one object; nothing is remembered yet.

        Args:
            features: of this one frame.
            track: the object.
            place: of the frame.
            prompt: for one object.
            first: the frame has not been tracked yet; then its answer owes nothing to the memory.
        """
        if first or isinstance(prompt, MaskPrompt):
            conditioned = self.model.without_memory(features)
        else:
            found = self.policy.select(track.best, place, self.rules)
            conditioned = self.model.attend(features, [found.to(features.s16.device)])
        return self.model.decode(features, conditioned, prompt, self.rules)

    def commit(
        self,
        features: Features,
        tracks: Sequence[Track],
        answers: Sequence[Output],
        place: Place,
        is_prompted: Sequence[bool],
    ) -> list[Track]:
        """Remember what persons answered on a frame.

        Args:
            features: of this one frame.
            tracks: the objects.
            answers: one a track, batches of one; a mask given at model size (`Output.given`) is remembered as it is.
            place: of the frame.
            is_prompted: whether later frames treat it as one of the prompted frames, or as a tracked one.
        """
        kept = [answer.settled() for answer in answers]
        if self.rules.non_overlap:
            exclusive = suppress_overlap(Output.join(kept).logits(self.model.image_size))
            kept = [replace(o, given=exclusive[k : k + 1]) for k, o in enumerate(kept)]
        entries = self._encode(features, kept, place, True)
        grown = []
        for track, answer, entry, prompted in zip(tracks, answers, entries, is_prompted, strict=True):
            entry = replace(entry, is_prompted=prompted)
            path = Path(track.best.memory.add(entry), track.best.state)
            state = self.policy.prompted(path, Answer(answer, Scores(answer), 0), place)
            grown.append(Track((replace(path, state=state),)))
        return grown

    def forget(self, track: Track, place: Place) -> Track:
        """`track` without what no frame after `place` can look at."""
        rules = self.rules
        return Track(tuple(replace(p, memory=self.policy.evict(p, place, rules)) for p in track.paths))

    def _answers(self, features: Features, recalls: Sequence[Recall]) -> Iterator[Answer]:
        """The decoder's answer for each recalled past, in order."""
        answers: dict[int, Answer] = {}
        batches = [*self._batches(recalls, self.rows_on(features.s16.device))]
        looked = self.model.look(features) if len(batches) > 1 and self.model.shapes is None else None
        for batch in batches:
            rows = self._run(batch)
            found = [recalls[i].to(features.s16.device) for i in rows]
            conditioned = self.model.attend(features, found, looked)
            asked = no_prompt(len(rows), features.s16.device)
            output = self.model.decode(features, conditioned, asked, self.rules)
            scores = Scores(output)
            answers |= {i: Answer(output.pick(slice(k, k + 1)), scores, k) for k, i in enumerate(batch)}
        return iter([answers[i] for i in range(len(recalls))])

    def _batches(self, recalls: Sequence[Recall], most: int) -> Iterator[list[int]]:
        """Indices of recalls that can go together, at most `most`: of one form, unless they are padded."""
        forms: dict[object, list[int]] = {}
        for i, found in enumerate(recalls):
            is_empty = not found.maps and not found.pointers
            forms.setdefault(found.form if self.model.shapes is None else is_empty, []).append(i)
        for rows in forms.values():
            for start in range(0, len(rows), most):
                yield rows[start : start + most]

    def _run(self, batch: list[int]) -> list[int]:
        """The batch as it is run: a compiled model's may be longer."""
        shapes = self.model.shapes
        return batch if shapes is None else [batch[row] for row in shapes.rows(len(batch))]

    def _follow(
        self, track: Track, answers: Sequence[Answer], branches: Sequence[Branch]
    ) -> list[tuple[Path, Answer]]:
        """The paths of one object after a frame, not yet remembering it, each with its answer."""
        followed = []
        for parent, candidate, state in branches:
            answer = answers[parent]
            if candidate is None:
                output = answer.output.settled()
            else:
                chosen = torch.tensor([candidate], device=answer.output.ious.device)
                output = self.model.choose(answer.output, chosen)
            followed.append((replace(track.paths[parent], state=state), answer.with_output(output)))
        return followed

    def _remember(
        self, features: Features, grown: Sequence[list[tuple[Path, Answer]]], place: Place
    ) -> list[Track]:
        """Tracks whose paths hold this frame, where the policy admits it."""
        rows = [(path, answer) for branches in grown for path, answer in branches]
        outputs = [answer.output for _, answer in rows]
        if self.rules.non_overlap:
            outputs = self._without_overlap(grown)
        wanted = [i for i, (path, answer) in enumerate(rows) if self.policy.admit(path, answer, place)]
        entries = dict(
            zip(wanted, self._encode(features, [outputs[i] for i in wanted], place, False), strict=True)
        )
        paths = iter(
            [
                replace(
                    path,
                    memory=path.memory.add(entries[i]) if i in entries else path.memory.without(place.frame),
                )
                for i, (path, _) in enumerate(rows)
            ]
        )
        return [Track(tuple(next(paths) for _ in branches)) for branches in grown]

    def _without_overlap(self, grown: Sequence[list[tuple[Path, Answer]]]) -> list[Output]:
        """Every path's answer at model size where it beats the other objects' best paths."""
        size = self.model.image_size
        best = [branches[0][1].output for branches in grown]
        outputs = []
        for k, branches in enumerate(grown):
            for _, answer in branches:
                rivals = Output.join([*best[:k], answer.output, *best[k + 1 :]])
                own = suppress_overlap(rivals.logits(size))[k : k + 1]
                outputs.append(replace(answer.output, given=own))
        return outputs

    def _encode(
        self, features: Features, outputs: Sequence[Output], place: Place, is_prompted: bool
    ) -> list[Entry]:
        """What to remember of each answer, batches of one."""
        rules, entries = replace(self.rules, non_overlap=False), []
        most = self.rows_on(features.s16.device)
        for start in range(0, len(outputs), most):
            batch = [*range(start, min(start + most, len(outputs)))]
            joined = Output.join([outputs[i] for i in self._run(batch)])
            entry = self.model.remember(features, joined, place.frame, is_prompted, rules)
            entry = entry if self.store is None else entry.to(self.store)
            entries += entry.split(len(batch))
        return entries
