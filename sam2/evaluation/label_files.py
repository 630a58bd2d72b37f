"""Object ids out of PNG files: palette indices as they are, nothing converted and nothing resized.

Most of a mask is background. Decoding takes all of it, but what lies around the objects is found by Pillow and is
never copied out of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam2.broken_images import BROKEN_IMAGE
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.jf import Cut

MAX_PIXELS = 1 << 26  # a header can promise any number of them

Labels = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two are outside


def read_ids(path: Path) -> Labels:
    """The object ids of a PNG, (H, W): its palette indices, or its values if it is 8-bit grey.

    Raises:
        EvaluationError: it is damaged, too large, or holds colours instead of ids.
    """
    image = _load(path)
    box = image.getbbox()
    return _whole(image, box, _inside(image, box))


def read_mask(path: Path) -> Labels:
    """The one object of a PNG, (H, W): 1 where the file has any value but 0.

    Raises:
        EvaluationError: as `read_ids`, or the file has several values beside 0.
    """
    image = _load(path)
    box = image.getbbox()
    return _whole(image, box, _one_object(path, _inside(image, box)))


def read_pair(gt: Path, pred: Path, single: bool) -> tuple[Labels, Labels]:
    """The true and the predicted map of one frame; `single` for one object a file.

    Raises:
        EvaluationError: as `read_ids`, or their sizes differ.
    """
    read = read_mask if single else read_ids
    truth, guess = read(gt), read(pred)
    _check_sizes(gt, truth.shape, pred, guess.shape)
    return truth, guess


def read_cut(gt: Path, pred: Path, single: bool) -> Cut:
    """As `read_pair`, but only the part of the frame in which either has an object."""
    truth, guess = _load(gt), _load(pred)
    frame = truth.height, truth.width
    _check_sizes(gt, frame, pred, (guess.height, guess.width))
    box = _around(truth.getbbox(), guess.getbbox(), frame)
    true_ids, predicted_ids = _inside(truth, box), _inside(guess, box)
    if single:
        true_ids, predicted_ids = _one_object(gt, true_ids), _one_object(pred, predicted_ids)
    return Cut(true_ids, predicted_ids, frame)


def _load(path: Path) -> Image.Image:
    """A decoded PNG of ids."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise EvaluationError(
                    f"{path}: is {image.width}x{image.height}, more than {MAX_PIXELS} pixels; no mask is that large"
                )
            if image.mode not in ("P", "L", "1"):
                raise EvaluationError(
                    f"{path}: is an {image.mode} image, expected a palette PNG (mode P) whose indices are the "
                    "object ids; save the ids with a palette and convert nothing"
                )
            image.load()
            return image
    except EvaluationError:
        raise
    except BROKEN_IMAGE as error:
        raise EvaluationError(f"{path}: is no PNG that can be read ({error}); write it again") from error


def _inside(image: Image.Image, box: Box | None) -> Labels:
    """The ids in a box, (0, 0) without one."""
    if box is None:
        return np.zeros((0, 0), np.uint8)
    return np.asarray(image.crop(box)).astype(np.uint8, copy=False)


def _whole(image: Image.Image, box: Box | None, inside: Labels) -> Labels:
    """The map (H, W) of which only what is in the box is not background."""
    ids = np.zeros((image.height, image.width), np.uint8)
    if box is not None:
        left, top, right, bottom = box
        ids[top:bottom, left:right] = inside
    return ids


def _around(first: Box | None, second: Box | None, frame: tuple[int, int]) -> Box | None:
    """What holds both boxes, and a pixel more on each side that the frame has: see `sam2.evaluation.jf.Cut`."""
    boxes = [box for box in (first, second) if box is not None]
    if not boxes:
        return None
    left, top, right, bottom = zip(*boxes, strict=True)
    height, width = frame
    return (
        max(min(left) - 1, 0),
        max(min(top) - 1, 0),
        min(max(right) + 1, width),
        min(max(bottom) + 1, height),
    )


def _one_object(path: Path, values: Labels) -> Labels:
    """1 where there is any value but 0, of which there must not be several."""
    highest = int(values.max(initial=0))
    if highest <= 1:
        return values
    mask = values != 0
    if np.count_nonzero(mask) != np.count_nonzero(values == highest):
        found = np.unique(values[mask]).tolist()
        listed = ", ".join(map(str, found[:6])) + (", ..." if len(found) > 6 else "")
        raise EvaluationError(
            f"{path}: has the values {listed} beside 0, expected one; in this layout every object has its own folder"
        )
    return mask.view(np.uint8)


def _check_sizes(gt: Path, truth: tuple[int, ...], pred: Path, guess: tuple[int, ...]) -> None:
    if truth != guess:
        found, wanted = (f"{width}x{height}" for height, width in (guess, truth))
        raise EvaluationError(
            f"{pred}: is {found}, its ground truth {gt} is {wanted}; nothing is resized here, "
            "write predictions at the size of the ground truth"
        )
