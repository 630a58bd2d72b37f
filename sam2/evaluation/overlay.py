"""Pictures of a prediction: masks drawn over frames, side by side with the truth, as a video and as a contact sheet.

Drawing happens on the host with numpy and Pillow; videos are H.264, yuv420p, which every browser plays. A small
video is enlarged by a whole factor so that its pixels can be seen for what they are.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sam2.evaluation.boundary import Bools, Floats
from sam2.evaluation.files import replacing
from sam2.evaluation.jf import score_masks

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

PANEL_PX = (336, 1280)  # a frame of a video is drawn at least this large (shorter side), at most this wide
TILE_PX = (208, 400)  # the same for a frame of a contact sheet
FILL = 0.45  # share of the object's colour inside its mask
DIM = 0.8  # brightness of what belongs to no object
GAP_PX = 6
LUMA, DARK = (
    (0.299, 0.587, 0.114),
    96.0,
)  # brightness of red, green, blue; unreadable on the background below that
BACKGROUND: Colour = (17, 19, 24)
TEXT: Colour = (232, 234, 240)
FAINT: Colour = (150, 156, 170)
COLOURS: tuple[Colour, ...] = (
    (255, 77, 109),
    (46, 180, 255),
    (255, 200, 46),
    (91, 229, 125),
    (185, 124, 255),
    (255, 138, 61),
    (45, 224, 200),
    (255, 122, 224),
    (154, 180, 255),
    (198, 224, 58),
)


@dataclass(frozen=True)
class Track:
    """What is drawn: T frames of one video with O objects.

    `frames` (T, H, W, 3) uint8 RGB; `gt` and `pred` (T, O, H, W) bool; `object_ids` one an object.

    Raises:
        ValueError: the four disagree.
    """

    name: str
    frames: Picture
    gt: Bools
    pred: Bools
    object_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[3] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(
                f"{self.name}: frames are (T, H, W, 3) uint8, got {self.frames.dtype} {self.frames.shape}"
            )
        expected = (len(self.frames), len(self.object_ids), *self.frames.shape[1:3])
        for side, masks in (("gt", self.gt), ("pred", self.pred)):
            if masks.shape != expected or masks.dtype != bool:
                raise ValueError(
                    f"{self.name}: {side} must be {expected} bool, got {masks.shape} {masks.dtype}"
                )

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def jf(self) -> Floats:
        """J&F of every frame and object in percent, (T, O)."""
        scores = score_masks(self.gt, self.pred)
        return 50 * (scores.j + scores.f)


def colour_of(object_id: int) -> Colour:
    """The same colour for the same id everywhere; neighbouring ids differ clearly."""
    place = object_id - 1
    if 0 <= place < len(COLOURS):
        return COLOURS[place]
    r, g, b = colorsys.hsv_to_rgb(
        (place * 0.61803398875 + 0.4) % 1, 0.65, 0.95
    )  # golden ratio: hues never crowd
    return round(255 * r), round(255 * g), round(255 * b)


def draw_masks(
    frame: Picture, masks: Bools, object_ids: Sequence[int], colours: Callable[[int], Colour] = colour_of
) -> Picture:
    """Fill, outline and number the masks (O, H, W) of one frame (H, W, 3); later objects lie on top.

    Args:
        frame: what the masks are of.
        masks: one an object.
        object_ids: one an object; numbers stand on objects that have a pixel.
        colours: of an object, by its id.
    """
    thickness = max(1, round(min(frame.shape[:2]) / 170))
    drawn = frame.astype(np.float32)
    drawn[~masks.any(0)] *= DIM
    for mask, i in zip(masks, object_ids, strict=True):
        colour = np.array(colours(i), np.float32)
        drawn[mask] = (1 - FILL) * drawn[mask] + FILL * colour
        drawn[mask & ~_shrink(mask, thickness)] = colour
    picture = Image.fromarray(drawn.round().astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for mask, i in zip(masks, object_ids, strict=True):
        if mask.any():
            size = max(11, frame.shape[0] // 22)
            _label(pen, str(i), _label_place(mask, size), colours(i), size)
    return np.asarray(picture)


def compare_frame(track: Track, t: int) -> Picture:
    """Frame t three times: as it is, with the truth, with the prediction and its J&F."""
    panels = _panels(track, t, PANEL_PX)
    width, height = panels[0].size
    size = max(16, height // 30)
    top = size * 5 // 2
    canvas = Image.new("RGB", (3 * width + 4 * GAP_PX, height + top + GAP_PX), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    titles = (f"{track.name}   frame {t}", "ground truth", "prediction")
    for place, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        left = GAP_PX + place * (width + GAP_PX)
        canvas.paste(panel, (left, top))
        pen.text((left, top // 2), _shorten(pen, title, width, size), TEXT, _font(size), anchor="lm")
    room = width - pen.textlength(titles[2], _font(size)) - size
    _write_scores(pen, track, t, right=(canvas.width - GAP_PX, top // 2), room=room)
    return np.asarray(canvas)


def _write_scores(
    pen: ImageDraw.ImageDraw, track: Track, t: int, right: tuple[int, int], room: float
) -> None:
    """J&F of the frame and of each object in its colour, in the `room` left of `right`; the last may not fit."""
    if not track.object_ids:
        return
    pieces = [(f"J&F {track.jf[t].mean():.0f}", TEXT)]
    pieces += [
        (f"{i}: {value:.0f}", colour_of(i)) for i, value in zip(track.object_ids, track.jf[t], strict=True)
    ]
    size = max(11, min(int(room) // 19, 22))
    gap = 0.7 * size
    widths = [pen.textlength(text, _font(size)) + gap for text, _ in pieces]
    while len(pieces) > 1 and sum(widths) - gap > room:
        pieces.pop()
        widths.pop()
    left = right[0] - sum(widths) + gap
    for (text, colour), width in zip(pieces, widths, strict=True):
        pen.text((left, right[1]), text, colour, _font(size), anchor="lm")
        left += width


def write_video(path: Path, track: Track, fps: float = 6.0) -> None:
    """Write the comparison of all frames as an mp4, see `write_pictures`."""
    if not len(track):
        raise ValueError(f"{track.name} has no frames, so {path} cannot be a video")
    write_pictures(path, (compare_frame(track, t) for t in range(len(track))), fps)


def write_pictures(path: Path, pictures: Iterable[Picture], fps: float) -> None:
    """Write pictures (H, W, 3) of one size as an mp4 (H.264, yuv420p), atomically.

    An odd side gets one more row or column, which repeats the last: this kind of video has even sides.

    Raises:
        ValueError: there are none.
    """
    with (
        replacing(path) as draft,
        av.open(str(draft), "w", format="mp4", options={"movflags": "faststart"}) as file,
    ):
        stream: Any = None
        for picture in pictures:
            if stream is None:
                stream = file.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width = (side + side % 2 for side in picture.shape[:2])
                stream.pix_fmt, stream.options = "yuv420p", {"crf": "18", "preset": "medium"}
            even = np.pad(picture, [(0, side % 2) for side in picture.shape[:2]] + [(0, 0)], mode="edge")
            file.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is None:
            raise ValueError(f"there are no pictures, so {path} cannot be a video")
        file.mux(stream.encode())


def contact_sheet(track: Track, columns: int = 6) -> Picture:
    """Frames spread evenly over the video: a column each; rows are the frame, the truth and the prediction."""
    if not len(track):
        raise ValueError(f"{track.name} has no frames to put on a sheet")
    times = np.unique(np.linspace(0, len(track) - 1, columns).round().astype(int)).tolist()
    tiles = [_panels(track, t, TILE_PX) for t in times]
    width, height = tiles[0][0].size
    size, side = 13, 92
    top = size + 14
    canvas = Image.new("RGB", (side + len(times) * (width + GAP_PX), top + 3 * (height + GAP_PX)), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for row, title in enumerate((track.name, "ground truth", "prediction")):
        pen.text(
            (8, top + row * (height + GAP_PX) + height // 2),
            _shorten(pen, title, side - 12, size),
            FAINT,
            _font(size),
            anchor="lm",
        )
    for column, (t, parts) in enumerate(zip(times, tiles, strict=True)):
        left = side + column * (width + GAP_PX)
        pen.text((left, top // 2), f"frame {t}", FAINT, _font(size), anchor="lm")
        if track.object_ids:
            score = f"J&F {track.jf[t].mean():.0f}"
            pen.text((left + width, top // 2), score, TEXT, _font(size), anchor="rm")
        for row, tile in enumerate(parts):
            canvas.paste(tile, (left, top + row * (height + GAP_PX)))
    return np.asarray(canvas)


def write_contact_sheet(path: Path, track: Track, columns: int = 6) -> None:
    """Write `contact_sheet` as a PNG, atomically."""
    with replacing(path) as draft:
        Image.fromarray(contact_sheet(track, columns)).save(draft, format="PNG", optimize=True)


def _panels(track: Track, t: int, limits_px: tuple[int, int]) -> tuple[Image.Image, ...]:
    """Frame t plain, with the truth and with the prediction; enlarged by a whole factor, or reduced to fit."""
    height, width = track.frames.shape[1:3]
    factor = max(1, -(-limits_px[0] // min(height, width)))
    frame = _enlarge(track.frames[t], factor, rows=0)
    panels = [frame] + [
        draw_masks(frame, _enlarge(masks[t], factor, rows=1), track.object_ids)
        for masks in (track.gt, track.pred)
    ]
    shrink = max(1.0, frame.shape[1] / limits_px[1])
    size = round(frame.shape[1] / shrink), round(frame.shape[0] / shrink)
    return tuple(Image.fromarray(panel).resize(size, Image.Resampling.BOX) for panel in panels)


def _enlarge(pixels: NDArray[Any], factor: int, rows: int) -> NDArray[Any]:
    """Repeat every pixel `factor` times along the axis `rows` and the one after it."""
    return pixels.repeat(factor, axis=rows).repeat(factor, axis=rows + 1)


def _shrink(mask: Bools, steps: int) -> Bools:
    """The mask without its outermost `steps` pixels; the image's edge is not an outline."""
    for _ in range(steps):
        wide = np.pad(mask, 1, mode="edge")
        mask = mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return mask


def _label_place(mask: Bools, size: int) -> tuple[int, int]:
    """x, y of a number on the mask's pixel nearest to its centre of mass; above an object that it would hide."""
    y, x = np.nonzero(mask)
    if min(np.ptp(y), np.ptp(x)) < 2 * size:
        x_middle, above = int(x.min() + x.max()) // 2, int(y.min()) - size
        return min(max(x_middle, size), mask.shape[1] - size), max(above, size)
    nearest = np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2)
    return int(x[nearest]), int(y[nearest])


def _label(pen: ImageDraw.ImageDraw, text: str, at: tuple[int, int], colour: Colour, size: int) -> None:
    box = pen.textbbox(at, text, _font(size), anchor="mm")
    margin = max(2, size // 5)
    around = (box[0] - margin - 1, box[1] - margin, box[2] + margin + 1, box[3] + margin)
    pen.rounded_rectangle(around, radius=size // 3, fill=BACKGROUND, outline=colour)
    is_dark = np.dot(colour, LUMA) < DARK  # as half of a palette is
    pen.text(at, text, TEXT if is_dark else colour, _font(size), anchor="mm")


def _shorten(pen: ImageDraw.ImageDraw, text: str, room: float, size: int) -> str:
    """The end of `text` that fits: names differ at their ends."""
    if pen.textlength(text, _font(size)) <= room:
        return text
    while len(text) > 1 and pen.textlength("…" + text, _font(size)) > room:
        text = text[1:]
    return "…" + text


@lru_cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
