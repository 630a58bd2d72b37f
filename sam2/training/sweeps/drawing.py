"""Pictures of lines, areas, marks and text, the same as SVG and as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from PIL import Image, ImageColor, ImageDraw, ImageFont

Point = tuple[float, float]
Shape = Literal["circle", "square", "triangle", "diamond"]
_FINER = 3  # a PNG is drawn so many times larger and then reduced: smooth edges
_DENSITY = 2  # pixels of a PNG for a unit of the picture
_MARK = 3.4  # half the width of a mark


@dataclass(frozen=True)
class Line:
    """Through points; `dash` are lengths on and off, none for a solid line."""

    points: Sequence[Point]
    color: str
    width: float = 1.0
    dash: Sequence[float] = ()


@dataclass(frozen=True)
class Area:
    """Inside points; so thin that lines can be seen through it."""

    points: Sequence[Point]
    color: str
    opacity: float = 0.14


@dataclass(frozen=True)
class Mark:
    """A filled shape around a point."""

    at: Point
    shape: Shape
    color: str

    @property
    def outline(self) -> list[Point]:
        """Corners; a circle has many."""
        x, y = self.at
        corners, turn = {
            "circle": (24, 0.0),
            "square": (4, math.pi / 4),
            "triangle": (3, -math.pi / 2),
            "diamond": (4, 0.0),
        }[self.shape]
        reach = _MARK if corners > 4 else _MARK * 1.25
        angles = (turn + 2 * math.pi * k / corners for k in range(corners))
        return [(x + reach * math.cos(a), y + reach * math.sin(a)) for a in angles]


@dataclass(frozen=True)
class Text:
    """One line, standing on its point; `is_upright` turns it to read from below."""

    at: Point
    text: str
    size: float = 12.0
    anchor: Literal["start", "middle", "end"] = "start"
    color: str = "#222222"
    is_upright: bool = False


@dataclass
class Picture:
    """Things on a white ground, each above those before it."""

    width: float
    height: float
    things: list[Line | Area | Mark | Text] = field(default_factory=list)

    def as_svg(self, title: str) -> str:
        """As an SVG element, which is a file of its own, too."""
        size = f'width="{self.width:g}" height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}"'
        body = "".join(map(_svg, self.things))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="Helvetica, Arial, sans-serif">'
            f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#ffffff"/>{body}</svg>\n'
        )

    def as_png(self) -> bytes:
        """As a PNG."""
        scale = _FINER * _DENSITY
        image = Image.new("RGB", (round(self.width * scale), round(self.height * scale)), "white")
        for thing in self.things:
            _paint(image, thing, scale)
        small = image.resize((image.width // _FINER, image.height // _FINER), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        small.save(out, "PNG", optimize=True)
        return out.getvalue()


def _svg(thing: Line | Area | Mark | Text) -> str:
    if isinstance(thing, Text):
        (x, y), turn = thing.at, ""
        if thing.is_upright:
            turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"'
        return (
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{thing.size:g}" text-anchor="{thing.anchor}" '
            f'fill="{thing.color}"{turn}>{escape(thing.text)}</text>'
        )
    if isinstance(thing, Line):
        dash = f' stroke-dasharray="{" ".join(f"{d:g}" for d in thing.dash)}"' if thing.dash else ""
        return (
            f'<polyline points="{_points(thing.points)}" fill="none" stroke="{thing.color}" '
            f'stroke-width="{thing.width:g}" stroke-linejoin="round"{dash}/>'
        )
    if isinstance(thing, Area):
        return f'<polygon points="{_points(thing.points)}" fill="{thing.color}" fill-opacity="{thing.opacity:g}"/>'
    return f'<polygon points="{_points(thing.outline)}" fill="{thing.color}" stroke="#ffffff" stroke-width="0.8"/>'


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _paint(image: Image.Image, thing: Line | Area | Mark | Text, scale: int) -> None:
    draw = ImageDraw.Draw(image, "RGBA")
    if isinstance(thing, Text):
        _write(image, draw, thing, scale)
    elif isinstance(thing, Line):
        for part in _dashes(thing):
            points = [(x * scale, y * scale) for x, y in part]
            draw.line(points, thing.color, max(1, round(thing.width * scale)), joint="curve")
    elif isinstance(thing, Area):
        points = [(x * scale, y * scale) for x, y in thing.points]
        red, green, blue = ImageColor.getrgb(thing.color)[:3]
        draw.polygon(points, (red, green, blue, round(255 * thing.opacity)))
    else:
        points = [(x * scale, y * scale) for x, y in thing.outline]
        draw.polygon(points, thing.color, "#ffffff", round(0.8 * scale))


def _write(image: Image.Image, draw: ImageDraw.ImageDraw, text: Text, scale: int) -> None:
    font = ImageFont.load_default(text.size * scale)
    x, y = text.at[0] * scale, text.at[1] * scale
    anchor = {"start": "ls", "middle": "ms", "end": "rs"}[text.anchor]
    if not text.is_upright:
        draw.text((x, y), text.text, text.color, font, anchor)
        return
    left, top, right, bottom = font.getbbox(text.text, anchor="ls")
    flat = Image.new("L", (math.ceil(right - left) + 2, math.ceil(bottom - top) + 2), 0)
    ImageDraw.Draw(flat).text((-left, -top), text.text, 255, font, "ls")
    turned = flat.rotate(90, expand=True)
    before = {"start": 1.0, "middle": 0.5, "end": 0.0}[text.anchor]
    image.paste(text.color, (round(x + top), round(y - turned.height * before)), turned)


def _dashes(line: Line) -> Iterator[list[Point]]:
    """The pieces of a line that are drawn."""
    if not line.dash:
        yield list(line.points)
        return
    place, left = 0, line.dash[0]
    piece = [line.points[0]]
    for start, end in zip(line.points, line.points[1:], strict=False):
        length = math.dist(start, end)
        done = 0.0
        while length - done > left:
            done += left
            share = done / length
            point = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
            if place % 2 == 0:
                yield [*piece, point]
            place, piece = place + 1, [point]
            left = line.dash[place % len(line.dash)]
        left -= length - done
        piece.append(end)
    if place % 2 == 0 and len(piece) > 1:
        yield piece
