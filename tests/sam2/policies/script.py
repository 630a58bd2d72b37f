"""A model that plays a script instead of looking at pixels, under the real tracker.

A frame's script says for each path, in the light of what it recalls, where the decoder would see the object: boxes of
its candidates, their IoUs, the object score. Everything that a policy sees and decides is there; no weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from sam2.model.memory_bank import MemoryPolicy, Place, Recall
from sam2.policies import Policy
from sam2.tracker import Track, Tracker
from sam2.types import Entry, Features, MaskPrompt, Output

SIDE = 32  # low-resolution pixels
Box = tuple[int, int, int, int]  # left, top, right, bottom, both included


@dataclass(frozen=True)
class Says:
    """The decoder's answer: candidates with IoUs, the object score, and the pointer if it matters."""

    boxes: Sequence[Box]
    ious: Sequence[float]
    visible: float = 5.0
    look: tuple[float, float] | None = None


Script = Callable[[int, Recall], Says]


class ScriptedModel:
    """Stands in for SAM2. Pointers hold the frame and the left edge of the mask, maps the frame in every cell."""

    image_size = 4 * SIDE
    shapes = None  # nothing is padded

    def __init__(self, script: Script, rules: MemoryPolicy | None = None) -> None:
        self.policy = rules or MemoryPolicy()
        self._script, self._frame = script, 0
        self._recalls: list[Recall] = []
        self.looked_at: dict[int, list[Recall]] = {}

    def at(self, frame: int) -> None:
        self._frame = frame

    def look(self, features: Features) -> torch.Tensor:
        return features.s16

    def attend(
        self, features: Features, recalls: Sequence[Recall], looked: torch.Tensor | None = None
    ) -> torch.Tensor:
        self._recalls = list(recalls)
        self.looked_at.setdefault(self._frame, []).extend(recalls)
        return features.s16

    def without_memory(self, features: Features) -> torch.Tensor:
        self._recalls = [Recall([], [], 1)]
        return features.s16

    def decode(self, features, conditioned, prompt, rules) -> Output:
        if isinstance(prompt, MaskPrompt):
            masks = torch.nn.functional.avg_pool2d(prompt.masks.float(), 4) * 20 - 10
            return _output(masks, torch.ones(1, 1), torch.full((1, 1), 10.0), self._frame)
        return Output.join([self._answer(recall) for recall in self._recalls])

    def choose(self, output: Output, candidates: torch.Tensor) -> Output:
        k = int(candidates[0])
        return _output(
            output.candidates[:, k : k + 1], output.ious[:, k : k + 1], output.object_logit, self._frame
        )

    def remember(self, features, output: Output, frame: int, is_prompted: bool, rules) -> Entry:
        size = (len(output), 4, 2, 2)
        return Entry(frame, is_prompted, torch.full(size, float(frame)), output.pointer, output.object_logit)

    def _answer(self, recall: Recall) -> Output:
        says = self._script(self._frame, recall)
        masks = torch.stack([drawn(box) for box in says.boxes])[None]
        if says.visible <= 0:
            masks = torch.full_like(masks, -1024.0)
        output = _output(masks, torch.tensor([says.ious]), torch.tensor([[says.visible]]), self._frame)
        return output if says.look is None else replace(output, pointer=torch.tensor([says.look]))


def drawn(box: Box) -> torch.Tensor:
    """Logits of a filled box."""
    left, top, right, bottom = box
    logits = torch.full((SIDE, SIDE), -10.0)
    logits[top : bottom + 1, left : right + 1] = 10.0
    return logits


def _output(masks: torch.Tensor, ious: torch.Tensor, visible: torch.Tensor, frame: int) -> Output:
    best = int(ious[0].argmax())
    low_res = masks[:, best : best + 1]
    pointer = torch.tensor([[float(frame), float(left_edge(low_res))]])
    return Output(low_res, masks, ious, visible, pointer, tokens=torch.zeros(1, masks.shape[1], 2))


def left_edge(logits: torch.Tensor) -> int:
    """First column of a mask; -1 where there is none."""
    columns = (logits[0, 0] > 0).any(dim=0)
    return int(columns.long().argmax()) if bool(columns.any()) else -1


@dataclass
class Player:
    """One object followed through scripted frames, in constant memory as in a stream, or keeping all."""

    script: Script
    policy: Policy
    first: Box = (4, 4, 11, 11)
    rules: MemoryPolicy | None = None
    is_stream: bool = True
    length: int = 1000

    def __post_init__(self) -> None:
        self.model = ScriptedModel(self.script, self.rules)
        self.tracker = Tracker(self.model, self.policy)  # type: ignore[arg-type]
        self.track: Track = self.tracker.begin()
        self.prompt(0, self.first)

    def prompt(self, frame: int, box: Box) -> None:
        """A person gives the mask of a frame."""
        self.model.at(frame)
        mask = torch.nn.functional.interpolate(drawn(box)[None, None], scale_factor=4) > 0
        place, features = Place(frame, self.length), _features()
        answer = self.tracker.ask(features, self.track, place, MaskPrompt(mask), True)
        [self.track] = self.tracker.commit(features, [self.track], [answer], place, [True])

    def step(self, frame: int, reverse: bool = False) -> Output:
        """Track one frame."""
        self.model.at(frame)
        if self.is_stream and not reverse:
            self.track = self.tracker.forget(self.track, Place(frame - 1, self.length))
        place = Place(frame, self.length, reverse)
        [(shown, self.track)] = self.tracker.advance(_features(), [self.track], place)
        return shown

    def play(self, frames: Sequence[int]) -> list[int]:
        """Left edges of what is shown on each frame."""
        return [left_edge(self.step(frame).low_res) for frame in frames]

    def looked_at(self, frame: int) -> list[tuple[int, int]]:
        """Frames, and rows of the time code, of the maps that the best path looked at."""
        return [(entry.frame, row) for entry, row in self.model.looked_at[frame][0].maps]

    @property
    def remembered(self) -> list[int]:
        """Frames whose maps the best path holds."""
        return [e.frame for e in self.track.best.memory.entries if e.spatial.numel()]

    @property
    def bytes(self) -> int:
        """Of all tensors that the paths hold, each storage once."""
        tensors = [
            t
            for p in self.track.paths
            for e in p.memory.entries
            for t in (e.spatial, e.pointer, e.object_logit)
        ]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(storages.values())


def _features() -> Features:
    return Features(*[torch.zeros(1, 1, 2, 2) for _ in range(4)])


def steady(frame: int, recall: Recall) -> Says:
    """An object that stays, seen well."""
    return Says([(4, 4, 11, 11), (4, 4, 12, 12), (4, 4, 11, 15)], [0.9, 0.8, 0.7])


def edges(recall: Recall) -> set[int]:
    """Left edges of the masks in the recalled maps."""
    return {int(entry.pointer[0, 1]) for entry, _ in recall.maps}
