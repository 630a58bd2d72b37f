"""Clicks, boxes and rough masks on an image, checked and brought to the model's pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sam2.types import Prompt

# the reference's codes; 2 and 3 are the first and second corner of a box
_PADDING, _CLICKS, _CORNERS = -1, (0, 1), (2, 3)


class PromptError(ValueError):
    """A prompt that cannot be meant: none at all, wrong shape, missing labels, a box turned inside out or elsewhere."""


class StrayClickError(PromptError):
    """A click outside of the image."""

    def __init__(self, canvas: Canvas, point: Tensor) -> None:
        super().__init__(f"point {canvas.as_given(point)} is outside of {canvas}")


class Names(NamedTuple):
    """What the caller's arguments are called, for errors."""

    points: str = "point_coords"
    labels: str = "point_labels"
    mask: str = "mask_input"


_NAMES = Names()


@dataclass(frozen=True)
class Canvas:
    """Where prompts are drawn: an image of `height` x `width`, seen by a model of `size_px` x `size_px`.

    With `normalize`, coordinates are pixels of the image; without, they are fractions of its sides.
    """

    height: int
    width: int
    size_px: int
    device: torch.device
    normalize: bool = True

    def place(self, coords: Tensor) -> Tensor:
        """Coordinates x, y (..., 2) in model pixels, on the device."""
        coords = coords.to(self.device)
        if self.normalize:
            coords = coords / coords.new_tensor([self.width, self.height])
        return coords * self.size_px

    def holds(self, placed: Tensor) -> Tensor:
        """Whether model pixels (..., 2) lie in the image, or at most a pixel outside: bool (...)."""
        margin = 1 / placed.new_tensor([self.width, self.height]) * self.size_px
        return ((placed >= -margin) & (placed <= self.size_px)).all(dim=-1)

    def as_given(self, placed: Tensor) -> str:
        """Model pixels (2,) as they came in."""
        unit = placed / self.size_px
        x, y = (unit * unit.new_tensor([self.width, self.height]) if self.normalize else unit).tolist()
        return f"({x:g}, {y:g})"

    def __str__(self) -> str:
        if self.normalize:
            return f"the frame, {self.width} wide and {self.height} high"
        return "the frame; with normalize_coords=False coordinates are fractions of its sides"


def build_prompt(
    canvas: Canvas,
    points: ArrayLike | Tensor | None = None,
    labels: ArrayLike | Tensor | None = None,
    box: ArrayLike | Tensor | None = None,
    mask: ArrayLike | Tensor | None = None,
    *,
    names: Names = _NAMES,
) -> Prompt:
    """One prompt for B objects of an image.

    Args:
        canvas: image and model sizes.
        points: x, y of clicks, (P, 2) for one object or (B, P, 2).
        labels: (P,) or (B, P); 1 object, 0 background. As in the reference, -1 is padding, wherever the point lies,
            and 2 and 3 are the first and second corner of a box.
        box: x1, y1, x2, y2, (4,) for one object or (B, 4); may reach over the image's edge.
        mask: low-resolution logits of an earlier answer, (1, 4h, 4w) or (B, 1, 4h, 4w).
        names: of the arguments as the caller has them.

    Raises:
        PromptError: naming the argument, what it is and what it should be. Also for an object without any prompt, one
            whose clicks are all more than a pixel outside of the image, and a box that has nothing of the image.
    """
    if points is None and labels is None and box is None and mask is None:
        raise PromptError(f"no prompt: give {names.points} with {names.labels}, box or {names.mask}")
    parts = []
    if box is not None:
        parts.append(_corners(canvas, box))
    if points is not None or labels is not None:
        parts.append(_clicks(canvas, points, labels, names))
    objects = {len(part) for part, _ in parts}
    if len(objects) > 1:
        raise PromptError(
            f"box is for {len(parts[0][0])} objects, {names.points} for {len(parts[1][0])}; "
            f"give {names.points} as BxNx2 with one row of points for each box"
        )
    logits = None if mask is None else _logits(canvas, mask, names.mask)
    count = objects.pop() if objects else 1 if logits is None else len(logits)
    if logits is not None and len(logits) not in (1, count):
        raise PromptError(f"{names.mask} is for {len(logits)} objects, the other prompts for {count}")
    if not parts:
        parts.append((torch.zeros(count, 0, 2), torch.zeros(count, 0)))
    kinds = torch.cat([kinds.to(canvas.device, torch.int64) for _, kinds in parts], dim=1)
    if logits is None:
        _check_something_asked(kinds)
    return Prompt(
        torch.cat([coords.to(canvas.device) for coords, _ in parts], dim=1),
        kinds,
        None if logits is None else logits.expand(count, -1, -1, -1),
    )


def stray_clicks(canvas: Canvas, points: Tensor, labels: Tensor) -> Tensor:
    """Which points (B, P) are clicks more than a pixel outside of the image; model pixels (B, P, 2)."""
    return _are_clicks(labels) & ~canvas.holds(points)


def _are_clicks(labels: Tensor) -> Tensor:
    return torch.isin(labels, labels.new_tensor(_CLICKS))


def _check_something_asked(kinds: Tensor) -> None:
    """Every object has a point or box; `kinds` (B, P) are all labels."""
    idle = (kinds == _PADDING).all(dim=1)
    if idle.any():
        which = f" for object {int(idle.int().argmax())}" if len(idle) > 1 else ""
        raise PromptError(f"no prompt{which}: all its points are padding (label -1), or there are none")


def _clicks(
    canvas: Canvas, points: ArrayLike | Tensor | None, labels: ArrayLike | Tensor | None, names: Names
) -> tuple[Tensor, Tensor]:
    if points is None or labels is None:
        given, lacking = names.points, names.labels
        if points is None:
            given, lacking = lacking, given
        raise PromptError(f"{given} without {lacking}; every point needs its label (1 object, 0 background)")
    coords, kinds = _floats(names.points, points), _floats(names.labels, labels)
    if coords.dim() not in (2, 3) or coords.shape[-1] != 2:
        raise PromptError(f"{names.points} has shape {_shape(coords)}, expected Nx2 or BxNx2 (x, y)")
    if kinds.shape != coords.shape[:-1]:
        raise PromptError(f"{names.labels} has shape {_shape(kinds)}, but {names.points} {_shape(coords)}")
    bad = kinds[~torch.isin(kinds, kinds.new_tensor((_PADDING, *_CLICKS, *_CORNERS)))]
    if len(bad):
        raise PromptError(
            f"{names.labels} holds {bad[0].item():g}; expected 1 (object) or 0 (background); as in the reference, "
            "-1 (padding), 2 and 3 (first and second corner of a box) are taken as well"
        )
    coords, kinds = (coords[None], kinds[None]) if coords.dim() == 2 else (coords, kinds)
    placed, kinds = canvas.place(coords), kinds.to(canvas.device)
    stray, clicks = stray_clicks(canvas, placed, kinds), _are_clicks(kinds)
    lost = clicks.any(dim=1) & (stray == clicks).all(dim=1)
    if lost.any():
        raise StrayClickError(canvas, placed[stray & lost[:, None]][0])
    return placed, kinds


def _corners(canvas: Canvas, box: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    boxes = _floats("box", box)
    if boxes.dim() not in (1, 2) or boxes.shape[-1] != 4 or not len(boxes):
        raise PromptError(f"box has shape {_shape(boxes)}, expected 4 or Nx4 (x1, y1, x2, y2)")
    boxes = boxes.reshape(-1, 4)
    right, bottom = (canvas.width, canvas.height) if canvas.normalize else (1, 1)
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        name = f"box {i}" if len(boxes) > 1 else "box"
        if x1 >= x2 or y1 >= y2:
            raise PromptError(
                f"{name} is ({x1:g}, {y1:g}, {x2:g}, {y2:g}); expected x1 < x2 and y1 < y2, not x, y, width, height"
            )
        if x1 >= right or y1 >= bottom or x2 <= 0 or y2 <= 0:
            raise PromptError(f"{name} is ({x1:g}, {y1:g}, {x2:g}, {y2:g}), all of it outside of {canvas}")
    return canvas.place(boxes.view(-1, 2, 2)), torch.tensor([[2, 3]]).expand(len(boxes), 2)


def _logits(canvas: Canvas, mask: ArrayLike | Tensor, name: str) -> Tensor:
    logits = _floats(name, mask)
    side = canvas.size_px // 4
    if logits.dim() not in (3, 4) or logits.shape[-3:] != (1, side, side):
        raise PromptError(
            f"{name} has shape {_shape(logits)}, expected 1x{side}x{side} or Bx1x{side}x{side}: one of the "
            "low-resolution logits that predict returned, kept as [k:k+1]"
        )
    return logits.reshape(-1, 1, side, side).to(canvas.device)


def _floats(name: str, values: ArrayLike | Tensor) -> Tensor:
    try:
        # numpy first: it takes lists of arrays, which torch reads element by element
        tensor = (
            values if isinstance(values, Tensor) else torch.from_numpy(np.array(values, dtype=np.float32))
        )
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} is no array of numbers: {error}") from error
    tensor = tensor.detach().float()
    if not tensor.isfinite().all():
        raise PromptError(f"{name} holds infinite or undefined numbers")
    return tensor


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "()"
