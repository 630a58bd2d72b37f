"""Random changes of a training clip, the same for all its frames unless said otherwise.

The reference's list and ranges (its released fine-tuning recipe): flip, affine, resize to the square of the model,
colour jitter of the clip, grey, colour jitter of each frame. Here flip, affine and resize are one warp, and all
colour changes one 3x4 matrix a frame; what that changes is bounded by tests/data/test_augment.py.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.clip import DataError
from data.colour import Colour, colour_table
from data.decode import Masklet
from data.mosaic import Mosaic
from data.raw import RawFrames
from data.warp import Geometry, MaskRule, warp_masks


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities and ranges; the defaults are the reference's, all zeros is no augmentation.

    Attributes:
        horizontal_flip: probability.
        vertical_flip: probability.
        transpose: probability of exchanging rows and columns.
        affine: probability of turning and shearing.
        degrees: turn by up to this many degrees either way.
        shear: horizontal shear by up to this many degrees either way.
        brightness: factor from 1 - x to 1 + x.
        contrast: likewise, around the mean grey of the frame.
        saturation: likewise, around the grey of each pixel.
        grayscale: probability.
        permute_channels: probability of a random order of red, green and blue.
        frame_brightness: as `brightness`, drawn for each frame on its own.
        frame_contrast: as `contrast`, for each frame.
        frame_saturation: as `saturation`, for each frame.
        frame_degrees: as `degrees`, drawn for each frame on its own, after the clip's.
        frame_shear: as `shear`, for each frame.
        mosaic: probability of four small copies side by side, one of which holds the objects.
        masks: how masks come to model size: "bilinear", as the reference, or "nearest".
    """

    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    transpose: float = 0.0
    affine: float = 1.0
    degrees: float = 25.0
    shear: float = 20.0
    brightness: float = 0.1
    contrast: float = 0.03
    saturation: float = 0.03
    grayscale: float = 0.05
    permute_channels: float = 0.0
    frame_brightness: float = 0.1
    frame_contrast: float = 0.05
    frame_saturation: float = 0.05
    frame_degrees: float = 0.0
    frame_shear: float = 0.0
    mosaic: float = 0.0
    masks: MaskRule = "bilinear"

    def __post_init__(self) -> None:
        if self.masks not in ("bilinear", "nearest"):
            raise DataError(f"masks is {self.masks!r}; choose bilinear or nearest")
        for f in fields(self):
            if f.name == "masks":
                continue
            kind = f.name.removeprefix("frame_")
            value, most = getattr(self, f.name), {"degrees": 180.0, "shear": 80.0}.get(kind, 1.0)
            if not 0 <= value <= most:
                raise DataError(f"{f.name} is {value}; it must be from 0 to {most:g}")


@dataclass(frozen=True)
class Augmentation:
    """Everything that was drawn for a clip; `colours` has one entry a frame."""

    geometry: Geometry
    colours: tuple[Colour, ...]
    mosaic: Mosaic | None


def draw(config: AugmentConfig, frames: int, seed: int) -> Augmentation:
    """Draw the changes of a clip of so many frames.

    Every number is drawn whether it is used or not, so switching one option leaves the others as they were.
    """
    rng = random.Random(seed)
    flip_x = rng.random() < config.horizontal_flip
    flip_y = rng.random() < config.vertical_flip
    transpose = rng.random() < config.transpose
    affine = (rng.uniform(-config.degrees, config.degrees), rng.uniform(-config.shear, config.shear))
    is_affine = rng.random() < config.affine and affine != (0.0, 0.0)
    order = rng.sample(range(3), 3)
    order = order if rng.random() < config.permute_channels else [0, 1, 2]
    shared = _jitter(rng, config.brightness, config.contrast, config.saturation)
    shared += [("saturation", 0.0)] if rng.random() < config.grayscale else []
    ranges = (config.frame_brightness, config.frame_contrast, config.frame_saturation)
    colours = tuple(Colour(tuple(order), (*shared, *_jitter(rng, *ranges))) for _ in range(frames))
    widths = (config.frame_degrees, config.frame_shear)
    turns = tuple((rng.uniform(-widths[0], widths[0]), rng.uniform(-widths[1], widths[1])) for _ in colours)
    cell, mirrored = rng.randrange(4), tuple(rng.random() < 0.5 for _ in range(4))
    mosaic = Mosaic(cell, cast(Any, mirrored)) if rng.random() < config.mosaic else None
    geometry = Geometry(
        flip_x, flip_y, transpose, affine if is_affine else None, turns if any(widths) else ()
    )
    return Augmentation(geometry, colours, mosaic)


def _jitter(
    rng: random.Random, brightness: float, contrast: float, saturation: float
) -> list[tuple[str, float]]:
    """The three changes in random order, as torchvision's ColorJitter."""
    ranges = [("brightness", brightness), ("contrast", contrast), ("saturation", saturation)]
    steps = [(name, rng.uniform(1 - width, 1 + width)) for name, width in ranges]
    rng.shuffle(steps)
    return [step for step in steps if step[1] != 1.0]


def augment(
    frames: NDArray[np.uint8], masklets: Sequence[Masklet], size: int, config: AugmentConfig, seed: int
) -> tuple[RawFrames, Tensor]:
    """Draw how a clip changes, and bring its masks to model size; `finish()` of its frames does the same to them.

    As in the reference, the clip is not turned or sheared if that would push an object out of the picture in the
    first frame in which it is visible.

    Args:
        frames: (T, H, W, 3) RGB.
        masklets: one for each of O objects, of the same T frames; of the picture's H and W, or larger.
        size: side of the model's square, pixels.
        config: probabilities and ranges.
        seed: all that is random.

    Returns:
        frames, and masks (T, O, size, size) bool.
    """
    drawn = draw(config, len(frames), seed)
    geometry, mosaic = drawn.geometry, drawn.mosaic
    if mosaic and size % 2:
        raise DataError(f"a mosaic needs a model of even size, not {size}; set data.augment.mosaic=0")
    side = size // 2 if mosaic else size
    masks = warp_masks(masklets, geometry, side, config.masks)
    if geometry.is_turned and _loses_object(masklets, masks):
        geometry = geometry.without_affine()
        masks = warp_masks(masklets, geometry, side, config.masks)
    pixels = RawFrames(torch.from_numpy(frames), geometry, colour_table(drawn.colours), size, mosaic)
    return pixels, mosaic.masks(masks) if mosaic else masks


def _loses_object(masklets: Sequence[Masklet], masks: Tensor) -> bool:
    firsts = [int((masklet.areas > 0).argmax()) for masklet in masklets]
    return not all(bool(masks[first, k].any()) for k, first in enumerate(firsts))
