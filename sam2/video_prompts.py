"""Clicks, boxes and masks on a frame of a video, checked before anything changes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from sam2.image_prompts import Canvas, Names, PromptError, StrayClickError, build_prompt, stray_clicks
from sam2.types import Prompt

_NAMES = Names("points", "labels", "mask")
LOGIT_RANGE = 32.0  # of an earlier answer that goes in as a mask prompt


def clicks_and_box(
    canvas: Canvas,
    points: ArrayLike | Tensor | None,
    labels: ArrayLike | Tensor | None,
    box: ArrayLike | Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Model pixels (1, P, 2) and labels (1, P) of one object's clicks; a box comes first, as its two corners.

    Args:
        canvas: the frame.
        points: x, y of clicks, (P, 2) or (1, P, 2).
        labels: (P,) or (1, P), as `build_prompt` takes them.
        box: x1, y1, x2, y2; may reach over the frame's edge.

    Raises:
        PromptError: nothing given, several objects, a click outside of the frame, or what `build_prompt` refuses.
    """
    if points is None and labels is None and box is None:
        raise PromptError("no prompt: give points with labels, or a box")
    prompt = build_prompt(canvas, points, labels, box, names=_NAMES)
    if len(prompt.points) != 1:
        raise PromptError(f"points for {len(prompt.points)} objects; a call is for one object")
    stray = stray_clicks(canvas, prompt.points, prompt.labels)
    if stray.any():
        raise StrayClickError(canvas, prompt.points[stray][0])
    return prompt.points, prompt.labels


def mask_on_frame(canvas: Canvas, mask: ArrayLike | Tensor) -> Tensor:
    """A mask (H, W) of the frame at model size, bool (1, 1, S, S).

    Raises:
        PromptError: not two-dimensional, or not of the frame's size.
    """
    given = mask if isinstance(mask, Tensor) else torch.as_tensor(mask)
    if given.dim() != 2:
        raise PromptError(f"mask has shape {'x'.join(map(str, given.shape))}, expected HxW")
    sizes = {(canvas.height, canvas.width), (canvas.size_px, canvas.size_px)}
    if tuple(given.shape) not in sizes:
        raise PromptError(
            f"mask is {given.shape[0]}x{given.shape[1]}, the frame is {canvas.height}x{canvas.width} (height x width)"
        )
    region = (given != 0).to(canvas.device)[None, None]
    size = (canvas.size_px, canvas.size_px)
    if region.shape[-2:] == size:
        return region
    soft = F.interpolate(region.float(), size, mode="bilinear", align_corners=False, antialias=True)
    return soft >= 0.5


def extended(before: Prompt | None, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Earlier clicks, then the new ones."""
    if before is None:
        return points, labels
    return torch.cat((before.points, points), dim=1), torch.cat((before.labels, labels), dim=1)
