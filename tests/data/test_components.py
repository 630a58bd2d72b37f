"""Connected parts of label maps, held to a flood fill."""

import numpy as np
import pytest

from data.formats.components import components


def flooded(labels):
    """Pixel by pixel: every unnumbered pixel floods its eight neighbours of the same label."""
    numbers = np.zeros(labels.shape, int)
    for y, x in np.argwhere(labels):
        if numbers[y, x]:
            continue
        number, waiting = numbers.max() + 1, [(y, x)]
        numbers[y, x] = number
        while waiting:
            v, u = waiting.pop()
            for b in range(max(0, v - 1), min(labels.shape[0], v + 2)):
                for a in range(max(0, u - 1), min(labels.shape[1], u + 2)):
                    if not numbers[b, a] and labels[b, a] == labels[y, x]:
                        numbers[b, a] = number
                        waiting.append((b, a))
    return numbers


@pytest.mark.parametrize("seed", range(40))
def test_random_maps_are_divided_as_a_flood_fill_divides_them(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2 + seed % 3, (rng.integers(1, 14), rng.integers(1, 14))) * rng.integers(0, 2)
    assert np.array_equal(components(labels), flooded(labels))


def test_a_spiral_and_a_comb_are_one_part_each():
    spiral = np.zeros((31, 31), np.uint8)
    y, x, dy, dx = 15, 15, 0, 1
    for length in range(2, 30, 2):
        for _ in range(2):
            for _ in range(length):
                if 0 <= y < 31 and 0 <= x < 31:
                    spiral[y, x] = 3
                y, x = y + dy, x + dx
            dy, dx = dx, -dy
    comb = np.zeros((9, 40), np.uint16)
    comb[:, ::2], comb[-1] = 700, 700
    for labels in (spiral, comb, comb[::-1]):
        assert np.array_equal(components(labels), (labels != 0).astype(int))
