"""Areas, centres and overlaps told from run lengths are those of the masks themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.measure import area_of, centre_of, runs_by_frame, shared_pixels
from data.rle import encode_mask


@st.composite
def stacks(draw, most=4):
    """(O, H, W) masks, blobs and noise."""
    height, width, objects = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, most))
    seed, share = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return np.random.default_rng(seed).random((objects, height, width)) < share


def runs_of(masks):
    rows = [[encode_mask(mask)] for mask in masks]
    (frame,) = runs_by_frame(range(len(masks)), rows, *masks.shape[1:])
    return frame


@given(stacks())
def test_areas_and_centres_are_those_of_the_pixels(masks):
    for mask, runs in zip(masks, runs_of(masks), strict=True):
        assert area_of(runs) == mask.sum()
        if mask.any():
            y, x = np.nonzero(mask)
            assert centre_of(runs, len(mask)) == pytest.approx((x.mean(), y.mean()))


@given(stacks())
def test_shared_pixels_are_those_of_the_masks_and_the_pair_meets(masks):
    shared, (one, other) = shared_pixels(runs_of(masks))
    assert shared == masks.sum() - masks.any(0).sum()
    if shared:
        assert one < other and (masks[one] & masks[other]).any()
