"""Shapes in CVAT's XML as masks: polygons, masks with their own run lengths, and boxes if they are to be filled."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.clip import DataError
from data.formats.outlines import NoOutline, polygon_mask
from data.rle import encode_mask
from data.shard import MAX_SIDE

NO_MASKS = ("polyline", "points", "cuboid", "ellipse", "skeleton")
SHAPES = ("polygon", "mask", "box", *NO_MASKS)
_CHOICES = {"boxes": ("refuse", "skip", "fill"), "unusable": ("refuse", "skip")}


@dataclass(frozen=True)
class ShapeRules:
    """What becomes of shapes that are no outline: `boxes` "refuse", "skip" or "fill", others "refuse" or "skip"."""

    boxes: str
    unusable: str

    def __post_init__(self) -> None:
        for option, known in _CHOICES.items():
            if getattr(self, option) not in known:
                raise DataError(f"{option} must be {' or '.join(known)}, got {getattr(self, option)!r}")

    def mask(self, shape: ET.Element, height: int, width: int, where: str) -> str | None:
        """The COCO string of a shape, None if it is to be left out.

        Raises:
            DataError: it is damaged, or of a kind that is refused.
        """
        if shape.tag == "box" and self.boxes == "skip":
            return None
        if shape.tag == "box" and self.boxes == "refuse":
            raise DataError(
                f"{where}: a box is no mask; draw a polygon or a mask, or set boxes=fill (the box is the mask) or "
                "boxes=skip"
            )
        try:
            return shape_mask(shape, height, width, where)
        except NoOutline as error:
            if self.unusable == "skip":
                return None
            raise DataError(f"{error}; correct it, or leave such shapes out with unusable=skip") from None


def shape_mask(shape: ET.Element, height: int, width: int, where: str) -> str:
    """The COCO string of a shape.

    Raises:
        NoOutline: it surrounds no pixel, or is of a kind without inside.
        DataError: its numbers are damaged.
    """
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.get("points", "").split(";")]
        return polygon_mask(
            [[real(word, f"{where}, points") for pair in pairs for word in pair]], height, width, where
        )
    if shape.tag == "box":
        return polygon_mask([_corners(Box.of(shape, where))], height, width, where)
    if shape.tag == "mask":
        return _runs_mask(shape, height, width, where)
    raise NoOutline(f"{where}: a {shape.tag} is no mask")


def _runs_mask(shape: ET.Element, height: int, width: int, where: str) -> str:
    """Runs row by row in a rectangle, background first."""
    left, top, columns, rows = (
        whole_attribute(shape, name, where, 0, MAX_SIDE) for name in ("left", "top", "width", "height")
    )
    if left + columns > width or top + rows > height:
        raise DataError(f"{where}: its rectangle leaves the {height}x{width} picture; export it again")
    words = shape.get("rle", "").split(",")
    if not all(word.strip().isdecimal() and len(word) < 12 for word in words):
        raise DataError(
            f"{where}: rle must be whole numbers, got {shape.get('rle', '')[:60]!r}; export it again"
        )
    runs = np.array([int(word) for word in words])
    if runs.sum() != rows * columns or runs.max() > rows * columns:
        raise DataError(
            f"{where}: its rle has {runs.sum()} pixels, its rectangle {rows}x{columns}; export it again"
        )
    mask = np.zeros((height, width), bool)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask[top : top + rows, left : left + columns] = inside.reshape(rows, columns)
    counts = encode_mask(mask)
    if not counts:
        raise NoOutline(f"{where}: the mask has no pixel")
    return counts


@dataclass(frozen=True)
class Box:
    """Left, top, right, bottom in pixels, turned clockwise about its centre by `rotation` degrees."""

    sides: tuple[float, float, float, float]
    rotation: float

    @classmethod
    def of(cls, shape: ET.Element, where: str) -> Box:
        """Of an element `box`; errors as in `real`."""
        left, top, right, bottom = (
            real(shape.get(name), f"{where}, {name}") for name in ("xtl", "ytl", "xbr", "ybr")
        )
        return cls((left, top, right, bottom), real(shape.get("rotation", "0"), f"{where}, rotation"))

    def towards(self, other: Box, share: float) -> Box:
        """The box between this one (share 0) and another (share 1), the way CVAT interpolates: each number on its own,
        the turn the shorter way round.
        """
        first, *rest = ((1 - share) * a + share * b for a, b in zip(self.sides, other.sides, strict=True))
        turn = (other.rotation - self.rotation + 180) % 360 - 180
        return Box((first, rest[0], rest[1], rest[2]), self.rotation + share * turn)


def box_between(first: ET.Element, last: ET.Element, share: float, where: str) -> ET.Element:
    """A new element `box`, between two; see `Box.towards`."""
    box = Box.of(first, where).towards(Box.of(last, where), share)
    names = ("xtl", "ytl", "xbr", "ybr", "rotation")
    return ET.Element(
        "box", {name: repr(value) for name, value in zip(names, (*box.sides, box.rotation), strict=True)}
    )


def _corners(box: Box) -> Sequence[float]:
    left, top, right, bottom = box.sides
    x, y, angle = (left + right) / 2, (top + bottom) / 2, math.radians(box.rotation)
    if not box.rotation:
        return [left, top, right, top, right, bottom, left, bottom]
    points: list[float] = []
    for dx, dy in (
        (left - x, top - y),
        (right - x, top - y),
        (right - x, bottom - y),
        (left - x, bottom - y),
    ):
        points += [
            x + dx * math.cos(angle) - dy * math.sin(angle),
            y + dx * math.sin(angle) + dy * math.cos(angle),
        ]
    return points


def real(word: str | None, where: str) -> float:
    """A finite number in an attribute.

    Raises:
        DataError: missing or something else.
    """
    try:
        value = float(word or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: is {str(word)[:40]!r}, expected a number")
    return value


def whole_attribute(element: ET.Element, name: str, where: str, least: int, most: int) -> int:
    """A whole number in the attribute `name`; errors as in `real`."""
    word = element.get(name, "")
    if not (word.isdecimal() and len(word) < 19 and least <= int(word) <= most):
        raise DataError(f"{where}, {name}: is {word[:40]!r}, expected a whole number from {least} to {most}")
    return int(word)
