"""Run lengths against pycocotools, and strings that pycocotools would accept by mistake."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from data.clip import DataError
from data.rle import area, box_of, decode_columns, encode_labels, encode_mask, run_lengths


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_runs_rebuild_the_mask_that_pycocotools_encoded(height, width, density, seed):
    mask = np.random.default_rng(seed).random((height, width)) < density
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = rle["counts"].decode()
    runs = run_lengths(counts, height, width, "here")
    rebuilt = np.repeat(np.arange(len(runs)) % 2, runs).reshape(width, height).T
    assert np.array_equal(rebuilt, mask)
    assert area(counts, height, width, "here") == mask.sum() == coco.area(rle)


def test_long_runs_are_exact():
    mask = np.zeros((3000, 4000), np.uint8, order="F")
    mask[2999, 3999] = 1
    counts = coco.encode(mask)["counts"].decode()
    assert run_lengths(counts, 3000, 4000, "here").tolist() == [11_999_999, 1]


@pytest.mark.parametrize(
    "counts", ["", "00000", "zzzz", "o", "PPPP1", "é", "\x00\x00", "O1", "PPPPPPPPPPPP0", "h" * 50]
)
def test_strings_that_are_no_mask_are_refused_by_name(counts):
    with pytest.raises(DataError, match=r"a\.json, frame 3: not a COCO RLE of a 4x4 mask"):
        run_lengths(counts, 4, 4, "a.json, frame 3")


def test_a_mask_of_another_size_is_refused():
    counts = coco.encode(np.ones((8, 8), np.uint8, order="F"))["counts"].decode()
    with pytest.raises(DataError, match="do not add up to 72 pixels"):
        run_lengths(counts, 8, 9, "here")
    assert area("", 8, 9, "here") == 0


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_part_of_a_mask_is_what_pycocotools_decodes(height, width, share, seed):
    mask = np.asfortranarray(np.random.default_rng(seed).random((height, width)) < share, np.uint8)
    assume(mask.any())
    runs = run_lengths(coco.encode(mask)["counts"].decode(), height, width, "")
    top, left, bottom, right = box_of(runs, height)
    outside = mask.copy()
    outside[top:bottom, left:right] = 0
    assert not outside.any() and mask[:, left].any() and mask[:, right - 1].any()
    assert np.array_equal(decode_columns(runs, height, left, right).T, mask[:, left:right])


def test_objects_of_a_map_of_ids():
    labels = np.array([[0, 7, 7], [300, 7, 255], [300, 0, 255]], np.uint16)
    found = encode_labels(labels, ignore=(255,))
    assert sorted(found) == [7, 300]
    for i, counts in found.items():
        assert np.array_equal(coco.decode({"size": [3, 3], "counts": counts.encode()}), labels == i)
    assert encode_labels(labels.astype(np.int32), ignore=(255,)) == found
    assert encode_mask(np.zeros((4, 4))) == ""
