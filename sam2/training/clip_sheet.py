"""Training clips as pictures: a row of frames each, with masks and prompts drawn on them; one PNG or HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data.plural import plural
from sam2.evaluation.files import replacing, write_atomically
from sam2.evaluation.overlay import BACKGROUND, FAINT, GAP_PX, TEXT, Colour, colour_of, draw_masks
from sam2.evaluation.page import STYLE
from sam2.training.preview import GivenPoints, TrainingClip

TILE_PX = 256
MOST_FRAMES = 12  # of a clip; those that are prompted always
POSITIVE, NEGATIVE, GIVEN_MASK = (60, 220, 90), (255, 70, 60), (255, 255, 255)
_TITLE_PX, _LINE_PX = 13, 20
_JPEG_QUALITY = 90


def write_png(path: Path, clips: Sequence[TrainingClip]) -> None:
    """All clips below each other, atomically."""
    rows = [draw_clip(clip) for clip in clips]
    titles = [_lines(clip) for clip in clips]
    top = len(titles[0]) * _LINE_PX + GAP_PX
    width = max(row.shape[1] for row in rows)
    height = sum(row.shape[0] + top + 2 * GAP_PX for row in rows) + 2 * _LINE_PX
    canvas = Image.new("RGB", (width + 2 * GAP_PX, height), BACKGROUND)
    pen, y = ImageDraw.Draw(canvas), GAP_PX
    for row, lines in zip(rows, titles, strict=True):
        for k, line in enumerate(lines):
            colour = FAINT if k else TEXT
            pen.text((GAP_PX, y + k * _LINE_PX), line, colour, ImageFont.load_default(_TITLE_PX))
        canvas.paste(Image.fromarray(row), (GAP_PX, y + top))
        y += row.shape[0] + top + 2 * GAP_PX
    for k, line in enumerate(LEGEND):
        pen.text((GAP_PX, y + k * _LINE_PX), line, FAINT, ImageFont.load_default(_TITLE_PX))
    with replacing(path) as draft:
        canvas.save(draft, format="PNG")


def write_html(path: Path, clips: Sequence[TrainingClip], facts: dict[str, str]) -> None:
    """A page that needs no other file, atomically.

    Args:
        path: of the page.
        clips: what to show.
        facts: short lines under the title.
    """
    listed = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    figures = "".join(map(_figure, clips))
    write_atomically(
        path,
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Training clips</title><style>{STYLE}</style></head><body><main>"
        f"<header><h1>Training clips</h1><dl>{listed}</dl></header>"
        f"<section><h2>Clips<small>{escape('; '.join(LEGEND))}</small></h2>{figures}</section></main></body></html>\n",
    )


LEGEND = (
    "green: click on the object; red: click beside it; rectangle: box; white frame: masks are given",
    "correction clicks depend on what the model predicts and are not shown",
)


def _figure(clip: TrainingClip) -> str:
    buffer = io.BytesIO()
    Image.fromarray(draw_clip(clip)).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode()
    first, *others = map(escape, _lines(clip))
    caption = f"<b>{first}</b><br>{'<br>'.join(others)}"
    return (
        f'<figure class="wide picture"><img alt="{first}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _lines(clip: TrainingClip) -> tuple[str, str]:
    """What stands beside a clip: where it comes from, and how it is prompted."""
    plan = clip.plan
    start = "masks" if plan.from_masks else "clicks and boxes" if plan.boxes else "clicks"
    corrected = f"; {plan.clicks} corrections in {_frames(sorted(plan.corrected))}" if plan.corrected else ""
    return (
        f"micro-batch {clip.step}, clip {clip.place}, seed {clip.seed}: {clip.source}",
        f"{plural(clip.masks.shape[1], 'object')}; starts from {start} in {_frames(plan.first)}{corrected}",
    )


def _frames(numbers: Sequence[int]) -> str:
    return ("frame " if len(numbers) == 1 else "frames ") + ", ".join(map(str, numbers))


def draw_clip(clip: TrainingClip) -> NDArray[np.uint8]:
    """Frames side by side in the order of time, (TILE_PX + a title, columns of TILE_PX, 3)."""
    shown = _shown(clip)
    width = len(shown) * (TILE_PX + GAP_PX) - GAP_PX
    canvas = Image.new("RGB", (width, TILE_PX + _LINE_PX), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for k, frame in enumerate(shown):
        left = k * (TILE_PX + GAP_PX)
        pen.text((left, 2), f"frame {frame}{_role(clip, frame)}", FAINT, ImageFont.load_default(_TITLE_PX))
        canvas.paste(draw_frame(clip, frame), (left, _LINE_PX))
    return np.asarray(canvas)


def _shown(clip: TrainingClip) -> list[int]:
    """The frames to draw: all, or those with prompts and others spread evenly."""
    spread = np.linspace(0, len(clip.frames) - 1, min(len(clip.frames), MOST_FRAMES)).round().astype(int)
    return sorted({*spread.tolist(), *clip.plan.first})


def _role(clip: TrainingClip, frame: int) -> str:
    if frame in clip.plan.first:
        return ": masks given" if clip.plan.from_masks else ": prompted"
    return ": corrected" if frame in clip.plan.corrected else ""


def draw_frame(clip: TrainingClip, frame: int) -> Image.Image:
    """One frame of TILE_PX with its masks, and its prompts if it has any."""
    scale = TILE_PX / clip.frames.shape[1]
    picture = Image.fromarray(clip.frames[frame]).resize((TILE_PX, TILE_PX), Image.Resampling.BOX)
    masks = [
        np.asarray(Image.fromarray(mask).resize((TILE_PX, TILE_PX), Image.Resampling.NEAREST))
        for mask in clip.masks[frame]
    ]
    numbers = range(1, len(masks) + 1)
    stacked = np.array(masks, bool).reshape(len(masks), TILE_PX, TILE_PX)
    drawn = Image.fromarray(draw_masks(np.asarray(picture), stacked, numbers))
    pen = ImageDraw.Draw(drawn)
    if frame in clip.plan.first and clip.plan.from_masks:
        pen.rectangle((0, 0, TILE_PX - 1, TILE_PX - 1), outline=GIVEN_MASK, width=3)
    if frame in clip.prompts:
        for k in range(len(masks)):
            _draw_prompt(pen, clip.prompts[frame], k, scale)
    return drawn


def _draw_prompt(pen: ImageDraw.ImageDraw, given: GivenPoints, k: int, scale: float) -> None:
    """The clicks, or the box, of the object at position k."""
    corners = {}
    for (x, y), label in zip(given.points[k].tolist(), given.labels[k].tolist(), strict=True):
        at = ((x + 0.5) * scale, (y + 0.5) * scale)
        if label in (0, 1):
            _draw_click(pen, at, POSITIVE if label else NEGATIVE, colour_of(k + 1))
        elif label in (2, 3):
            corners[label] = at
    if len(corners) == 2:
        box = (*corners[2], *corners[3])
        if box[0] <= box[2] and box[1] <= box[3]:
            pen.rectangle(box, outline=colour_of(k + 1), width=2)


def _draw_click(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], fill: Colour, outline: Colour, radius: int = 5
) -> None:
    """A dot in the colour of its label, ringed in that of its object."""
    x, y = at
    pen.ellipse((x - radius - 2, y - radius - 2, x + radius + 2, y + radius + 2), fill=outline)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=(0, 0, 0))
