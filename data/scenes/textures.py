"""Procedural textures: seven families of patterns in random colours, a pure function of a seed."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Plane = NDArray[np.float32]


def texture(seed: int, size_px: int, contrast: float = 1.0) -> NDArray[np.float32]:
    """A square texture.

    Args:
        seed: everything about it follows from this number.
        size_px: side; the same seed shows the same picture at another resolution, but for its finest grain.
        contrast: 1 for objects; less for quiet backgrounds.

    Returns:
        (size_px, size_px, 3) float32 RGB from 0 to 255.
    """
    rng = np.random.default_rng(seed)
    axis = np.linspace(-1, 1, size_px, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    family = _FAMILIES[rng.integers(len(_FAMILIES))]
    dark, light, tint = _colours(rng)
    pattern = family(rng, x, y)[..., None]
    shade = value_noise(rng, 3, size_px)[..., None]
    grain = value_noise(rng, max(8, size_px // 3), size_px)[..., None]
    picture = dark + (light - dark) * pattern
    picture = picture + 0.35 * shade * (tint - picture)
    picture = picture * (0.88 + 0.24 * grain)
    mean = picture.mean((0, 1))
    picture = mean + contrast * (picture - mean)
    return np.clip(picture, 0, 255).astype(np.float32)


def value_noise(rng: Generator, cells: int, size_px: int) -> Plane:
    """Smooth noise from 0 to 1 with `cells` independent values a side, (size_px, size_px)."""
    weights = _upsampling(cells, size_px)
    grid = rng.random((cells, cells), dtype=np.float32)
    return np.asarray(weights @ grid @ weights.T, np.float32)


def _upsampling(cells: int, size_px: int) -> Plane:
    """Matrix (size_px, cells) of linear interpolation."""
    place = np.linspace(0, cells - 1, size_px)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells)[None, :])).astype(np.float32)


def _colours(rng: Generator) -> NDArray[np.float32]:
    """A dark, a light and a tint colour (3, 3) that differ enough to be told apart."""
    hue = rng.random()
    hues = (hue, (hue + rng.uniform(0.1, 0.5)) % 1, (hue + rng.uniform(0.3, 0.7)) % 1)
    values = (rng.uniform(0.15, 0.5), rng.uniform(0.65, 1.0), rng.uniform(0.3, 0.9))
    colours = [colorsys.hsv_to_rgb(h, rng.uniform(0.35, 0.95), v) for h, v in zip(hues, values, strict=True)]
    return np.array(colours, np.float32) * 255


def _turned(rng: Generator, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Coordinates in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x + s * y, c * y - s * x


def _edge(wave: NDArray[np.floating], sharpness: float) -> Plane:
    """A wave from -1 to 1 as a pattern from 0 to 1."""
    return (0.5 + 0.5 * np.tanh(sharpness * wave)).astype(np.float32)


def _stripes(rng: Generator, x: Plane, y: Plane) -> Plane:
    u, v = _turned(rng, x, y)
    frequency, bend = rng.uniform(6, 14), rng.uniform(0, 1.2)
    return _edge(np.sin(frequency * u + bend * np.sin(4 * v) + rng.uniform(0, 6)), 3)


def _checks(rng: Generator, x: Plane, y: Plane) -> Plane:
    u, v = _turned(rng, x, y)
    frequency = rng.uniform(6, 11)
    return _edge(np.sin(frequency * u + rng.uniform(0, 6)) * np.sin(frequency * v + rng.uniform(0, 6)), 6)


def _dots(rng: Generator, x: Plane, y: Plane) -> Plane:
    u, v = _turned(rng, x, y)
    frequency, fill = rng.uniform(8, 13), rng.uniform(-0.4, 0.5)
    return _edge(0.5 * (np.cos(frequency * u) + np.cos(frequency * v)) - fill, 5)


def _rings(rng: Generator, x: Plane, y: Plane) -> Plane:
    cx, cy = rng.uniform(-0.4, 0.4, 2).astype(np.float32)
    radius = np.sqrt((x - cx) ** 2 + (y - cy) ** 2)
    return _edge(np.sin(rng.uniform(9, 18) * radius + rng.uniform(0, 6)), 3)


def _bricks(rng: Generator, x: Plane, y: Plane) -> Plane:
    u, v = _turned(rng, x, y)
    rows = np.float32(rng.uniform(3, 6)) * v
    along = np.float32(rng.uniform(1.5, 3)) * u + np.float32(0.5) * (np.floor(rows) % 2)
    gap = np.minimum(np.abs(rows - np.round(rows)), np.float32(1.6) * np.abs(along - np.round(along)))
    return _edge(gap - 0.1, 20)


def _grain(rng: Generator, x: Plane, y: Plane) -> Plane:
    size_px = x.size
    coarse, fine = rng.integers(5, 9), rng.integers(12, 22)
    noise = 0.65 * value_noise(rng, int(coarse), size_px) + 0.35 * value_noise(rng, int(fine), size_px)
    return _edge(noise - 0.5, 5)


def _patches(rng: Generator, x: Plane, y: Plane) -> Plane:
    """Cells around random points, each in its own tone."""
    points = rng.uniform(-1.1, 1.1, (int(rng.integers(8, 20)), 2)).astype(np.float32)
    tones = rng.random(len(points), dtype=np.float32)
    distance = (x[..., None] - points[:, 0]) ** 2 + (y[..., None] - points[:, 1]) ** 2
    return tones[distance.argmin(-1)]


_FAMILIES: tuple[Callable[[Generator, Plane, Plane], Plane], ...] = (
    _stripes,
    _checks,
    _dots,
    _rings,
    _bricks,
    _grain,
    _patches,
)
