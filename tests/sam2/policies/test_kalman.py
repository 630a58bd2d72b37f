"""The filter in closed form against the textbook's matrices."""

from __future__ import annotations

import numpy as np
import pytest

from sam2.policies import kalman
from sam2.policies.extents import Extent
from sam2.policies.kalman import POSITION_NOISE, SPEED_NOISE


def box(x: float, y: float, width: float, height: float) -> Extent:
    left, top = x - (width - 1) / 2, y - (height - 1) / 2
    return Extent(left, top, left + width - 1, top + height - 1, width * height)


class Textbook:
    """x' = Fx + noise Q, z = Hx + noise R, with 8 x 8 matrices."""

    def __init__(self, z: np.ndarray) -> None:
        self.transition = np.block([[np.eye(4), np.eye(4)], [np.zeros((4, 4)), np.eye(4)]])
        self.measure = np.eye(4, 8)
        self.state = np.concatenate([z, np.zeros(4)])
        position, speed = self.noise(z)
        self.cov = np.diag([4 * position] * 4 + [100 * speed] * 4)

    def noise(self, z: np.ndarray) -> tuple[float, float]:
        side = np.sqrt(z[2] * z[3])
        return (POSITION_NOISE * side) ** 2, (SPEED_NOISE * side) ** 2

    def predict(self) -> None:
        position, speed = self.noise(self.state)
        self.state = self.transition @ self.state
        self.cov = self.transition @ self.cov @ self.transition.T + np.diag([position] * 4 + [speed] * 4)

    def update(self, z: np.ndarray) -> None:
        spread = self.measure @ self.cov @ self.measure.T + self.noise(z)[0] * np.eye(4)
        gain = self.cov @ self.measure.T @ np.linalg.inv(spread)
        self.state = self.state + gain @ (z - self.measure @ self.state)
        self.cov = (np.eye(8) - gain @ self.measure) @ self.cov


def test_four_filters_of_two_dimensions_are_the_one_of_eight():
    generator = np.random.default_rng(0)
    seen = np.array([30.0, 40.0, 12.0, 20.0])
    book, ours = Textbook(seen), kalman.begin(box(*seen))
    for frame in range(30):
        seen = seen + [2.0, -1.0, 0.2, 0.1] + generator.normal(0, 0.5, 4)
        book.predict()
        ours = kalman.predict(ours)
        if frame % 7 != 3:  # some frames do not show the object
            book.update(seen)
            ours = kalman.update(ours, box(*seen))
        np.testing.assert_allclose([a.value for a in ours.axes], book.state[:4], rtol=1e-9)
        np.testing.assert_allclose([a.speed for a in ours.axes], book.state[4:], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose([a.value_var for a in ours.axes], np.diag(book.cov)[:4], rtol=1e-9)
        np.testing.assert_allclose([a.covar for a in ours.axes], np.diag(book.cov[:4, 4:]), rtol=1e-9)
        np.testing.assert_allclose([a.speed_var for a in ours.axes], np.diag(book.cov)[4:], rtol=1e-9)


def test_steady_motion_is_learned_and_continued_unseen():
    believed = kalman.begin(box(10, 10, 8, 8))
    for t in range(1, 40):
        believed = kalman.update(kalman.predict(believed), box(10 + 2 * t, 10, 8, 8))
    for _ in range(5):
        believed = kalman.predict(believed)
    assert believed.axes[0].value == pytest.approx(10 + 2 * 44, abs=0.2)
    assert believed.extent.iou(box(98, 10, 8, 8)) > 0.9


def test_a_box_that_shrinks_to_nothing_is_empty():
    believed = kalman.begin(box(10, 10, 3, 3))
    for t in range(1, 4):
        believed = kalman.update(kalman.predict(believed), box(10, 10, 3 - t * 0.9, 3))
    for _ in range(20):
        believed = kalman.predict(believed)
    assert believed.extent.is_empty and believed.extent.iou(box(10, 10, 3, 3)) == 0
