"""Compose a synthetic clip from a configuration: what is in it, how it moves, and its frames with exact masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data.scenes.motion import (
    Absence,
    arrive_late,
    drift,
    fold,
    leave_and_return,
    push_out,
    spread_out,
    wander,
)
from data.scenes.scene import REACH, Scene, Thing, make_shape, make_skin
from data.scenes.textures import texture

SPLITS = ("train", "val", "test")
_MAX_PAN = 0.25  # of the picture's side; the background is that much larger on each side


@dataclass(frozen=True)
class SyntheticConfig:
    """What the videos look like. Lengths are parts of the picture's side, rates are per annotated frame.

    Attributes:
        seed: another seed, other videos.
        height: pixels.
        width: pixels.
        frames: video frames.
        fps: frames per second.
        annotate_every: video frames from one annotated frame to the next; SA-V has 4.
        objects: least and greatest number of objects, all annotated.
        radius: least and greatest; drawn log-uniformly.
        figure_probability: an object is a body with limbs rather than a blob.
        look_alike_probability: an object has texture and shape of an earlier one (a distractor).
        leave_probability: an object leaves the picture and comes back.
        late_probability: an object enters after the first frame.
        occluders: least and greatest number of things before the objects that are not annotated.
        speed: least and greatest.
        rotation: greatest, in radians.
        deformation: change of the outline, as a part of the radius.
        scale: least and greatest factor on the radius within a clip.
        camera_pan: greatest speed of the background.
        camera_zoom: greatest change of magnification.
        light_drift: greatest change of brightness.
        noise: least and greatest standard deviation of pixel noise, of 255.
        blur_samples: moments averaged into a frame; 1 is sharp, an odd number blurs what moves.
        crf: quality of the mp4.
        preset: x264 preset.
    """

    seed: int = 0
    height: int = 256
    width: int = 256
    frames: int = 72
    fps: int = 24
    annotate_every: int = 4
    objects: tuple[int, int] = (2, 5)
    radius: tuple[float, float] = (0.04, 0.195)
    figure_probability: float = 0.35
    look_alike_probability: float = 0.5
    leave_probability: float = 0.3
    late_probability: float = 0.2
    occluders: tuple[int, int] = (0, 1)
    speed: tuple[float, float] = (0.01, 0.04)
    rotation: float = 0.15
    deformation: float = 0.15
    scale: tuple[float, float] = (0.7, 1.4)
    camera_pan: float = 0.02
    camera_zoom: float = 0.08
    light_drift: float = 0.15
    noise: tuple[float, float] = (2.0, 6.0)
    blur_samples: int = 3
    crf: int = 23
    preset: str = "veryfast"

    def __post_init__(self) -> None:
        for name in ("objects", "radius", "occluders", "speed", "scale", "noise"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be (least, greatest), neither negative, got {(low, high)}")
        for name in ("figure", "look_alike", "leave", "late"):
            share = getattr(self, f"{name}_probability")
            if not 0 <= share <= 1:
                raise ValueError(f"{name}_probability must be from 0 to 1, got {share}")
        if min(self.height, self.width) < 16 or self.height % 2 or self.width % 2:
            raise ValueError(
                f"height and width must be even and at least 16, got {self.height} and {self.width}"
            )
        if min(self.frames, self.fps, self.annotate_every, self.objects[0]) < 1 or self.radius[0] <= 0:
            raise ValueError("frames, fps, annotate_every, objects and radius must be greater than 0")
        if self.blur_samples < 1 or self.blur_samples % 2 == 0:
            raise ValueError(f"blur_samples must be odd, got {self.blur_samples}")

    @property
    def annotated(self) -> range:
        """Video frames that have masks."""
        return range(0, self.frames, self.annotate_every)


_PLAIN = SyntheticConfig(
    look_alike_probability=0,
    leave_probability=0,
    late_probability=0,
    figure_probability=0,
    occluders=(0, 0),
    blur_samples=1,
)
PRESETS = {
    "easy": replace(
        _PLAIN,
        height=128,
        width=128,
        objects=(2, 3),
        radius=(0.08, 0.2),
        scale=(0.85, 1.2),
        camera_pan=0.01,
        noise=(2, 3),
    ),
    "medium": SyntheticConfig(),
    "hard": replace(
        SyntheticConfig(),
        objects=(4, 7),
        look_alike_probability=0.7,
        leave_probability=0.45,
        late_probability=0.3,
        occluders=(1, 2),
        speed=(0.03, 0.08),
        rotation=0.3,
        deformation=0.22,
        camera_zoom=0.15,
        light_drift=0.25,
        noise=(4.0, 9.0),
    ),
    # What a model of a million parameters learns in minutes on a CPU; 12 annotated frames a clip.
    "demo": replace(
        _PLAIN,
        height=96,
        width=96,
        frames=45,
        objects=(3, 4),
        radius=(0.08, 0.15),
        speed=(0.01, 0.025),
        rotation=0.1,
        deformation=0.1,
        scale=(0.9, 1.1),
        camera_pan=0.01,
        camera_zoom=0.0,
        light_drift=0.1,
        noise=(2.0, 4.0),
    ),
}


@dataclass(frozen=True)
class Rendered:
    """A clip in memory.

    `frames` (T, H, W, 3) uint8; `masks` (A, O, H, W) bool of the annotated frames; `objects` O records of how each
    object looks and what happens to it, JSON types only; `background_seed` made the background's texture.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    objects: tuple[dict[str, Any], ...]
    background_seed: int


def render(config: SyntheticConfig, split: str, number: int) -> Rendered:
    """Clip `number` of a split. An object that is in no annotated frame is not annotated."""
    rng = np.random.default_rng([config.seed, SPLITS.index(split), number])
    looks = _draw_looks(config, SPLITS.index(split), rng)
    background_seed = _seed(rng, SPLITS.index(split))
    scene = _compose(config, background_seed, looks, rng)
    objects = sum(look.is_annotated for look in looks)
    samples, height, width = config.blur_samples, config.height, config.width
    sigma = np.float32(rng.uniform(*config.noise))
    # One field, shifted at random in each frame: fresh noise for every pixel would cost more than the drawing.
    noise = rng.standard_normal((height + 32, width + 32, 3), dtype=np.float32) * sigma + np.float32(0.5)
    frames = np.empty((config.frames, height, width, 3), np.uint8)
    masks = np.zeros((len(config.annotated), objects, height, width), bool)
    areas = np.zeros((len(config.annotated), objects))
    for frame in range(config.frames):
        drawn = [scene.draw(frame * samples + i) for i in range(samples)]
        picture = np.mean([d.picture for d in drawn], 0) if samples > 1 else drawn[0].picture
        y, x = rng.integers(0, 33, 2)
        picture += noise[y : y + height, x : x + width]
        frames[frame] = np.clip(picture, 0, 255, out=picture)
        k, rest = divmod(frame, config.annotate_every)
        if rest == 0:
            sharp = drawn[samples // 2]
            masks[k] = sharp.owner == np.arange(objects)[:, None, None]
            areas[k] = sharp.areas[:objects]
    visible = masks.sum((2, 3))
    seen = np.flatnonzero(visible.any(0))
    hidden = 1 - visible.sum(0) / np.maximum(areas.sum(0), 1)
    records = tuple(asdict(looks[i]) | {"hidden": round(float(hidden[i]), 4)} for i in seen)
    return Rendered(frames, masks[:, seen], records, background_seed)


@dataclass(frozen=True)
class Look:
    """What is drawn about one thing before it is placed.

    `texture_seed` and `shape_seed` belong to one split; `look_alike_of` is the number of the object it copies, or
    None; `hidden` in the record of an object is the part of its area in the picture that others cover.
    """

    texture_seed: int
    shape_seed: int
    is_figure: bool
    is_annotated: bool
    look_alike_of: int | None
    radius: float
    is_late: bool
    leaves: bool


def _draw_looks(config: SyntheticConfig, split: int, rng: Generator) -> list[Look]:
    """Objects from far to near, then occluders."""
    looks: list[Look] = []
    for i in range(int(rng.integers(config.objects[0], config.objects[1] + 1))):
        is_late = bool(i > 0 and rng.random() < config.late_probability)
        look = Look(
            texture_seed=_seed(rng, split),
            shape_seed=_seed(rng, split),
            is_figure=bool(rng.random() < config.figure_probability),
            is_annotated=True,
            look_alike_of=None,
            radius=float(np.exp(rng.uniform(*np.log(config.radius)))),
            is_late=is_late,
            leaves=bool(not is_late and rng.random() < config.leave_probability),
        )
        if looks and rng.random() < config.look_alike_probability:
            j = int(rng.integers(len(looks)))
            twin, size = looks[j], looks[j].radius * rng.uniform(0.85, 1.15)
            radius = float(np.clip(size, *config.radius))
            look = replace(twin, look_alike_of=j, radius=radius, is_late=look.is_late, leaves=look.leaves)
        looks.append(look)
    for _ in range(int(rng.integers(config.occluders[0], config.occluders[1] + 1))):
        radius = float(rng.uniform(0.08, 0.16))
        looks.append(Look(_seed(rng, split), _seed(rng, split), False, False, None, radius, False, False))
    return looks


def _seed(rng: Generator, split: int) -> int:
    """A seed that no other split can draw: it leaves `split` when divided by the number of splits."""
    return int(rng.integers(2**40)) * len(SPLITS) + split


def _compose(config: SyntheticConfig, background_seed: int, looks: Sequence[Look], rng: Generator) -> Scene:
    """Place and move everything."""
    samples = config.blur_samples
    # The shutter is open for half the time from frame to frame.
    frames = np.arange(config.frames)[:, None] + (np.arange(samples) - samples // 2) / (2 * samples)
    times = frames.ravel() / config.annotate_every
    side = np.sqrt(config.height * config.width)
    pan = fold(wander(rng, times, (0, config.camera_pan * side)), -_MAX_PAN * side, _MAX_PAN * side)
    zoom = np.exp(config.camera_zoom * drift(rng, times))
    limits = np.array([config.width, config.height], float)
    starts = spread_out(rng, len(looks), 0.15 * limits, 0.85 * limits)
    shot = _Shot(config, times, pan, zoom, limits, float(side))
    things = tuple(shot.place(look, start, rng) for look, start in zip(looks, starts, strict=True))
    margin = 2 * (_MAX_PAN + np.expm1(config.camera_zoom) / 2)
    backdrop = texture(background_seed, round((1 + margin) * limits.max()), contrast=0.55)
    view = len(backdrop) / 2 - pan
    gain = 1 + config.light_drift * drift(rng, times)
    return Scene(
        height=config.height,
        width=config.width,
        things=things,
        background=backdrop,
        times=times.astype(np.float32),
        view_x=view[:, 0].astype(np.float32),
        view_y=view[:, 1].astype(np.float32),
        zoom=zoom.astype(np.float32),
        gain=gain.astype(np.float32),
    )


@dataclass(frozen=True)
class _Shot:
    """Camera and clock of a clip: `times` (N,), `pan` (N, 2), `zoom` (N,), `limits` width and height."""

    config: SyntheticConfig
    times: NDArray[np.float64]
    pan: NDArray[np.float64]
    zoom: NDArray[np.float64]
    limits: NDArray[np.float64]
    side: float

    def place(self, look: Look, start: NDArray[np.float64], rng: Generator) -> Thing:
        """The path, size and turning of one thing. Objects turn back at the sides; occluders stand in the world."""
        config, times = self.config, self.times
        low, high = np.log(config.scale)
        scale = (
            np.exp((low + high) / 2 + (high - low) / 2 * drift(rng, times))
            if look.is_annotated
            else np.ones_like(times)
        )
        radius = look.radius * self.side * scale * self.zoom
        path = start + self.pan
        if look.is_annotated:
            speed = (config.speed[0] * self.side, config.speed[1] * self.side)
            path = path + wander(rng, times, speed)
            margin = np.minimum(0.9 * look.radius * self.side, self.limits / 2 - 1)
            path = np.stack([fold(path[:, i], margin[i], self.limits[i] - margin[i]) for i in (0, 1)], 1)
        path = (path - self.limits / 2) * self.zoom[:, None] + self.limits / 2
        absence = self._absence(look, rng)
        if absence:
            reach = REACH * float(np.max(radius)) + 2
            path = push_out(path, absence, times, (self.limits[0], self.limits[1]), reach)
        angle = rng.uniform(0, 2 * np.pi) + config.rotation * (
            rng.uniform(-0.6, 0.6) * times + 2 * drift(rng, times, 20)
        )
        return Thing(
            shape=make_shape(look.shape_seed, look.is_figure, config.deformation),
            skin=make_skin(look.texture_seed, look.radius * self.side),
            x=path[:, 0].astype(np.float32),
            y=path[:, 1].astype(np.float32),
            radius=radius.astype(np.float32),
            angle=angle.astype(np.float32),
        )

    def _absence(self, look: Look, rng: Generator) -> Absence | None:
        length = float(self.times[-1])
        if look.is_late:
            return arrive_late(rng, length)
        return leave_and_return(rng, length) if look.leaves else None
