"""A Kalman filter on a bounding box that moves and grows at constant speed.

State (cx, cy, w, h and their speeds), 8 dimensions; centre and sides are measured. With noise that does not mix the
four coordinates the filter falls apart, exactly, into four of two dimensions (a value and its speed), written out here
in float64 on the host; tests/sam2/policies/test_kalman.py holds it to the matrix form.
Source of the model: SAMURAI (arXiv 2411.11922), section 4.1. The noise is ours: standard deviations in proportion to
the box, as is the custom in tracking by detection.
"""

from __future__ import annotations

from typing import NamedTuple

from sam2.policies.extents import EMPTY, Extent

POSITION_NOISE = 1 / 20  # standard deviation a frame, in sides of the box
SPEED_NOISE = 1 / 160


class Axis(NamedTuple):
    """One coordinate: value, speed, and the covariance of the two."""

    value: float
    speed: float
    value_var: float
    covar: float
    speed_var: float


class BoxFilter(NamedTuple):
    """What is believed of a box: centre x, centre y, width, height."""

    axes: tuple[Axis, Axis, Axis, Axis]

    @property
    def extent(self) -> Extent:
        """The box believed in."""
        x, y, width, height = (axis.value for axis in self.axes)
        if width < 1 or height < 1:
            return EMPTY
        left, top = x - (width - 1) / 2, y - (height - 1) / 2
        return Extent(left, top, left + width - 1, top + height - 1, width * height)


def begin(box: Extent) -> BoxFilter:
    """A box seen once, of unknown speed."""
    position, speed = _noise(box)
    return _filter([Axis(z, 0.0, 4 * position, 0.0, 100 * speed) for z in _measured(box)])


def predict(believed: BoxFilter) -> BoxFilter:
    """One frame later."""
    position, speed = _noise(believed.extent)
    return _filter(
        [
            Axis(
                a.value + a.speed,
                a.speed,
                a.value_var + 2 * a.covar + a.speed_var + position,
                a.covar + a.speed_var,
                a.speed_var + speed,
            )
            for a in believed.axes
        ]
    )


def update(predicted: BoxFilter, box: Extent) -> BoxFilter:
    """The prediction corrected by the box that is seen."""
    noise, _ = _noise(box)
    return _filter(
        [_corrected(axis, z, noise) for axis, z in zip(predicted.axes, _measured(box), strict=True)]
    )


def _corrected(axis: Axis, measured: float, noise: float) -> Axis:
    surprise, spread = measured - axis.value, axis.value_var + noise
    gain, speed_gain = axis.value_var / spread, axis.covar / spread
    return Axis(
        axis.value + gain * surprise,
        axis.speed + speed_gain * surprise,
        (1 - gain) * axis.value_var,
        (1 - gain) * axis.covar,
        axis.speed_var - speed_gain * axis.covar,
    )


def _measured(box: Extent) -> tuple[float, float, float, float]:
    width, height = box.right - box.left + 1, box.bottom - box.top + 1
    return (box.left + box.right) / 2, (box.top + box.bottom) / 2, width, height


def _noise(box: Extent) -> tuple[float, float]:
    """Variances of position and speed a frame."""
    side = max(box.box_area, 1.0) ** 0.5
    return (POSITION_NOISE * side) ** 2, (SPEED_NOISE * side) ** 2


def _filter(axes: list[Axis]) -> BoxFilter:
    x, y, width, height = axes
    return BoxFilter((x, y, width, height))
