"""Frames and masks brought to model size, flipped, turned, sheared and coloured in one pass.

Frames: bilinear. Where the picture is larger than the model, the axes that are larger are first shrunk to the model's
size with antialiasing (a triangle filter, as PIL and torchvision); the reference turns at full size and shrinks then.
Masks: the same two steps on grey levels, and a pixel belongs to the object from one half on. A picture that is neither
turned nor sheared is resized straight to the square, with the same filter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data.decode import Masklet

MaskRule = Literal["bilinear", "nearest"]
FILL = (123.0, 116.0, 103.0)  # the reference's; close to the mean colour that normalisation subtracts


@dataclass(frozen=True)
class Geometry:
    """Where the pixels go.

    Attributes:
        flip_x: left and right change places.
        flip_y: top and bottom do.
        transpose: rows and columns do, after all else.
        affine: angle and shear in degrees; None: neither turned nor sheared.
        frame_affines: an angle and a shear of each frame, after those of the clip; (): none.
    """

    flip_x: bool = False
    flip_y: bool = False
    transpose: bool = False
    affine: tuple[float, float] | None = None
    frame_affines: tuple[tuple[float, float], ...] = ()

    @property
    def is_turned(self) -> bool:
        """Whether pixels come to lie between others, even at their own size."""
        return self.affine is not None or bool(self.frame_affines)

    def matrices(self, height: int, width: int) -> Tensor:
        """From places in the result to places in the picture, both in [-1, 1] over the full side: (T, 2, 2) float64.

        T is 1 where all frames move alike. Resizing is the identity in these coordinates. Order as in the reference:
        flip the picture, turn and shear it at its own size, resize; then transpose.
        """
        return torch.stack([self._matrix(height, width, turn) for turn in self.frame_affines or [None]])

    def _matrix(self, height: int, width: int, frame_affine: tuple[float, float] | None) -> Tensor:
        result = torch.eye(2, dtype=torch.float64)
        for turn in (self.affine, frame_affine):
            result = result if turn is None else result @ _unturn(*turn)
        if self.is_turned:
            to_px = torch.tensor([[width / 2], [height / 2]], dtype=torch.float64)
            result = result * to_px.T / to_px
        if self.transpose:
            result = result.flip(1)
        signs = torch.tensor(
            [[-1.0 if self.flip_x else 1.0], [-1.0 if self.flip_y else 1.0]], dtype=torch.float64
        )
        return signs * result

    def without_affine(self) -> Geometry:
        """Flips and transposition alone."""
        return replace(self, affine=None, frame_affines=())


def _unturn(angle: float, shear: float) -> Tensor:
    """Inverse of turn(angle) @ shear_x(shear), y pointing down as in torchvision's `affine`."""
    turn, slope = math.radians(angle), math.tan(math.radians(shear))
    a, c = math.cos(turn), math.sin(turn)
    b, d = -a * slope - c, -c * slope + a
    return torch.tensor([[d, -b], [-c, a]], dtype=torch.float64)  # the determinant is 1


def resize(frames: Tensor, height: int, width: int) -> Tensor:
    """(T, H, W, 3) uint8 -> (T, 3, height, width), bilinear, antialiased where it shrinks.

    The result is uint8 on a CPU; elsewhere, where torch has no such kernel for bytes, float32 that is not rounded.
    """
    pixels = frames.permute(0, 3, 1, 2)
    if pixels.shape[2:] == (height, width):
        return pixels
    pixels = pixels if pixels.is_cpu else pixels.float()
    return F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)


def warp_frames(frames: Tensor, geometry: Geometry, colours: Tensor | None, size: int) -> Tensor:
    """Move the pixels of a clip, then change their colours; on whatever device `frames` is.

    Args:
        frames: (T, H, W, 3) uint8.
        geometry: where pixels go.
        colours: (T, 3, 6), see `data.colour.colour_table`; None: as they are.
        size: side of the result.

    Returns:
        (T, 3, size, size) uint8.
    """
    height, width = frames.shape[1:3]
    device = frames.device
    if not geometry.is_turned:
        pixels, grid = flip(resize(frames, size, size), geometry), None
        if colours is None:
            return pixels.contiguous() if pixels.dtype == torch.uint8 else pixels.round().to(torch.uint8)
    else:
        pixels = resize(frames, min(height, size), min(width, size))
        theta = F.pad(geometry.matrices(height, width), (0, 1)).float().to(device).expand(len(frames), 2, 3)
        grid = F.affine_grid(theta[:1], [1, 3, size, size], align_corners=False)
    if colours is None:
        colours = torch.eye(3, 6, device=device).expand(len(frames), 3, 6)
    result = torch.empty(len(frames), 3, size, size, dtype=torch.uint8, device=device)
    # On a CPU one frame at a time stays in its caches; elsewhere few large kernels are faster.
    step = 1 if frames.is_cpu else len(frames)
    work = torch.empty(step, *pixels.shape[1:], device=device)
    fill = torch.tensor(FILL, device=device).view(1, 3, 1)
    for t in range(0, len(frames), step):
        work.copy_(pixels[t : t + step])
        if grid is not None:
            if geometry.frame_affines:
                grid = F.affine_grid(theta[t : t + step], [step, 3, size, size], align_corners=False)
            spread = grid.expand(step, -1, -1, -1)
            turned = F.grid_sample(work.sub_(fill[..., None]), spread, align_corners=False)
            placed, base = turned.flatten(2), fill
        else:
            placed, base = work.flatten(2), torch.zeros_like(fill)
        on_pixel, on_mean = colours[t : t + step].split(3, dim=2)
        mean = placed.mean(2, keepdim=True) + base
        offset = on_pixel @ base + on_mean @ mean + 0.5  # one half: conversion to uint8 cuts off
        coloured = torch.baddbmm(offset, on_pixel, placed).clamp_(0, 255)
        result[t : t + step].view(step, 3, -1).copy_(coloured)
    return result


def flip(pictures: Tensor, geometry: Geometry) -> Tensor:
    """The part of `geometry` that only exchanges pixels, on (..., S, S)."""
    sides = [side for side, is_flipped in ((-1, geometry.flip_x), (-2, geometry.flip_y)) if is_flipped]
    pictures = pictures.flip(sides) if sides else pictures
    return pictures.transpose(-1, -2) if geometry.transpose else pictures


def warp_masks(
    masklets: Sequence[Masklet], geometry: Geometry, size: int, rule: MaskRule = "bilinear"
) -> Tensor:
    """Masks of O objects in T frames at model size, (T, O, size, size) bool.

    `rule` "bilinear" is described above; "nearest" takes the pixel that torch's `nearest-exact` takes.
    """
    result = torch.zeros(len(masklets[0].crop), len(masklets), size, size, dtype=torch.bool)
    for k, masklet in enumerate(masklets):
        if not geometry.is_turned:
            grey, top, left = _RESIZED[rule](masklet, size, size)
            result[:, k, top : top + grey.shape[1], left : left + grey.shape[2]] = (
                torch.from_numpy(grey) > 127
            )
        else:
            matrices = geometry.matrices(masklet.height, masklet.width)
            if geometry.frame_affines:
                for t, matrix in enumerate(matrices):
                    _turn(masklet.frame(t), matrix, result[t : t + 1, k], rule)
            else:
                _turn(masklet, matrices[0], result[:, k], rule)
    return result if geometry.is_turned else flip(result, geometry).contiguous()


def _resized(masklet: Masklet, height: int, width: int) -> tuple[NDArray[np.uint8], int, int]:
    """The object as grey levels in a picture of another size: (T, h, w), and its first row and column there."""
    grey = masklet.crop * np.uint8(255)
    if (masklet.height, masklet.width) == (height, width):
        return grey, masklet.top, masklet.left
    rows = _Span.of(masklet.top, grey.shape[1], masklet.height, height)
    columns = _Span.of(masklet.left, grey.shape[2], masklet.width, width)
    padded = np.pad(grey, ((0, 0), rows.padding, columns.padding))
    box = (columns.box[0], rows.box[0], columns.box[1], rows.box[1])
    side = (columns.length, rows.length)
    pictures = [Image.fromarray(mask).resize(side, Image.Resampling.BILINEAR, box=box) for mask in padded]
    return np.stack([np.asarray(picture) for picture in pictures]), rows.first, columns.first


def _picked(masklet: Masklet, height: int, width: int) -> tuple[NDArray[np.uint8], int, int]:
    """As `_resized`, each pixel the one that `nearest-exact` takes."""
    h, w = masklet.crop.shape[1:]
    rows, top = _picks(masklet.height, height, masklet.top, h)
    columns, left = _picks(masklet.width, width, masklet.left, w)
    return masklet.crop[:, rows[:, None], columns] * np.uint8(255), top, left


def _picks(side: int, new_side: int, start: int, length: int) -> tuple[NDArray[np.int64], int]:
    """For the pixels of the new side that come from a crop: which of it, and the first of them."""
    numbers = torch.arange(side, dtype=torch.float64)[None, None]  # torch itself says which pixel it takes
    sources = F.interpolate(numbers, new_side, mode="nearest-exact")[0, 0].numpy().astype(np.int64) - start
    inside = np.flatnonzero((sources >= 0) & (sources < length))
    return sources[inside], int(inside[0]) if inside.size else 0


class _Span:
    """One axis of a crop that is resized exactly as if the whole picture were."""

    def __init__(self, first: int, length: int, padding: tuple[int, int], box: tuple[float, float]) -> None:
        self.first, self.length = first, length  # in the result
        self.padding = padding  # zeros to put around the crop, so that the filter finds what it would find
        self.box = box  # the part of the padded crop that becomes the result

    @classmethod
    def of(cls, start: int, length: int, side: int, new_side: int) -> _Span:
        scale = side / new_side
        reach = max(1.0, scale)  # of the filter, in pixels of the picture
        first = max(0, math.floor((start - reach) / scale))
        last = min(new_side, math.ceil((start + length + reach) / scale))
        low = min(start, max(0, math.floor(first * scale - reach)))
        high = max(start + length, min(side, math.ceil(last * scale + reach)))
        box = (max(0.0, first * scale - low), min(float(high - low), last * scale - low))
        return cls(first, last - first, (start - low, high - start - length), box)


_RESIZED = {"bilinear": _resized, "nearest": _picked}


def _turn(masklet: Masklet, matrix: Tensor, result: Tensor, rule: MaskRule) -> None:
    """Draw a turned object into (T, S, S) bool; only the window that it can reach is looked at."""
    size = result.shape[-1]
    height, width = min(masklet.height, size), min(masklet.width, size)
    grey, top, left = _RESIZED[rule](masklet, height, width)
    h, w = grey.shape[1:]
    # Corners of the object, one pixel further out, in [-1, 1]; then where they come to lie, in pixels of the result.
    xs = torch.tensor([left - 1, left + w + 1], dtype=torch.float64) / width * 2 - 1
    ys = torch.tensor([top - 1, top + h + 1], dtype=torch.float64) / height * 2 - 1
    corners = torch.cartesian_prod(xs, ys) @ torch.linalg.inv(matrix).T
    places = (corners + 1) / 2 * size
    x0, y0 = (max(0, math.floor(v)) for v in places.amin(0).tolist())
    x1, y1 = (min(size, math.ceil(v)) for v in places.amax(0).tolist())
    if x0 >= x1 or y0 >= y1:
        return
    x = (torch.arange(x0, x1, dtype=torch.float64) + 0.5) / size * 2 - 1
    y = (torch.arange(y0, y1, dtype=torch.float64) + 0.5) / size * 2 - 1
    source_x = matrix[0, 0] * x[None, :] + matrix[0, 1] * y[:, None]
    source_y = matrix[1, 0] * x[None, :] + matrix[1, 1] * y[:, None]
    grid = torch.stack(
        [((source_x + 1) * width - 2 * left) / w - 1, ((source_y + 1) * height - 2 * top) / h - 1], -1
    )
    if not grey.size:
        return
    picture = torch.from_numpy(grey).float()[None]
    levels = F.grid_sample(picture, grid.float()[None], mode=rule, align_corners=False)[0]
    result[:, y0:y1, x0:x1] = levels > 127.5
