"""Pictures in files: a folder of them as the frames of a video.

Any of the common types, whatever the case of its suffix, turned upright by its EXIF orientation.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from sam2.broken_images import BROKEN_IMAGE
from sam2.pictures import FramesError, Pixels, as_rgb, check_same_size, checked_size

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")  # JPEG opens MPO, too, which many cameras write as .jpg
_SEVERAL = ("PNG", "WEBP", "TIFF")  # an MPO's further pictures are previews, these are animations and pages
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = (5, 6, 7, 8)  # height and width swapped


class PictureFiles:
    """Files with one picture each, one a frame.

    Attributes:
        size: height and width of the first, and of all others.

    Raises:
        FramesError: a file that is no picture, or one of another size; naming it.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self.size = picture_file_size(paths[0])
        for frame, path in enumerate(paths):  # headers alone, 0.1 ms each: better now than after an hour
            check_same_size(picture_file_size(path), self.size, self.name(frame))

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, frame: int) -> str:
        """How errors call a frame."""
        return f"{self._paths[frame]}, frame {frame}"

    def file_name(self, frame: int) -> str:
        """Of a frame, without its folder."""
        return self._paths[frame].name

    def read(self, frame: int) -> Pixels:
        """One picture, upright RGB (H, W, 3).

        Raises:
            FramesError: it is damaged.
        """
        return read_picture(self._paths[frame])


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order; hidden files, folders and other files do not count."""
    names = sorted((entry.name for entry in os.scandir(folder) if entry.is_file()), key=_natural)
    found = [name for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES]
    if not found:
        others = f"{len(names)} other files, such as {names[0]}" if names else "no file at all"
        raise FramesError(f"{folder}: holds no pictures ({', '.join(SUFFIXES)}), but {others}")
    by_stem: dict[str, str] = {}
    for name in found:
        other = by_stem.setdefault(Path(name).stem, name)
        if other != name:
            raise FramesError(f"{folder}: {other} and {name} claim the same frame; keep one kind of picture")
    return [folder / name for name in found]


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sort key: numbers by value, letters whatever their case; frame_2 before frame_10."""
    parts = re.split(r"([0-9]+)", name.casefold())  # every second one is a number
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def read_picture(path: Path) -> Pixels:
    """The picture in a file, upright, 8-bit RGB (H, W, 3).

    Raises:
        FramesError: naming the file.
    """
    with _opened(path) as image:
        turn = _UPRIGHT.get(_orientation(image))
        rgb = as_rgb(image)
        return rgb if turn is None else np.array(Image.fromarray(rgb).transpose(turn))


def picture_file_size(path: Path) -> tuple[int, int]:
    """Height and width of the upright picture in a file, from its header.

    Raises:
        FramesError: naming the file.
    """
    with _opened(path) as image:
        lying = _orientation(image) in _LYING
        return (image.width, image.height) if lying else (image.height, image.width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image file whose size is bearable; whatever goes wrong names it."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            checked_size(image.height, image.width, "the picture")
            if image.format in _SEVERAL and getattr(image, "is_animated", False):
                raise FramesError("holds several pictures; store them as one file each, or as a video")
            yield image
    except BROKEN_IMAGE as error:
        reason = str(error) if isinstance(error, FramesError) else f"not a picture that can be read ({error})"
        raise FramesError(f"{path}: {reason}; repair or remove the file") from error


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 when upright; Pillow turns TIFFs by itself."""
    # a PNG's EXIF after its pixels would cost decoding them
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    return image.getexif().get(_ORIENTATION, 1)
