"""Draw a synthetic scene: textured things that move, deform and hide each other before a moving background.

Lengths are in pixels, times in annotated frames. Everything is a function of seeds; nothing is kept between calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.scenes.textures import texture

Array = NDArray[np.float32]

REACH = 1.4  # no shape is farther than this many radii from its centre
_ANGLES = 256


@dataclass(frozen=True)
class Outline:
    """A closed curve, radius over angle: 1 plus some harmonics whose strengths swing with time."""

    amplitude: Array  # (harmonics,)
    phase: Array
    swing: Array  # change of amplitude
    rate: Array  # radians of swing per annotated frame

    def radius(self, time: float) -> Array:
        """Radius at 256 angles."""
        amplitude = self.amplitude + self.swing * np.sin(self.rate * time + self.phase)
        return (1 + amplitude @ np.cos(_HARMONICS * _TURN + self.phase[:, None])).astype(np.float32)

    def depth(self, u: Array, v: Array, time: float) -> Array:
        """How far inside the shape (u, v) is, in radii, positive inside."""
        place = ((np.arctan2(v, u) + np.pi) * (_ANGLES / (2 * np.pi))).astype(np.int32)
        return self.radius(time)[place % _ANGLES] - np.sqrt(u * u + v * v)


_HARMONICS = np.arange(2, 6, dtype=np.float32)[:, None]
_TURN = np.linspace(-np.pi, np.pi, _ANGLES, endpoint=False, dtype=np.float32)[None, :]


@dataclass(frozen=True)
class Figure:
    """A body with limbs that swing: a union of thick lines."""

    start: Array  # (parts, 2)
    length: Array  # (parts,)
    angle: Array
    thickness: Array
    swing: Array  # radians
    rate: Array

    def depth(self, u: Array, v: Array, time: float) -> Array:
        """How far inside the shape (u, v) is, in radii, positive inside."""
        angle = self.angle + self.swing * np.sin(self.rate * time + self.angle)
        best = np.full(np.broadcast_shapes(u.shape, v.shape), -np.inf, np.float32)
        for i in range(len(angle)):
            c, s = np.float32(np.cos(angle[i])), np.float32(np.sin(angle[i]))
            x, y = u - self.start[i, 0], v - self.start[i, 1]
            along = np.clip(c * x + s * y, 0, self.length[i])
            distance = np.sqrt((x - c * along) ** 2 + (y - s * along) ** 2)
            np.maximum(best, self.thickness[i] - distance, out=best)
        return best


Shape = Outline | Figure


def make_shape(seed: int, is_figure: bool, deformation: float) -> Shape:
    """A shape of about unit radius; `deformation` is how much it changes, as a part of its radius."""
    rng = np.random.default_rng(seed)
    if not is_figure:
        moving = min(deformation, 0.6 * (REACH - 1))
        still = (REACH - 1 - moving) * rng.uniform(0.4, 1)
        amplitude = rng.dirichlet(np.array([4, 3, 2, 1])) * rng.choice([-1, 1], 4) * still
        swing = rng.dirichlet(np.array([4, 3, 2, 1])) * moving
        return Outline(*_floats(amplitude, rng.uniform(0, 2 * np.pi, 4), swing, rng.uniform(0.2, 0.7, 4)))
    limbs = int(rng.integers(2, 5))
    spread = (
        np.linspace(0, 2 * np.pi, limbs, endpoint=False)
        + rng.uniform(0, 2 * np.pi)
        + rng.uniform(-0.3, 0.3, limbs)
    )
    start = np.stack([np.cos(spread), np.sin(spread)], 1) * 0.35
    return Figure(
        *_floats(
            np.concatenate([[[-0.25, 0.0]], start]),
            np.concatenate([[0.5], rng.uniform(0.4, 0.7, limbs)]),
            np.concatenate([[0.0], spread]),
            np.concatenate([[rng.uniform(0.4, 0.55)], rng.uniform(0.18, 0.3, limbs)]),
            np.concatenate([[0.0], rng.uniform(1, 4, limbs) * deformation]),
            np.concatenate([[0.0], rng.uniform(0.4, 0.9, limbs)]),
        )
    )


def _floats(*values: NDArray[np.floating]) -> list[Array]:
    return [np.asarray(value, np.float32) for value in values]


@dataclass(frozen=True)
class Thing:
    """One object or occluder: how it looks, and where it is at each of N moments.

    `x`, `y`, `radius` in pixels, `angle` in radians, all (N,).
    """

    shape: Shape
    skin: Array  # (K, K, 3)
    x: Array
    y: Array
    radius: Array
    angle: Array


@dataclass(frozen=True)
class Drawn:
    """`picture` (H, W, 3) from 0 to 255; `owner` (H, W) the number of the nearest thing, -1 for the background;
    `areas` pixels of each thing in the picture as if nothing were before it.
    """

    picture: Array
    owner: NDArray[np.int16]
    areas: NDArray[np.int64]


@dataclass(frozen=True)
class Scene:
    """Things from far to near before a background; moments are `times` (N,) in annotated frames.

    `view_x`, `view_y`, `zoom`, `gain` (N,): place of the picture's centre in the background, magnification, light.
    """

    height: int
    width: int
    things: tuple[Thing, ...]
    background: Array  # (K, K, 3)
    times: Array
    view_x: Array
    view_y: Array
    zoom: Array
    gain: Array

    def draw(self, moment: int) -> Drawn:
        """What the camera sees, without noise."""
        picture = self._backdrop(moment)
        owner = np.full((self.height, self.width), -1, np.int16)
        areas = [self._paint(picture, owner, number, moment) for number in range(len(self.things))]
        picture *= self.gain[moment]
        return Drawn(picture, owner, np.array(areas, np.int64))

    def _backdrop(self, moment: int) -> Array:
        rows = (
            self.view_y[moment]
            + (np.arange(self.height, dtype=np.float32) - self.height / 2) / self.zoom[moment]
        )
        columns = (
            self.view_x[moment]
            + (np.arange(self.width, dtype=np.float32) - self.width / 2) / self.zoom[moment]
        )
        y, fy = _split(rows, self.background.shape[0])
        x, fx = _split(columns, self.background.shape[1])
        seen = self.background[:, x[0] : x[-1] + 2]
        x -= x[0]
        above, below = seen.take(y, 0), seen.take(y + 1, 0)
        band = above + fy[:, None, None] * (below - above)
        left, right = band.take(x, 1), band.take(x + 1, 1)
        return left + fx[None, :, None] * (right - left)

    def _window(self, thing: Thing, moment: int) -> tuple[slice, slice] | None:
        """The part of the picture that the thing may touch."""
        x, y, reach = thing.x[moment], thing.y[moment], thing.radius[moment] * REACH + 1
        top, bottom = max(0, int(y - reach)), min(self.height, int(y + reach) + 2)
        left, right = max(0, int(x - reach)), min(self.width, int(x + reach) + 2)
        return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None

    def _depth(self, thing: Thing, moment: int, rows: slice, columns: slice) -> tuple[Array, Array, Array]:
        """Depth in pixels, and the thing's own coordinates in radii."""
        radius, angle = thing.radius[moment], thing.angle[moment]
        dy = ((np.arange(rows.start, rows.stop, dtype=np.float32) - thing.y[moment]) / radius)[:, None]
        dx = ((np.arange(columns.start, columns.stop, dtype=np.float32) - thing.x[moment]) / radius)[None, :]
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        u, v = c * dx + s * dy, c * dy - s * dx
        return thing.shape.depth(u, v, float(self.times[moment])) * radius, u, v

    def _paint(self, picture: Array, owner: NDArray[np.int16], number: int, moment: int) -> int:
        """Draw a thing over what is there; returns its area."""
        thing = self.things[number]
        cut = self._window(thing, moment)
        if cut is None:
            return 0
        depth, u, v = self._depth(thing, moment, *cut)
        touched = depth > -0.5
        skin = _sample(thing.skin, u[touched], v[touched])
        canvas = picture[cut]
        below = canvas[touched]
        alpha = np.minimum(depth[touched] + 0.5, 1)[:, None]
        canvas[touched] = below + alpha * (skin - below)
        inside = depth >= 0
        owner[cut][inside] = number
        return int(np.count_nonzero(inside))


def _split(place: NDArray[np.floating], size: int) -> tuple[NDArray[np.int32], Array]:
    """Whole and fractional part, kept inside `size` pixels."""
    place = np.clip(place, 0, size - 1.001)
    whole = place.astype(np.int32)
    return whole, (place - whole).astype(np.float32)


def _sample(skin: Array, u: Array, v: Array) -> Array:
    """Bilinear texture values (P, 3) at coordinates from -REACH to REACH."""
    size = skin.shape[0]
    x, fx = _split((u / (2 * REACH) + 0.5) * (size - 1), size)
    y, fy = _split((v / (2 * REACH) + 0.5) * (size - 1), size)
    flat, at = skin.reshape(-1, 3), y * size + x
    fx, fy = fx[:, None], fy[:, None]
    top, bottom = flat.take(at, 0), flat.take(at + size, 0)
    top += fx * (flat.take(at + 1, 0) - top)
    bottom += fx * (flat.take(at + size + 1, 0) - bottom)
    return top + fy * (bottom - top)


def make_skin(seed: int, radius_px: float) -> Array:
    """Texture of a thing, at about one texel a pixel."""
    return texture(seed, max(16, round(2 * REACH * radius_px)))
