"""Play a clip through the model as a user would: prompt, track, correct; the loss of every answer.

The same four verbs as at inference, in training order: prompted frames first, then the rest in time.
Source: SAM 2 (arXiv 2408.00714) and its released training code's behaviour, held by tests/sam2/training/test_unroll.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from data.clip import ClipBatch
from data.prompts import PromptPlan, PromptPolicy, SimulatedUser
from sam2.model.memory_bank import MemoryPolicy, Place
from sam2.model.pixels import normalise
from sam2.model.sam2 import SAM2, no_prompt
from sam2.training.losses import LossConfig, LossTerms, prediction_loss
from sam2.types import Features, MaskPrompt, Memory, Output, Prompt


class User(Protocol):
    """Whoever prompts and corrects: simulated in training, replayed in tests."""

    def start(self, frame: int) -> tuple[Tensor, Tensor]:
        """Points (O, P, 2) and labels (O, P) that open `frame`."""

    def correct(self, frame: int, click: int, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """Points (O, 1, 2) and labels (O, 1) in answer to a prediction (O, S, S) bool."""


@dataclass(frozen=True)
class Answer:
    """One frame's answers: the first and one after each correction click; the last one is remembered."""

    frame: int
    outputs: tuple[Output, ...]


def observe_all(model: SAM2, frames: Tensor, chunk: int = 0) -> Features:
    """Features of all frames of a batch: uint8 (T, B, 3, S, S) -> T * B rows, row t * B + b.

    `chunk` frames go through the trunk at a time (0: all), which bounds memory where the trunk is frozen.
    """
    flat = frames.flatten(0, 1)
    parts = [model.observe(normalise(part)) for part in flat.split(chunk or len(flat))]
    if len(parts) == 1:
        return parts[0]
    s4, s8, s16 = (torch.cat([getattr(part, name) for part in parts]) for name in ("s4", "s8", "s16"))
    return Features(s4, s8, s16, parts[0].position)


def unroll(
    model: SAM2, features: Features, batch: ClipBatch, plan: PromptPlan, user: User, policy: MemoryPolicy
) -> Iterator[Answer]:
    """Answer all frames of a batch, in the order of the plan.

    Args:
        model: in train or eval mode; its dropout is all that differs.
        features: from `observe_all`, T * B rows.
        batch: its masks open clips that start from masks.
        plan: which frames are prompted and corrected.
        user: gives the clicks.
        policy: how the past is used.
    """
    videos, memory, order = batch.frames.shape[1], Memory(), plan.order
    for frame in order:
        seen = features.pick(frame * videos + batch.video_of_object)
        is_first, is_corrected = frame in plan.first, frame in plan.corrected
        if is_first:
            conditioned = model.without_memory(seen)
        else:
            conditioned = model.condition(seen, memory, Place(frame, plan.frames), policy)
        prompt = _opening(batch, plan, user, frame)
        outputs = [model.decode(seen, conditioned, prompt, policy)]
        if is_corrected:
            given = prompt if is_first and isinstance(prompt, Prompt) else None
            outputs += corrections(model, seen, conditioned, outputs[0], given, plan, user, policy, frame)
        if frame != order[-1]:
            is_prompted = is_first or is_corrected
            memory = memory.add(model.remember(seen, outputs[-1], frame, is_prompted, policy))
        yield Answer(frame, tuple(outputs))


def corrections(
    model: SAM2,
    seen: Features,
    conditioned: Tensor,
    output: Output,
    given: Prompt | None,
    plan: PromptPlan,
    user: User,
    policy: MemoryPolicy,
    frame: int,
) -> list[Output]:
    """Click after click on one conditioned map, each with the last answer as mask prompt."""
    outputs: list[Output] = []
    for click in range(plan.clicks):
        with torch.no_grad():
            predicted = output.logits(model.image_size)[:, 0] > 0
            points, labels = user.correct(frame, click, predicted)
        if given is not None:
            points = torch.cat((given.points, points), dim=1)
            labels = torch.cat((given.labels, labels), dim=1)
        given = Prompt(points, labels, output.low_res)
        output = model.decode(seen, conditioned, given, policy)
        outputs.append(output)
    return outputs


def training_loss(
    model: SAM2,
    batch: ClipBatch,
    plan: PromptPlan,
    user: User,
    policy: MemoryPolicy,
    config: LossConfig,
    count: Tensor | float,
    chunk: int = 0,
) -> LossTerms:
    """The loss of a batch: summed over frames and correction steps, divided by `count` objects."""
    features = observe_all(model, batch.frames, chunk)
    total: LossTerms | None = None
    for answer in unroll(model, features, batch, plan, user, policy):
        for output in answer.outputs:
            logits = output.candidates if output.given is None else output.given
            target = batch.masks[answer.frame]
            terms = prediction_loss(logits, output.ious, output.object_logit, target, count, config)
            total = terms if total is None else total + terms
    if total is None:
        raise ValueError("a clip has at least one frame")
    return total


def _opening(batch: ClipBatch, plan: PromptPlan, user: User, frame: int) -> Prompt | MaskPrompt:
    if frame not in plan.first:
        return no_prompt(len(batch.video_of_object), batch.masks.device)
    if plan.from_masks:
        return MaskPrompt(batch.masks[frame][:, None])
    return Prompt(*user.start(frame))


def simulated_user(batch: ClipBatch, plan: PromptPlan, policy: PromptPolicy) -> SimulatedUser:
    """The user of training: clicks drawn from each object's own seed."""
    return SimulatedUser(plan, policy, batch.masks, batch.object_seeds)
