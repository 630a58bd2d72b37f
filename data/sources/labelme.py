"""LabelMe: images with a JSON each.

ROOT/**/NAME.json            "imagePath" names the image, relative to the JSON
ROOT/**/NAME.jpg             wherever in ROOT that is; "imageData", the image inside the JSON, is not read

Shapes: polygon, rectangle, oriented_rectangle, circle and mask become masks as LabelMe itself draws them (the outline's
pixels belong to the object). Shapes of one label and one group_id are one object. Lines and points are no masks.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data.clip import AnnotatedVideo, DataError, SourceClip
from data.formats.frame_folder import image_clip
from data.formats.inside import inside
from data.formats.json_fields import number, objects, text, whole
from data.formats.json_file import read_object
from data.formats.label_images import MaskTable
from data.formats.outlines import NoOutline
from data.look import look
from data.media import open_image, seen_size
from data.rle import encode_mask
from data.shard import MAX_OBJECTS, MAX_SIDE, as_key

_MOST_BYTES = 1 << 28  # of one JSON, which may hold the image
_LINES = ("line", "linestrip", "point", "points")


@dataclass(frozen=True)
class Source:
    """Images that were annotated with LabelMe.

    Attributes:
        root: folder, searched with all its subfolders.
        unusable: "refuse" images with a line, a point, or an outline of too few points, or "skip" that shape.
        split: what `meta.json` names as the split.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    unusable: str = "refuse"
    split: str = ""
    name: str = "labelme"
    license: str = ""

    def __post_init__(self) -> None:
        if self.unusable not in ("refuse", "skip"):
            raise DataError(f"unusable must be refuse or skip, got {self.unusable!r}")

    def clips(self) -> list[SourceClip]:
        """Every JSON in the order of its path.

        Raises:
            DataError: there is none.
        """
        paths = sorted(self.root.rglob("*.json")) if self.root.is_dir() else []
        if not paths:
            raise DataError(f"{self.root}: expected NAME.json of LabelMe, found {look(self.root)}")
        return [SourceClip(as_key(self._name(path)), partial(self._read, path)) for path in paths]

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).with_suffix("").as_posix()

    def _read(self, path: Path) -> AnnotatedVideo:
        found = read_object(path, _MOST_BYTES)
        if "shapes" not in found:
            raise DataError(f"{path}: has no 'shapes'; not of LabelMe? Remove it")
        name = PureWindowsPath(text(found.get("imagePath"), f"{path}, imagePath")).as_posix()
        image = inside(self.root, name, f"{path}, imagePath", path.parent)
        size = self._size(found, path, image)
        groups: dict[Any, list[NDArray[np.bool_]]] = {}
        for k, shape in enumerate(objects(found["shapes"], f"{path}, shapes")):
            label, group = text(shape.get("label"), f"{path}, shape {k}, label"), shape.get("group_id")
            where = f'{path}, shape {k} ("{label[:80]}")'
            mask = self._mask(shape, size, where)
            if mask is not None:
                group = None if group is None else whole(group, f"{where}, group_id", -(2**31), 2**31)
                groups.setdefault((label, group, k if group is None else -1), []).append(mask)
        if not 0 < len(groups) <= MAX_OBJECTS:
            raise DataError(
                f"{path}: {len(groups)} objects, expected 1 to {MAX_OBJECTS}; annotate it or remove it"
            )
        masks = tuple((encode_mask(np.logical_or.reduce(parts)),) for parts in groups.values())
        meta = {
            "source": self.name,
            "license": self.license,
            "split": self.split,
            "categories": [label for label, _, _ in groups],
            "group_ids": [group for _, group, _ in groups],
        }
        table = MaskTable(tuple(range(1, len(masks) + 1)), masks, *size)
        return image_clip(as_key(self._name(path)), [(0, image)], table, 0.0, meta)

    def _size(self, found: dict[str, Any], path: Path, image: Path) -> tuple[int, int]:
        """Of the picture, height and width, which must be what the JSON says, if it says it."""
        size = seen_size(image, str(path))
        for side, pixels in zip(("imageHeight", "imageWidth"), size, strict=True):
            stated = found.get(side)
            if stated is not None and whole(stated, f"{path}, {side}", 1, MAX_SIDE) != pixels:
                raise DataError(
                    f"{path}: {side} is {stated}, but {image} is {size[0]}x{size[1]}; restore the image that was "
                    "annotated"
                )
        return size

    def _mask(self, shape: dict[str, Any], size: tuple[int, int], where: str) -> NDArray[np.bool_] | None:
        """Of a shape, None if it is to be left out."""
        try:
            mask = _drawn(shape, size, where)
            if not mask.any():
                raise NoOutline(f"{where}: covers no pixel of the {size[0]}x{size[1]} picture")
            return mask
        except NoOutline as error:
            if self.unusable == "skip":
                return None
            raise DataError(f"{error}; correct it, or leave such shapes out with unusable=skip") from None


def _drawn(shape: dict[str, Any], size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """The mask of a shape, by the rules of labelme.utils.shape_to_mask."""
    kind = shape.get("shape_type") or "polygon"
    points = _points(shape.get("points"), where)
    if kind == "mask":
        return _pasted(shape.get("mask"), points, size, where)
    image = Image.new("L", (size[1], size[0]))
    draw = ImageDraw.Draw(image)
    if kind in ("rectangle", "circle"):
        if len(points) != 2:
            raise NoOutline(f"{where}: a {kind} of {len(points)} points, expected 2")
        (x1, y1), (x2, y2) = points
        if kind == "rectangle":
            draw.rectangle([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)], outline=1, fill=1)
        else:
            radius = math.hypot(x1 - x2, y1 - y2)
            draw.ellipse([x1 - radius, y1 - radius, x1 + radius, y1 + radius], outline=1, fill=1)
    elif kind in ("polygon", "oriented_rectangle"):
        if len(points) < 3:
            raise NoOutline(f"{where}: a polygon of {len(points)} points, at least 3 are needed")
        draw.polygon(points, outline=1, fill=1)
    elif kind in _LINES:
        raise NoOutline(f"{where}: a {kind} is no mask")
    else:
        raise DataError(f"{where}: unknown shape_type {str(kind)[:40]!r}; draw it as a polygon")
    return np.asarray(image, bool)


def _points(found: Any, where: str) -> list[tuple[float, float]]:
    if not isinstance(found, list) or not all(isinstance(point, list) and len(point) == 2 for point in found):
        raise DataError(f"{where}: points must be a list of [x, y], got {str(found)[:80]}")
    points = [(number(x, f"{where}, points"), number(y, f"{where}, points")) for x, y in found]
    if any(not -MAX_SIDE <= value <= 2 * MAX_SIDE for point in points for value in point):
        raise DataError(f"{where}: a point is far outside any picture")
    return points


def _pasted(
    found: Any, points: Sequence[tuple[float, float]], size: tuple[int, int], where: str
) -> NDArray[np.bool_]:
    """A mask that is stored as a PNG of the rectangle between two points, both included."""
    if len(points) != 2:
        raise DataError(f"{where}: a mask of {len(points)} points, expected 2")
    (x1, y1), (x2, y2) = ((int(x), int(y)) for x, y in points)
    if not (0 <= x1 <= x2 < size[1] and 0 <= y1 <= y2 < size[0]):
        raise DataError(f"{where}: its rectangle leaves the {size[0]}x{size[1]} picture; draw it again")
    try:
        raw = base64.b64decode(text(found, f"{where}, mask"), validate=True)
    except binascii.Error as error:
        raise DataError(f"{where}: its mask is not base64 ({error}); save it again") from error
    with open_image(Path(f"{where}, mask"), io.BytesIO(raw)) as image:
        if image.size != (x2 - x1 + 1, y2 - y1 + 1):
            raise DataError(
                f"{where}: its mask is {image.height}x{image.width}, its rectangle {y2 - y1 + 1}x{x2 - x1 + 1}; "
                "draw it again"
            )
        mask = np.zeros(size, bool)
        mask[y1 : y2 + 1, x1 : x2 + 1] = np.asarray(image.convert("L") if image.mode != "1" else image, bool)
    return mask
