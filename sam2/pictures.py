"""A picture of any common kind, as RGB and as a video model sees it.

Rules, the same for files, arrays and PIL images: 16-bit values are scaled by their whole range (65535 becomes 255),
grey becomes three equal channels, palettes are looked up, transparency is dropped. There is one resizer, that of the
released predictor for folders of frames: Pillow's bicubic on 8-bit RGB, sides independent of each other (held by
tests/sam2/test_video_frames.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Picture = NDArray[Any] | Tensor | Image.Image
Pixels = NDArray[np.uint8]

MAX_PIXELS = 8192 * 8192  # 200 MB as RGB; a header that says more is refused before memory is spent on it

_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "La", "RGBa"}


class FramesError(ValueError):
    """Frames that cannot be had: what was found, where, and what to do."""


def to_model_frame(image: Picture, size_px: int) -> Tensor:
    """A picture at model size, uint8 (3, size_px, size_px).

    Args:
        image: uint8 or uint16, grey (H, W) or (H, W, C) with 1, 3 or 4 channels, as array or tensor; or a PIL image.
        size_px: side of the model's input.

    Raises:
        FramesError: another shape or type, saying which and how to convert it.
    """
    resized = Image.fromarray(as_rgb(image)).resize((size_px, size_px), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def as_rgb(image: Picture) -> Pixels:
    """A picture as 8-bit RGB (H, W, 3); see the top of this file for the rules.

    Raises:
        FramesError: as `to_model_frame`.
    """
    picture_size(image)
    if isinstance(image, Image.Image):
        return _rgb_of_image(image)
    array = image.cpu().numpy() if isinstance(image, Tensor) else image
    if array.dtype == np.uint16:
        array = _eight_bit(array)
    if array.ndim == 2:
        array = array[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(array[:, :, :3], (*array.shape[:2], 3)))


def picture_size(image: Picture) -> tuple[int, int]:
    """Height and width in pixels.

    Raises:
        FramesError: not a picture, or not one that can be converted.
    """
    if isinstance(image, Image.Image):
        return checked_size(image.height, image.width, "the picture")
    if not isinstance(image, (np.ndarray, Tensor)):
        raise FramesError(
            f"a frame is of type {type(image).__name__}, expected an array, a tensor or a PIL image"
        )
    shape = tuple(image.shape)
    channels = shape[2] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or channels not in (1, 3, 4) or 0 in shape:
        hint = "; use permute(1, 2, 0)" if len(shape) == 3 and shape[0] in (1, 3, 4) else ""
        raise FramesError(f"a frame has shape {shape}, expected (H, W, 3) or grey (H, W){hint}")
    if image.dtype not in (np.uint8, np.uint16, torch.uint8, torch.uint16):
        raise FramesError(
            f"a frame is {image.dtype}, expected uint8 between 0 and 255 (or uint16 up to 65535); scale and convert it"
        )
    return checked_size(shape[0], shape[1], "the frame")


def checked_size(height: int, width: int, what: str) -> tuple[int, int]:
    """The two, if a picture of that size may be decoded.

    Raises:
        FramesError: nothing, or more than `MAX_PIXELS`.
    """
    if height < 1 or width < 1:
        raise FramesError(f"{what} is {height}x{width} pixels (height x width); is the file damaged?")
    if height * width > MAX_PIXELS:
        raise FramesError(
            f"{what} is {height}x{width} pixels (height x width), more than the {MAX_PIXELS:,} that are read; "
            "make it smaller"
        )
    return height, width


def check_same_size(size: tuple[int, ...], expected: tuple[int, int], name: str) -> None:
    """The frames of a video have one size.

    Raises:
        FramesError: this one has another, (height, width).
    """
    if tuple(size) != expected:
        found, first = "x".join(map(str, size)), "x".join(map(str, expected))
        raise FramesError(
            f"{name}: is {found} pixels, the first frame is {first} (height x width); bring all frames to one size"
        )


def _rgb_of_image(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise FramesError(
                f"the picture has values from {values.min()} to {values.max()}; convert it to 8 or 16 bits"
            )
        return as_rgb(values.astype(np.uint16))
    if image.mode not in _EIGHT_BIT:
        raise FramesError(f"the picture is of Pillow's mode {image.mode}; convert it to 8 or 16 bits")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # straight to RGB, Pillow warns where the palette has transparency
    return np.array(image.convert("RGB"))


def _eight_bit(values: NDArray[np.uint16]) -> Pixels:
    """Value * 255 / 65535, rounded."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
