"""Smooth random paths: wandering that turns back at borders, leaving the picture and coming back, slow drifts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]

_STEP = 0.125  # annotated frames; the grid on which paths are integrated


def drift(rng: Generator, times: Array, period: float = 12) -> Array:
    """A slow random wave from -1 to 1 at `times` (N,)."""
    rate = 2 * np.pi / (period * rng.uniform(0.7, 1.5, 2))
    phase = rng.uniform(0, 2 * np.pi, 2)
    return 0.6 * np.sin(rate[0] * times + phase[0]) + 0.4 * np.sin(1.7 * rate[1] * times + phase[1])


def wander(rng: Generator, times: Array, speed: tuple[float, float]) -> Array:
    """A path (N, 2) from the origin with a slowly turning direction.

    Args:
        rng: where the randomness comes from.
        times: (N,) in annotated frames.
        speed: least and greatest length per annotated frame; one speed is drawn and kept.
    """
    grid = np.arange(min(0, np.floor(times.min() / _STEP)), np.ceil(times.max() / _STEP) + 2) * _STEP
    heading = rng.uniform(0, 2 * np.pi) + 1.5 * drift(rng, grid, 20)
    velocity = rng.uniform(*speed) * np.stack([np.cos(heading), np.sin(heading)], 1)
    path = np.cumsum(velocity * _STEP, 0)
    path -= path[np.searchsorted(grid, 0)]
    return np.stack([np.interp(times, grid, path[:, axis]) for axis in (0, 1)], 1)


def fold(place: Array, low: float, high: float) -> Array:
    """Reflect a coordinate into [low, high], as a ball that bounces between two walls."""
    span = max(high - low, 1e-6)
    phase = np.mod(place - low, 2 * span)
    return low + np.where(phase < span, phase, 2 * span - phase)


@dataclass(frozen=True)
class Absence:
    """When a thing is out of the picture, in annotated frames: on its way out from `out`, fully back at `back`."""

    out: float
    gone: float
    returns: float
    back: float

    def share(self, times: Array) -> Array:
        """0 where it is at its place, 1 where it is gone, smooth between."""
        leaving = _smooth((times - self.out) / max(self.gone - self.out, 1e-6))
        coming = _smooth((times - self.returns) / max(self.back - self.returns, 1e-6))
        return leaving - coming


def _smooth(share: Array) -> Array:
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


def arrive_late(rng: Generator, length: float) -> Absence:
    """Gone from before the start until between 15 and 50 % of the clip."""
    returns = length * rng.uniform(0.15, 0.5)
    return Absence(out=-3, gone=-2, returns=returns, back=returns + length * rng.uniform(0.12, 0.25))


def leave_and_return(rng: Generator, length: float) -> Absence:
    """Gone for 10 to 30 % of the clip, somewhere in its middle."""
    out, ramp = length * rng.uniform(0.1, 0.3), length * rng.uniform(0.1, 0.2)
    returns = out + ramp + length * rng.uniform(0.1, 0.3)
    return Absence(out=out, gone=out + ramp, returns=returns, back=returns + ramp)


def push_out(path: Array, absence: Absence, times: Array, limits: tuple[float, float], reach: float) -> Array:
    """Move a path (N, 2) beyond the nearest side of a picture while the thing is absent.

    Args:
        path: x and y in pixels.
        absence: when.
        times: (N,) of the path.
        limits: width and height of the picture.
        reach: how far beyond the side it must go, in pixels.
    """
    at = path[np.abs(times - max(absence.out, 0)).argmin()]
    gaps = np.array([at[0], limits[0] - at[0], at[1], limits[1] - at[1]])
    side = int(gaps.argmin())
    target = -reach if side % 2 == 0 else limits[side // 2] + reach
    moved = path.copy()
    share = absence.share(times)
    moved[:, side // 2] = (1 - share) * path[:, side // 2] + share * target
    return moved


def spread_out(rng: Generator, count: int, low: Array, high: Array) -> Array:
    """Places (count, 2) in a box that are far from each other: each the best of 24 draws."""
    places: list[Array] = []
    for _ in range(count):
        tries = rng.uniform(low, high, (24, 2))
        gaps = [np.linalg.norm(tries - place, axis=1) for place in places]
        places.append(tries[np.min(gaps, 0).argmax()] if gaps else tries[0])
    return np.array(places).reshape(count, 2)
