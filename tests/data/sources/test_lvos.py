"""LVOS from its own layout."""

import json

import numpy as np
import pytest

from tests.data.sav_folder import number_in
from tests.data.sources.converted import convert_from
from tests.data.sources.vos_files import walking_ids, write_frames, write_masks

NUMBERS = range(1, 41, 5)


@pytest.fixture
def lvos(tmp_path):
    """One video with 8-digit names and the ids 1 and 3; id 3 comes in the fifth annotated frame."""
    root = tmp_path / "LVOS"
    write_frames(root / "train" / "JPEGImages" / "0tCWPOrc", NUMBERS, digits=8)
    write_masks(root / "train" / "Annotations" / "0tCWPOrc", NUMBERS, walking_ids(8, late=4), digits=8)
    return root


def test_masks_and_frames_are_those_of_the_files(lvos, tmp_path):
    clip = convert_from("lvos", lvos, tmp_path / "out")["0tcwporc"]
    ids = walking_ids(8, late=4)
    assert sorted(clip.masks) == [1, 3]
    assert all(np.array_equal(mask, ids == i) for i, mask in clip.masks.items())
    assert [number_in(picture) for picture in clip.pictures] == list(NUMBERS)
    assert clip.meta["source_frames"] == list(NUMBERS) and clip.meta["ann_stride"] == 5
    assert (clip.meta["source"], clip.meta["split"], clip.meta["fps"]) == ("lvos", "train", 6)
    assert clip.meta["extra"] == {}


def test_the_split_is_that_of_the_folder_that_was_given(lvos, tmp_path):
    (lvos / "train").rename(lvos / "valid")
    objects = {"1": {"category": "dog"}}
    (lvos / "val_meta.json").write_text(json.dumps({"videos": {"0tCWPOrc": {"objects": objects}}}))
    for root, options in ((lvos / "valid", {}), (lvos, {"subset": "valid"})):
        clip = convert_from("lvos", root, tmp_path / f"out {root.name}", **options)["0tcwporc"]
        assert clip.meta["split"] == "valid"
        assert clip.meta["extra"]["categories"] == ["dog", ""]


@pytest.mark.parametrize("place", ["train_meta.json", "train/train_meta.json", "train/meta.json"])
def test_categories_are_read_where_the_json_has_them(lvos, tmp_path, place):
    objects = {"1": {"frame_range": {"start": "00000001", "end": "00000036"}}, "3": {"category": "cat"}}
    (lvos / place).write_text(json.dumps({"videos": {"0tCWPOrc": {"objects": objects}}}))
    clip = convert_from("lvos", lvos, tmp_path / "out")["0tcwporc"]
    assert clip.meta["extra"]["categories"] == ["", "cat"]
