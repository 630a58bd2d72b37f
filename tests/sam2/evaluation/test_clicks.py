"""Clicks in the middle of the largest error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sam2.evaluation.clicks import Click, next_click, squared_distance

MASKS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.booleans())


def by_hand(mask: np.ndarray) -> np.ndarray:
    """Every pixel against every pixel outside, a frame of them around the picture included."""
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded)
    found = np.zeros(mask.shape, np.int64)
    for y, x in np.argwhere(mask):
        found[y, x] = ((outside - (y + 1, x + 1)) ** 2).sum(1).min()
    return found


@settings(deadline=None)
@given(MASKS)
def test_distances_equal_those_to_every_pixel_outside(mask):
    np.testing.assert_array_equal(squared_distance(mask), by_hand(mask))


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (33, 57)])
def test_distances_of_full_and_holed_pictures(shape):
    mask = np.ones(shape, bool)
    np.testing.assert_array_equal(squared_distance(mask), by_hand(mask))
    mask[shape[0] // 3, shape[1] // 3] = False
    np.testing.assert_array_equal(squared_distance(mask), by_hand(mask))


def test_the_first_click_is_in_the_middle_of_the_object():
    truth = np.zeros((30, 40), bool)
    truth[5:16, 8:29] = True
    # of the pixels that are 6 rows away from the edge the first in reading order
    assert next_click(truth, np.zeros_like(truth)) == Click(13, 10, True)


def test_what_is_too_much_is_clicked_away_when_it_reaches_as_deep():
    truth, answer = np.zeros((20, 40), bool), np.zeros((20, 40), bool)
    truth[2:9, 2:9] = True
    answer[2:9, 22:29] = True
    assert next_click(truth, answer) == Click(25, 5, False)  # a tie
    answer[8, 22:29] = False
    answer[2:8, 28] = False
    assert next_click(truth, answer) == Click(5, 5, True)


def test_an_error_is_deeper_when_it_is_wider_and_not_when_it_is_larger():
    truth, answer = np.zeros((30, 60), bool), np.zeros((30, 60), bool)
    truth[0:2, :] = True  # 120 pixels, two rows
    truth[10:19, 10:19] = True  # 81 pixels, nine rows
    assert next_click(truth, answer) == Click(14, 14, True)


def test_no_click_where_nothing_is_wrong():
    truth = np.zeros((9, 9), bool)
    truth[3:6, 3:6] = True
    assert next_click(truth, truth) is None
    assert next_click(np.zeros_like(truth), np.zeros_like(truth)) is None


@settings(deadline=None)
@given(st.data())
def test_a_click_lies_on_an_error_of_its_kind(data):
    truth = data.draw(MASKS)
    answer = data.draw(arrays(bool, truth.shape, elements=st.booleans()))
    click = next_click(truth, answer)
    if click is None:
        assert (truth == answer).all()
    else:
        assert truth[click.y, click.x] == click.is_positive != answer[click.y, click.x]
