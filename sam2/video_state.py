"""What a video session knows: its frames, its switches, its objects, and the masks that it gives out."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torch import Tensor

from sam2.tracker import Track
from sam2.types import Output, Prompt


class SessionError(RuntimeError):
    """What was asked does not fit the state of the session; nothing has changed."""


class Frames(Protocol):
    """The frames of a video at model size, decoded when asked for."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, frame: int) -> Tensor:
        """RGB (3, S, S): uint8, or float32 after ImageNet normalisation."""
        ...


@dataclass(frozen=True)
class SessionOptions:
    """Switches of the released predictor, by their names there where it has them.

    Attributes:
        fill_hole_area: holes of at most this many low-resolution pixels are filled; 0: none.
        non_overlap_masks: in the masks given out, a pixel belongs to one object only.
        clear_non_cond_mem_around_input: a prompt makes an object forget its tracked frames nearby, which may hold
            what the prompt corrects.
        add_all_frames_to_correct_as_cond: corrected frames become prompted frames of the memory, as in training.
        offload_state_to_cpu: keep memories and masks in host memory.
        keep_past: hold the memory and the masks of every frame, which corrections and backward passes need. Without,
            memory does not grow with the video, and it can be followed forward only.
        max_rows: objects that go through the model together; see `Tracker`.
        cached_features: frames whose features are kept for the next prompt.
    """

    fill_hole_area: int = 0
    non_overlap_masks: bool = False
    clear_non_cond_mem_around_input: bool = False
    add_all_frames_to_correct_as_cond: bool = False
    offload_state_to_cpu: bool = False
    keep_past: bool = True
    max_rows: int | None = None
    cached_features: int = 2


class Pending(NamedTuple):
    """An answer that is not remembered yet, and whether its frame will be a prompted frame of the memory."""

    answer: Output
    is_prompted: bool


@dataclass
class TrackedObject:
    """All that is known of one object.

    Attributes:
        track: its memory, under the policy's care.
        prompts: clicks and box of a frame, in model pixels.
        masks: what was given as the answer of a frame, bool (1, 1, S, S).
        pending: answers that are not remembered yet.
        answers: what was shown on every frame, and whether the frame is a prompted one.
        tracked: frames that tracking has passed, and whether it went backwards.
    """

    track: Track
    prompts: dict[int, Prompt] = field(default_factory=dict)
    masks: dict[int, Tensor] = field(default_factory=dict)
    pending: dict[int, Pending] = field(default_factory=dict)
    answers: dict[int, Pending] = field(default_factory=dict)
    tracked: dict[int, bool] = field(default_factory=dict)

    def committed(self, frame: int) -> Output | None:
        """What is remembered to have been shown on a frame, if anything."""
        found = self.answers.get(frame)
        return None if found is None else found.answer

    @property
    def prompted_frames(self) -> list[int]:
        """Prompted frames of the memory, in order."""
        return sorted(frame for frame, answer in self.answers.items() if answer.is_prompted)

    @property
    def input_frames(self) -> list[int]:
        """Frames with a prompt, in order."""
        return sorted(self.prompts.keys() | self.masks.keys())


class FrameMasks(NamedTuple):
    """Masks of all objects on a frame.

    `logits` (O, 1, H, W) are at the video's size, above zero on the object; `ious` and `object_logits` (O,) are NaN for
    objects that have no answer on the frame. Ids are in the order in which the objects came.
    """

    frame: int
    object_ids: list[Hashable]
    logits: Tensor
    ious: Tensor
    object_logits: Tensor
