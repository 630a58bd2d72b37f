"""MOSE from its own layout."""

import numpy as np
import pytest

from data.clip import DataError
from data.sources import load_source
from tests.data.sav_folder import number_in
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.vos_files import walking_ids, write_frames, write_masks


@pytest.fixture
def mose(tmp_path):
    """Two videos with hexadecimal names; the second object of "0a1b" comes in frame 2, its ids are 1 and 3."""
    root = tmp_path / "MOSE"
    for name, late in (("0a1b", 2), ("f00d", 0)):
        write_frames(root / "train" / "JPEGImages" / name, range(5))
        write_masks(root / "train" / "Annotations" / name, range(5), walking_ids(5, late=late))
    return root


def test_masks_and_frames_are_those_of_the_files(mose, tmp_path):
    clips = convert_from("mose", mose, tmp_path / "out")
    assert list(clips) == ["0a1b", "f00d"]
    for name, late in (("0a1b", 2), ("f00d", 0)):
        ids = walking_ids(5, late=late)
        assert sorted(clips[name].masks) == [1, 3]
        assert all(np.array_equal(mask, ids == i) for i, mask in clips[name].masks.items())
        assert [number_in(picture) for picture in clips[name].pictures] == list(range(5))
    meta = clips["0a1b"].meta
    assert meta["visible"] == ["11111", "00111"]
    assert (meta["source"], meta["split"], meta["license"]) == ("mose", "train", "CC BY-NC-SA 4.0")


def test_the_folder_train_itself_can_be_given(mose, tmp_path):
    assert list(convert_from("mose", mose / "train", tmp_path / "out")) == ["0a1b", "f00d"]


def test_videos_of_which_one_frame_has_a_mask_are_for_evaluation(mose, tmp_path):
    for k in range(1, 5):
        (mose / "train" / "Annotations" / "f00d" / f"{k:05d}.png").unlink()
    (message,) = skipped("mose", mose, tmp_path / "out")
    assert "f00d: one of 5 frames has a mask, as in sets that are for evaluation only" in message


def test_frames_or_masks_that_are_missing_are_named_and_the_rest_is_converted(mose, tmp_path):
    (mose / "train" / "JPEGImages" / "0a1b" / "00003.jpg").unlink()
    (message,) = skipped("mose", mose, tmp_path / "out")
    assert "0a1b/00003.png: no frame 00003 in" in message
    with pytest.raises(DataError, match="MOSE/valid: expected JPEGImages/VIDEO/00000.jpg .* found nothing"):
        load_source("mose", mose, subset="valid").clips()
