"""What a prediction costs: one function per loss term, one weight per function.

Rules: SAM 2's training code (facebookresearch/sam2 2b90b9f, training/loss_fns.py), held to its numbers by
tests/sam2/training/test_losses.py. Of the mask candidates of an object only the best one is supervised; where the
truth is empty only the object score is. Terms are sums over objects divided by `count`; callers add them up over
correction steps and frames, so the loss grows with both.

To add a term: write a function (Scores, LossConfig) -> (O,) and give `LossConfig` a field `weight(default, function)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from sam2.training.mask_scores import focal_dice_iou
from sam2.types import ShapeError


@dataclass(frozen=True)
class Scores:
    """One prediction step held against the truth: all that a loss term may look at.

    `focal`, `dice` and `overlap` (O, M) compare every candidate with the true mask, `overlap` being its IoU;
    `ious` (O, M) and `object_logit` (O,) are the model's own estimates; `visible` (O,) is 1 where the true mask has a
    pixel; `supervised` (O,) is 0 where the masks of an object do not count; `best` (O, 1) is the candidate that does.
    """

    focal: Tensor
    dice: Tensor
    overlap: Tensor
    ious: Tensor
    object_logit: Tensor
    visible: Tensor
    supervised: Tensor
    best: Tensor

    def pick(self, per_candidate: Tensor) -> Tensor:
        """The value (O,) of each object's best candidate."""
        return per_candidate.gather(1, self.best).squeeze(1)


def mask_term(scores: Scores, config: LossConfig) -> Tensor:
    """Focal loss of the best candidate."""
    return scores.supervised * scores.pick(scores.focal)


def dice_term(scores: Scores, config: LossConfig) -> Tensor:
    """Dice loss of the best candidate."""
    return scores.supervised * scores.pick(scores.dice)


def iou_term(scores: Scores, config: LossConfig) -> Tensor:
    """Error of the predicted IoUs: of all candidates, or of the best one."""
    error = scores.ious - scores.overlap
    error = error.abs() if config.iou_l1 else error.square()
    return scores.supervised * (error.mean(1) if config.supervise_all_ious else scores.pick(error))


def object_term(scores: Scores, config: LossConfig) -> Tensor:
    """Error of the object score: is the object visible at all?"""
    if not config.object_scores:
        return torch.zeros_like(scores.object_logit)
    logit, truth = scores.object_logit, scores.visible
    signed = logit * (2 * truth - 1)
    loss = functional.softplus(-signed) * torch.sigmoid(-signed) ** config.object_focal_gamma
    if config.object_focal_alpha < 0:
        return loss
    return loss * torch.where(truth > 0, config.object_focal_alpha, 1 - config.object_focal_alpha)


Term = Callable[[Scores, "LossConfig"], Tensor]


def weight(default: float, term: Term) -> Any:
    """A field of `LossConfig` that is the weight of `term`."""
    return field(default=default, metadata={"term": term})


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms and their settings; the defaults are the released recipe's.

    Attributes:
        mask: weight of the focal loss.
        dice: weight of the dice loss.
        iou: weight of the error of the predicted IoUs.
        object: weight of the error of the object score.
        focal_alpha: weight of object pixels in the focal loss (background has 1 - alpha); negative: both have 1.
        focal_gamma: how strongly the focal loss neglects easy pixels; 0 is cross entropy.
        supervise_all_ious: the predicted IoUs of all candidates count, not of the best one alone.
        iou_l1: IoU errors are absolute, not squared.
        object_scores: object scores are learned, and masks do not count where the truth is empty.
        object_focal_alpha: as `focal_alpha`, for the object score.
        object_focal_gamma: as `focal_gamma`, for the object score.
    """

    mask: float = weight(20.0, mask_term)
    dice: float = weight(1.0, dice_term)
    iou: float = weight(1.0, iou_term)
    object: float = weight(1.0, object_term)
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    supervise_all_ious: bool = True
    iou_l1: bool = True
    object_scores: bool = True
    object_focal_alpha: float = -1.0
    object_focal_gamma: float = 0.0

    def __post_init__(self) -> None:
        for name in (*TERMS, "focal_gamma", "object_focal_gamma"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"loss.{name} is {getattr(self, name)}; it must be 0 or more")
        for name in ("focal_alpha", "object_focal_alpha"):
            if not getattr(self, name) <= 1:
                raise ValueError(
                    f"loss.{name} is {getattr(self, name)}; it must be at most 1 (negative: no balance)"
                )


TERMS: dict[str, Term] = {f.name: f.metadata["term"] for f in fields(LossConfig) if "term" in f.metadata}


@dataclass(frozen=True)
class LossTerms:
    """The unweighted terms of one or more steps, scalars; `terms.mask`, `terms.dice`, ... by the names in `TERMS`."""

    values: tuple[Tensor, ...]

    def __getattr__(self, name: str) -> Tensor:
        if name not in TERMS:
            raise AttributeError(f"there is no loss term {name!r}; known: {', '.join(TERMS)}")
        return self.values[list(TERMS).index(name)]

    def __add__(self, other: LossTerms) -> LossTerms:
        return LossTerms(tuple(a + b for a, b in zip(self.values, other.values, strict=True)))

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Name and value of every term."""
        return zip(TERMS, self.values, strict=True)

    def detach(self) -> LossTerms:
        """The same numbers without what they were computed from."""
        return LossTerms(tuple(value.detach() for value in self.values))

    def total(self, config: LossConfig) -> Tensor:
        """The weighted sum, which is what training minimises."""
        weighted = [getattr(config, name) * value for name, value in self.items()]
        return torch.stack(weighted).sum()


def prediction_loss(
    logits: Tensor,
    ious: Tensor,
    object_logit: Tensor,
    target: Tensor,
    count: Tensor | float,
    config: LossConfig,
) -> LossTerms:
    """The loss of one prediction step on one frame. Computed in float32 at least; never waits for the device.

    Args:
        logits: mask candidates (O, M, h, w) before sigmoid. At another size than the target's they are enlarged
            bilinearly here, which keeps no image-size tensor for the backward pass.
        ious: the IoU that the model predicts for each candidate, (O, M).
        object_logit: is the object visible, (O, 1), before sigmoid.
        target: true masks, bool (O, H, W).
        count: objects that the sum is divided by, see `object_count`.
        config: settings of the terms.

    Raises:
        ShapeError: the tensors disagree in O or M, or `target` is not bool.
    """
    objects, candidates = logits.shape[:2]
    expected = (objects, candidates), (objects, 1), (objects,)
    if (
        tuple(ious.shape),
        tuple(object_logit.shape),
        tuple(target.shape[:1]),
    ) != expected or target.ndim != 3:
        raise ShapeError(
            f"logits {tuple(logits.shape)} need ious {expected[0]}, an object logit {expected[1]} and a target "
            f"({objects}, H, W); got {tuple(ious.shape)}, {tuple(object_logit.shape)}, {tuple(target.shape)}"
        )
    if target.dtype != torch.bool:
        raise ShapeError(f"the target must hold true and false, not {target.dtype}; pass target > 0")
    focal, dice, overlap = focal_dice_iou(logits, target, config.focal_alpha, config.focal_gamma)
    visible = target.flatten(1).any(1).to(focal.dtype)
    scores = Scores(
        focal=focal,
        dice=dice,
        overlap=overlap,
        ious=ious.to(focal.dtype),
        object_logit=object_logit.squeeze(1).to(focal.dtype),
        visible=visible,
        supervised=visible if config.object_scores else torch.ones_like(visible),
        best=(config.mask * focal + config.dice * dice).detach().argmin(1, keepdim=True),
    )
    return LossTerms(tuple(term(scores, config).sum() / count for term in TERMS.values()))


def object_count(objects: int, device: torch.device | str) -> Tensor:
    """Mean number of objects per process, at least 1: a float scalar on `device`.

    Dividing by it and averaging gradients over processes gives the gradient of one process with all objects,
    however unevenly they are shared out. Every process must call this the same number of times.
    """
    count = torch.full((), float(objects), device=device)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count /= dist.get_world_size()
    return count.clamp(min=1.0)
