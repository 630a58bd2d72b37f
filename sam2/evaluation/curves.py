"""Training curves from a metrics.csv, drawn as SVG that stands inside an HTML page."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 340, 132
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 8, 20  # margins of the plot inside the picture
BUCKETS = 180  # a longer curve is drawn as the mean and the range of this many pieces
NOT_METRICS = ("step", "epoch")


@dataclass(frozen=True)
class Curve:
    """One metric over the run: `values` at `steps`, finite numbers only."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def group(self) -> str:
        """What stands before the first slash of the name, or nothing."""
        return self.name.split("/", 1)[0] if "/" in self.name else ""


@dataclass(frozen=True)
class Line:
    """A horizontal line to compare a curve with, such as a baseline's score."""

    name: str
    value: float


def read_metrics(path: Path) -> tuple[Curve, ...]:
    """The numeric columns of a CSV with a header, over its `step` column (over the row number without one).

    Rows need not fill every column: training and validation are logged at different steps. Cells that are empty,
    no number or not finite are left out, columns with no number at all too.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row_number, row in enumerate(csv.DictReader(file)):
            step = _number(row.get("step"))
            for name, cell in row.items():
                value = _number(cell)
                if name is not None and name not in NOT_METRICS and value is not None:
                    points.setdefault(name, []).append((row_number if step is None else step, value))
    return tuple(
        Curve(name, tuple(s for s, _ in pairs), tuple(v for _, v in pairs)) for name, pairs in points.items()
    )


def _number(cell: object) -> float | None:
    try:
        value = float(str(cell))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def draw(curve: Curve, lines: Sequence[Line] = ()) -> str:
    """The curve as an SVG element: colours come from the page's CSS classes."""
    pieces = _pieces(curve)
    floor, ceiling, ticks = axis(
        [v for *_, low, high in pieces for v in (low, high)] + [line.value for line in lines]
    )
    first, last = curve.steps[0], max(curve.steps[-1], curve.steps[0] + 1e-9)

    def at(step: float, value: float) -> str:
        x = LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)
        y = TOP + (ceiling - value) / (ceiling - floor) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f},{y:.1f}"

    parts = [_grid(at, first, last, ticks)]
    for line in lines:
        x, y = at(last, line.value).split(",")
        parts.append(f'<polyline class="floor" points="{at(first, line.value)} {x},{y}"/>')
        parts.append(
            f'<text class="floor" x="{x}" y="{float(y) - 3:.1f}" text-anchor="end">{escape(line.name)}</text>'
        )
    if any(high > low for *_, low, high in pieces):
        edge = [at(step, high) for step, _, _, high in pieces] + [
            at(step, low) for step, _, low, _ in reversed(pieces)
        ]
        parts.append(f'<polygon class="band" points="{" ".join(edge)}"/>')
    parts.append(
        f'<polyline class="line" points="{" ".join(at(step, mean) for step, mean, _, _ in pieces)}"/>'
    )
    x, y = at(pieces[-1][0], pieces[-1][1]).split(",")
    parts.append(f'<circle class="end" cx="{x}" cy="{y}" r="2.6"/>')
    label = escape(f"{curve.name}: {number(curve.values[0])} to {number(curve.values[-1])}", quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _grid(at, first: float, last: float, ticks: Sequence[float]) -> str:  # type: ignore[no-untyped-def]
    """Horizontal lines with their values, and the first and last step."""
    parts = []
    for tick in ticks:
        (left, y), (right, _) = at(first, tick).split(","), at(last, tick).split(",")
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(y) + 3:.1f}" text-anchor="end">{number(tick)}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 5}">{number(first)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">step {number(last)}</text>')
    return "".join(parts)


def _pieces(curve: Curve) -> list[tuple[float, float, float, float]]:
    """The curve as (last step, mean, least, greatest) of at most BUCKETS runs of neighbouring points."""
    size = -(-len(curve.values) // BUCKETS)
    pieces = []
    for start in range(0, len(curve.values), size):
        part = curve.values[start : start + size]
        step = curve.steps[min(start + size, len(curve.steps)) - 1]
        pieces.append((step, math.fsum(part) / len(part), min(part), max(part)))
    return pieces


def axis(values: Sequence[float], parts: int = 3) -> tuple[float, float, list[float]]:
    """Lowest and highest value of the plot and round values between them, about `parts` steps in all."""
    low, high = min(values), max(values)
    if high - low < 1e-12 * max(1.0, abs(high)):
        margin = abs(high) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / parts
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    floor, ceiling = math.floor(low / step) * step, math.ceil(high / step) * step
    return floor, ceiling, [floor + i * step for i in range(round((ceiling - floor) / step) + 1)]


def number(value: float) -> str:
    """A number as short as a chart's label: 12000 -> 12k, 0.00012 -> 1.2e-4."""
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    if size >= 1e4:
        return f"{value / 1e3:.4g}k"
    return f"{value:.4g}"
