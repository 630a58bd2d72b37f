"""DAVIS 2017 from its own layout."""

import numpy as np
import pytest

from data.clip import DataError
from data.sources import load_source
from tests.data.sav_folder import number_in
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.vos_files import walking_ids, write_frames, write_masks, write_palette


@pytest.fixture
def davis(tmp_path):
    """Two videos, "bear" in the list train and "cow" in val; bear's frame 4 has void at its edge."""
    root = tmp_path / "DAVIS"
    for name, listed in (("bear", "train"), ("cow", "val")):
        write_frames(root / "JPEGImages" / "480p" / name, range(6))
        write_masks(root / "Annotations" / "480p" / name, range(6), walking_ids(6, late=2))
        lists = root / "ImageSets" / "2017"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{listed}.txt").write_text(f"{name}\n")
    ids = walking_ids(6, late=2)[4]
    ids[:, -2:] = 255
    write_palette(root / "Annotations" / "480p" / "bear" / "00004.png", ids)
    return root


@pytest.mark.parametrize("media", ["proxy", "jpeg", "original"])
def test_masks_and_frames_are_those_of_the_files(davis, tmp_path, media):
    clips = convert_from("davis", davis, tmp_path / "out", media)
    assert list(clips) == ["bear"]
    bear, ids = clips["bear"], walking_ids(6, late=2)
    assert sorted(bear.masks) == [1, 3]
    for i, mask in bear.masks.items():
        assert np.array_equal(mask, ids == i)
    assert [number_in(picture) for picture in bear.pictures] == list(range(6))
    assert bear.meta["source_frames"] == list(range(6)) and bear.meta["fps"] == 24
    assert (bear.meta["source"], bear.meta["split"]) == ("davis2017", "train")


def test_the_subset_chooses_the_videos(davis, tmp_path):
    assert list(convert_from("davis", davis, tmp_path / "val", subset="val")) == ["cow"]
    assert list(convert_from("davis", davis, tmp_path / "all", subset="")) == ["bear", "cow"]
    with pytest.raises(DataError, match=r"test-dev\.txt: missing; give subset="):
        load_source("davis", davis, subset="test-dev").clips()
    elsewhere = r"expected ImageSets/2017/train\.txt, found 480p/; without lists, set subset"
    with pytest.raises(DataError, match=elsewhere):
        load_source("davis", davis / "JPEGImages").clips()


def test_what_does_not_fit_together_is_named(davis, tmp_path):
    folder = davis / "Annotations" / "480p" / "bear"
    (davis / "JPEGImages" / "480p" / "bear" / "00002.jpg").unlink()
    (message,) = skipped("davis", davis, tmp_path / "a")
    assert "00002.png: no frame 00002 in" in message
    write_frames(davis / "JPEGImages" / "480p" / "extra", [2])
    (davis / "JPEGImages" / "480p" / "extra" / "00002.jpg").rename(
        davis / "JPEGImages" / "480p" / "bear" / "00002.jpg"
    )
    write_palette(folder / "00003.png", np.ones((16, 24)))
    (message,) = skipped("davis", davis, tmp_path / "b")
    assert "00003.png: is 16x24, 00000.png is 32x48" in message
    from PIL import Image

    Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(folder / "00003.png")
    (message,) = skipped("davis", davis, tmp_path / "c")
    assert "00003.png: is a RGB image, expected object ids" in message


def test_another_layout_is_described(tmp_path):
    (tmp_path / "JPEGImages" / "bear").mkdir(parents=True)
    (tmp_path / "Annotations" / "bear").mkdir(parents=True)
    with pytest.raises(DataError, match="expected JPEGImages/480p/VIDEO/00000.jpg .* found JPEGImages/ and"):
        load_source("davis", tmp_path, subset="").clips()
