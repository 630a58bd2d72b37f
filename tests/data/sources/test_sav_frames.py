"""SA-V val and test from their own layout."""

import numpy as np
import pytest
from PIL import Image

from data.clip import DataError
from data.sources import load_source
from tests.data.sav_folder import number_in
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.vos_files import write_frames

NUMBERS = range(0, 21, 4)


def overlapping_masks():
    """{object: (T, H, W)}: two squares that overlap and walk; the second leaves in the third annotated frame."""
    masks = {0: np.zeros((6, 32, 48), bool), 12: np.zeros((6, 32, 48), bool)}
    for k in range(6):
        masks[0][k, 8:20, 2 + k : 20 + k] = True
        if k < 3:
            masks[12][k, 12:28, 10:30] = True
    return masks


def write_objects(folder, masks, numbers, value=255, leave_out_empty=False):
    """One folder an object, one PNG of 0 and `value` a frame."""
    for i, frames in masks.items():
        place = folder / f"{i:03d}"
        place.mkdir(parents=True)
        for number, mask in zip(numbers, frames, strict=True):
            if mask.any() or not leave_out_empty:
                Image.fromarray(mask.astype(np.uint8) * value).save(place / f"{number:05d}.png")


@pytest.fixture
def sav_val(tmp_path):
    """A video of 21 frames, 6 of them annotated, and one that is in no list."""
    root = tmp_path / "sav_val"
    write_frames(root / "JPEGImages_24fps" / "sav_000262", range(21))
    write_objects(root / "Annotations_6fps" / "sav_000262", overlapping_masks(), NUMBERS)
    write_frames(root / "JPEGImages_24fps" / "sav_000999", range(21))
    write_objects(root / "Annotations_6fps" / "sav_000999", overlapping_masks(), NUMBERS, 1, True)
    (root / "sav_val.txt").write_text("sav_000262\n")
    return root


def assert_is_the_clip(clip):
    assert sorted(clip.masks) == [0, 12]
    assert all(np.array_equal(clip.masks[i], mask) for i, mask in overlapping_masks().items())
    assert [number_in(picture) for picture in clip.pictures] == list(NUMBERS)
    assert clip.meta["source_frames"] == list(NUMBERS) and clip.meta["fps"] == 6


def test_overlapping_masks_and_their_frames_are_those_of_the_files(sav_val, tmp_path):
    clips = convert_from("sav_frames", sav_val, tmp_path / "out")
    assert list(clips) == ["sav_000262"]
    assert_is_the_clip(clips["sav_000262"])
    meta = clips["sav_000262"].meta
    assert (meta["split"], meta["license"], meta["object_types"]) == ("val", "CC BY 4.0", ["manual"] * 2)


def test_without_a_list_all_videos_are_read_and_an_object_without_file_is_absent(sav_val, tmp_path):
    (sav_val / "sav_val.txt").unlink()
    clips = convert_from("sav_frames", sav_val, tmp_path / "out", media="proxy")
    assert list(clips) == ["sav_000262", "sav_000999"]
    assert_is_the_clip(clips["sav_000999"])
    assert clips["sav_000999"].meta["visible"] == ["111111", "111000"]


def test_a_list_can_be_chosen_among_several(sav_val, tmp_path):
    (sav_val / "rest.txt").write_text("sav_000999\n")
    with pytest.raises(DataError, match=r"several lists \(rest\.txt, sav_val\.txt\); give videos="):
        load_source("sav_frames", sav_val).clips()
    assert list(convert_from("sav_frames", sav_val, tmp_path / "out", videos="rest.txt")) == ["sav_000999"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("sav_000001", "sav_000001: missing, though the list"), ("../../x", "is not a relative path inside")],
)
def test_a_video_in_the_list_that_is_not_there_is_named(sav_val, tmp_path, name, message):
    (sav_val / "sav_val.txt").write_text(f"sav_000262\n{name}\n")
    (found,) = skipped("sav_frames", sav_val, tmp_path / "out")
    assert message in found


def test_a_mask_of_several_objects_is_no_mask_of_one(sav_val, tmp_path):
    path = sav_val / "Annotations_6fps" / "sav_000262" / "012" / "00008.png"
    Image.fromarray(np.arange(32 * 48, dtype=np.uint8).reshape(32, 48) % 3).save(path)
    (message,) = skipped("sav_frames", sav_val, tmp_path / "out")
    assert "012/00008.png: has the values 0, 1, 2, expected 0 and one other" in message


def test_another_layout_is_described(sav_val):
    with pytest.raises(DataError, match="expected JPEGImages_24fps/VIDEO.* found sav_000262/, sav_000999/"):
        load_source("sav_frames", sav_val / "JPEGImages_24fps").clips()
