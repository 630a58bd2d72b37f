"""Focal loss, dice loss and IoU of many masks against the truth, in little memory.

Left to autograd, a mask keeps some ten image-size tensors for the backward pass, and a training step makes up to 22
sets of masks. Here only the logits are kept, at the size at which they come in; both directions work through the
masks in chunks, and the slopes are written out. tests/sam2/training/test_losses.py checks them by finite differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Pixels worked on at a time: few enough for a CPU's cache, many enough to keep a GPU busy.
_CHUNK_PX = {"cpu": 1 << 20, "cuda": 1 << 24}


def focal_dice_iou(
    logits: Tensor, target: Tensor, alpha: float, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compare every mask candidate with its object's true mask.

    With s the logit, p = sigmoid(s), g the truth and q the probability of the wrong class, per mask:
    focal = mean over pixels of a q^gamma (-log(1 - q)), where a is `alpha` on the object and 1 - alpha off it
    (1 everywhere if alpha is negative); dice = 1 - (2 sum(p g) + 1) / (sum(p) + sum(g) + 1); the IoU is that of s > 0
    and has no gradient.

    Args:
        logits: (O, M, h, w); enlarged bilinearly if the target's size differs.
        target: bool (O, H, W).
        alpha: balance of object and background pixels.
        gamma: exponent that makes easy pixels count less.

    Returns:
        focal, dice and IoU, each (O, M), float32 (float64 for float64 logits).
    """
    focal, dice, iou = _FocalDiceIoU.apply(logits, target, alpha, gamma)
    return focal, dice, iou


class _FocalDiceIoU(torch.autograd.Function):
    """With x = -s on the object and s off it, q = sigmoid(x) and -log(1 - q) = softplus(x): all else follows."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, alpha: float, gamma: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        on, off = _balance(alpha)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        focal, hit, size, iou = (logits.new_empty(logits.shape[:2].numel(), dtype=dtype) for _ in range(4))
        for rows, masks, truth in _chunks(logits, target):
            s, g = _enlarge(masks, truth), truth.to(dtype)
            area = _sum(g)
            guess = (s > 0).to(dtype)
            guessed, both = _sum(guess), _sum(guess.mul_(g))
            iou[rows] = both / (guessed + area - both).clamp(min=1)
            x = s * (1 - 2 * g)
            cost, q = functional.softplus(x), x.sigmoid_()
            everywhere, on_object = _sum(cost.mul_(q**gamma)), _sum(cost.mul_(g))
            focal[rows] = (off * (everywhere - on_object) + on * on_object) / max(1, g[:1].numel())
            wrong, missed = _sum(q), _sum(q.mul_(g))
            hit[rows] = 2 * (area - missed) + 1
            size[rows] = 2 * area + wrong - 2 * missed + 1
        ctx.save_for_backward(logits, target, hit, size)
        ctx.alpha, ctx.gamma = alpha, gamma
        focal, dice, iou = (column.view(logits.shape[:2]) for column in (focal, 1 - hit / size, iou))
        ctx.mark_non_differentiable(iou)
        return focal, dice, iou

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        logits, target, hit, size = ctx.saved_tensors
        on, off = _balance(ctx.alpha)
        grad_focal, grad_dice = (grad.flatten()[:, None, None] for grad in grads[:2])
        per_pixel = grad_focal / max(1, target[:1].numel())
        # dice falls by 2 p' / size where the truth is, and rises by hit p' / size^2 everywhere
        dice_off = grad_dice * (hit / size**2)[:, None, None]
        dice_on = grad_dice * (2 / size)[:, None, None] - dice_off
        result = torch.empty_like(logits)
        flat = result.view(-1, *logits.shape[2:])
        for rows, masks, truth in _chunks(logits, target):
            low = masks.detach().requires_grad_()
            with torch.enable_grad():
                s = _enlarge(low, truth)
            sign = 1 - 2 * truth.to(s.dtype)
            x = s.detach() * sign
            cost, q = functional.softplus(x), x.sigmoid_()
            right = 1 - q
            slope = cost.mul_(right).mul_(ctx.gamma).add_(q).mul_(q**ctx.gamma)
            slope.mul_(torch.where(truth, on * per_pixel[rows], off * per_pixel[rows]))
            slope.addcmul_(right.mul_(q), torch.where(truth, dice_on[rows], dice_off[rows]))
            (flat[rows],) = torch.autograd.grad(s, low, slope.mul_(sign))
        return result, None, None, None


def _chunks(logits: Tensor, target: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Rows of the flat list of masks, those masks (K, h, w) and their truth (K, H, W)."""
    objects, candidates = logits.shape[:2]
    masks = logits.flatten(0, 1)
    owner = torch.arange(objects, device=logits.device).repeat_interleave(candidates, output_size=len(masks))
    step = max(1, _CHUNK_PX.get(logits.device.type, _CHUNK_PX["cpu"]) // max(1, target[:1].numel()))
    for start in range(0, len(masks), step):
        rows = slice(start, start + step)
        yield rows, masks[rows], target[owner[rows]]


def _enlarge(masks: Tensor, truth: Tensor) -> Tensor:
    masks = masks.to(torch.promote_types(masks.dtype, torch.float32))
    if masks.shape[-2:] == truth.shape[-2:]:
        return masks
    return functional.interpolate(masks[None], truth.shape[-2:], mode="bilinear", align_corners=False)[0]


def _balance(alpha: float) -> tuple[float, float]:
    """Weights of pixels on and off the object."""
    return (alpha, 1 - alpha) if alpha >= 0 else (1.0, 1.0)


def _sum(pixels: Tensor) -> Tensor:
    return pixels.sum((-2, -1))
