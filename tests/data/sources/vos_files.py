"""Folders of frames and palette masks as the benchmarks of video object segmentation publish them."""

import numpy as np
from PIL import Image

from tests.data.sav_folder import numbered_frame

# DAVIS' palette begins like this; the index counts, not the colour
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128] + [0] * 753


def write_frames(folder, numbers, height=32, width=48, digits=5, suffix=".jpg"):
    """JPEGs that carry their own number (see sav_folder)."""
    folder.mkdir(parents=True)
    for number in numbers:
        picture = Image.fromarray(numbered_frame(number, height, width))
        picture.save(folder / f"{number:0{digits}d}{suffix}", **({"quality": 95} if suffix == ".jpg" else {}))


def write_palette(path, ids):
    """A map of ids as a palette PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids.astype(np.uint8), mode="P")
    image.putpalette(PALETTE)
    image.save(path)


def walking_ids(count, height=32, width=48, late=0):
    """(T, H, W) ids: object 1 walks right, object 3 (there is no 2) comes `late` frames later and hides part of it."""
    ids = np.zeros((count, height, width), np.uint8)
    for k in range(count):
        ids[k, 8:20, 2 + k : 14 + k] = 1
        if k >= late:
            ids[k, 14:28, 10:22] = 3
    return ids


def write_masks(folder, numbers, ids, digits=5):
    """One palette PNG for each number."""
    for number, frame in zip(numbers, ids, strict=True):
        write_palette(folder / f"{number:0{digits}d}.png", frame)
