"""Single images for sources of images, which carry their own number."""

import numpy as np
from PIL import Image

from tests.data.sav_folder import numbered_frame


def write_image(path, number=0, height=32, width=48, **options):
    """A picture as JPEG or PNG, by its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = {"quality": 95} if path.suffix == ".jpg" else {}
    Image.fromarray(numbered_frame(number, height, width)).save(path, **quality, **options)


def rectangle(left, top, right, bottom, height=32, width=48):
    """(H, W) bool: true in columns left to right - 1 and rows top to bottom - 1."""
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask
