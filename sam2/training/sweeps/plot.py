"""`sam2 sweep plot`: the curves of a sweep, told apart by colour, dashes and marks, so that a grey print says all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from sam2.evaluation.curves import axis, number
from sam2.evaluation.files import write_atomically
from sam2.training.sweeps.drawing import Area, Line, Mark, Picture, Point, Shape, Text
from sam2.training.sweeps.lines import Panel, SeedLine
from sam2.training.typed import ConfigError

SUFFIXES = (".html", ".svg", ".png")
_WIDTH, _HEIGHT = 760.0, 300.0  # of a panel
_LEFT, _RIGHT, _TOP, _BOTTOM = 74.0, 18.0, 26.0, 46.0
_LINE = 20.0  # of the legend
_GREY, _RULE, _TEXT = "#555555", "#dddddd", "#222222"
# Okabe and Ito's colours, which people of any colour vision tell apart, dark ones first
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#000000", "#cc79a7", "#e69f00")
_DASHES: tuple[tuple[float, ...], ...] = ((), (7, 3), (2, 2.5), (9, 3, 2, 3), (13, 4))
_SHAPES: tuple[Shape, ...] = ("circle", "square", "triangle", "diamond")
_MARKS = 6  # marks along a line
_LOG_FROM = 30.0  # greatest over least from which an axis is logarithmic
_UNITS = {"J&F": "%", "lr": "", "clips_per_s": "clips/s", "memory_gb": "GB", "waiting_for_data": "share"}


@dataclass(frozen=True)
class _Style:
    color: str
    dash: Sequence[float]
    shape: Shape

    @classmethod
    def of(cls, place: int) -> _Style:
        """Of the line at this place; no two of 60 are alike."""
        return cls(
            _COLORS[place % len(_COLORS)], _DASHES[place % len(_DASHES)], _SHAPES[place % len(_SHAPES)]
        )


def write_plot(path: Path, shown: Sequence[Panel], title: str) -> None:
    """Draw the panels below each other in the format that the file's name asks for.

    Raises:
        ConfigError: its ending is none of SUFFIXES.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"{path}: curves are drawn as {', '.join(SUFFIXES)}, not as {path.suffix or 'that'}"
        )
    picture, suffix = draw(shown), path.suffix.lower()
    if suffix == ".png":
        write_atomically(path, picture.as_png())
    else:
        svg = picture.as_svg(title)
        write_atomically(path, svg if suffix == ".svg" else _page(svg, title))


def _page(svg: str, title: str) -> str:
    style = (
        f"body{{margin:24px auto;max-width:{_WIDTH + 40:g}px;padding:0 12px;background:#fff;color:#222;"
        "font:14px/1.5 Helvetica,Arial,sans-serif}h1{font-size:18px}svg{width:100%;height:auto}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><h1>{escape(title)}</h1>{svg}</body></html>\n"
    )


def draw(shown: Sequence[Panel]) -> Picture:
    """All panels with one legend below them."""
    labels = list(dict.fromkeys(line.label for panel in shown for line in panel.lines))
    styles = {label: _Style.of(place) for place, label in enumerate(labels)}
    legend = _LINE * (len(labels) + 1) + 12
    picture = Picture(_WIDTH, _HEIGHT * len(shown) + legend)
    for place, panel in enumerate(shown):
        _Frame(picture, panel, place * _HEIGHT).draw(styles)
    seeds = {line.label: line.seeds for panel in shown for line in panel.lines}
    _legend(picture, styles, seeds, _HEIGHT * len(shown) + 8)
    return picture


class _Frame:
    """One panel's axes: from steps and values to places on the picture."""

    def __init__(self, picture: Picture, panel: Panel, top: float) -> None:
        self._picture, self._panel = picture, panel
        self._top, self._bottom = top + _TOP, top + _HEIGHT - _BOTTOM
        values = [v for line in panel.lines for v in (*line.lows, *line.highs)]
        self._last = max(line.steps[-1] for line in panel.lines)
        self._low, self._high, self._ticks, self._bend = _scale(values)

    def draw(self, styles: dict[str, _Style]) -> None:
        """Grid, bands, lines, marks."""
        self._grid()
        for line in self._panel.lines:
            if line.seeds > 1:
                edge = [*zip(line.steps, line.highs, strict=True)]
                edge += reversed([*zip(line.steps, line.lows, strict=True)])
                self._add(Area([self._at(*point) for point in edge], styles[line.label].color))
        for place, line in enumerate(self._panel.lines):
            self._line(line, styles[line.label], place / len(self._panel.lines))

    def _line(self, line: SeedLine, style: _Style, offset: float) -> None:
        points = [self._at(*point) for point in zip(line.steps, line.means, strict=True)]
        if len(points) > 1:
            self._add(Line(points, style.color, 1.9, style.dash))
        # marks of different lines stand at different steps: on top of each other they could not be read
        every = max(1, len(points) // _MARKS)
        for place in range(min(int(offset * every), len(points) - 1), len(points), every):
            self._add(Mark(points[place], style.shape, style.color))

    def _grid(self) -> None:
        left, right = _LEFT, _WIDTH - _RIGHT
        for tick in self._ticks:
            _, y = self._at(0, tick)
            self._add(Line([(left, y), (right, y)], _RULE, 0.8))
            self._add(Text((left - 8, y + 4), number(tick), 11.5, "end", _GREY))
        for tick in axis([0, self._last], 6)[2]:
            if tick <= self._last * 1.0001:
                x, _ = self._at(tick, self._low)
                self._add(Line([(x, self._bottom), (x, self._bottom + 4)], _GREY, 0.8))
                self._add(Text((x, self._bottom + 17), number(tick), 11.5, "middle", _GREY))
        self._add(Line([(left, self._bottom), (right, self._bottom)], _GREY, 0.9))
        means = f", means of {self._panel.stretch}" if self._panel.stretch > 1 else ""
        self._add(
            Text(((left + right) / 2, self._bottom + 35), f"optimiser step{means}", 12, "middle", _TEXT)
        )
        name = self._panel.metric
        unit = _UNITS.get(name.rpartition("/")[2], "")
        bend = ", logarithmic" if self._bend is math.log else ""
        label = f"{name} ({unit}{bend})" if unit else f"{name}{f' ({bend[2:]})' if bend else ''}"
        self._add(Text((18, (self._top + self._bottom) / 2), label, 12.5, "middle", _TEXT, is_upright=True))

    def _at(self, step: float, value: float) -> Point:
        low, high = self._bend(self._low), self._bend(self._high)
        x = _LEFT + step / self._last * (_WIDTH - _LEFT - _RIGHT)
        return x, self._bottom - (self._bend(value) - low) / (high - low) * (self._bottom - self._top)

    def _add(self, thing: Line | Area | Mark | Text) -> None:
        self._picture.things.append(thing)


def _scale(values: Sequence[float]) -> tuple[float, float, list[float], Callable[[float], float]]:
    """Ends, ticks and the bend of an axis: logarithmic where values span more than a decade and a half."""
    low, high = min(values), max(values)
    if low <= 0 or high / low < _LOG_FROM:
        floor, ceiling, ticks = axis(values, 5)
        return floor, ceiling, ticks, float
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 1e3 else (1,)
    known = [m * 10.0**decade for decade in decades for m in steps]
    floor = max(tick for tick in known if tick <= low)
    ceiling = min((tick for tick in known if tick >= high), default=high)
    return floor, ceiling, [tick for tick in known if floor <= tick <= ceiling], math.log


def _legend(picture: Picture, styles: dict[str, _Style], seeds: dict[str, int], top: float) -> None:
    for place, (label, style) in enumerate(styles.items()):
        y = top + _LINE * place + 10
        picture.things += [
            Line([(_LEFT, y), (_LEFT + 44, y)], style.color, 1.9, style.dash),
            Mark((_LEFT + 22, y), style.shape, style.color),
            Text((_LEFT + 56, y + 4), f"{label}  ({_runs(seeds[label])})", 12.5),
        ]
    several = max(seeds.values()) > 1
    said = "lines: mean over the seeds; bands: their least to their greatest" if several else "one seed each"
    picture.things.append(Text((_LEFT, top + _LINE * len(styles) + 14), said, 11, color=_GREY))


def _runs(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"
