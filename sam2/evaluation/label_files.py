"""Object ids out of PNG files: palette indices as they are, nothing converted and nothing resized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam2.broken_images import BROKEN_IMAGE
from sam2.evaluation.errors import EvaluationError

MAX_PIXELS = 1 << 26  # a header can promise any number of them

Labels = NDArray[np.uint8]


def read_ids(path: Path) -> Labels:
    """The object ids of a PNG, (H, W): its palette indices, or its values if it is 8-bit grey.

    Raises:
        EvaluationError: it is damaged, too large, or holds colours instead of ids.
    """
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
            ids = np.zeros((image.height, image.width), np.uint8)
            box = image.getbbox()
            if (
                box
            ):  # what is background need not be copied out of Pillow: half the time of a small object's file
                left, top, right, bottom = box
                ids[top:bottom, left:right] = np.asarray(image.crop(box))
            return ids
    except EvaluationError:
        raise
    except BROKEN_IMAGE as error:
        raise EvaluationError(f"{path}: is no PNG that can be read ({error}); write it again") from error


def read_mask(path: Path) -> Labels:
    """The one object of a PNG, (H, W): 1 where the file has any value but 0.

    Raises:
        EvaluationError: as `read_ids`, or the file has several values beside 0.
    """
    values = read_ids(path)
    highest = int(values.max(initial=0))
    mask = values != 0
    if highest > 1 and (mask & (values != highest)).any():
        found = np.unique(values[mask]).tolist()
        listed = ", ".join(map(str, found[:6])) + (", ..." if len(found) > 6 else "")
        raise EvaluationError(
            f"{path}: has the values {listed} beside 0, expected one; in this layout every object has its own folder"
        )
    return mask.view(np.uint8)


def read_pair(gt: Path, pred: Path, single: bool) -> tuple[Labels, Labels]:
    """The true and the predicted map of one frame; `single` for one object a file.

    Raises:
        EvaluationError: as `read_ids`, or their sizes differ.
    """
    read = read_mask if single else read_ids
    truth, guess = read(gt), read(pred)
    if truth.shape != guess.shape:
        found, wanted = (f"{width}x{height}" for height, width in (guess.shape, truth.shape))
        raise EvaluationError(
            f"{pred}: is {found}, its ground truth {gt} is {wanted}; nothing is resized here, "
            "write predictions at the size of the ground truth"
        )
    return truth, guess
