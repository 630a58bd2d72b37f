"""YouTube-VOS from its own layout."""

import json
import shutil

import numpy as np
import pytest

from data.clip import DataError
from data.sources import load_source
from tests.data.sav_folder import number_in
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.vos_files import walking_ids, write_frames, write_masks

NUMBERS = range(5, 35, 5)  # videos need not begin at frame 0


def write_meta(folder, videos):
    (folder / "meta.json").write_text(json.dumps({"videos": videos}))


@pytest.fixture
def ytvos(tmp_path):
    """A video whose object 3 appears in the third annotated frame, and one with frames in train_all_frames only."""
    root = tmp_path / "ytvos"
    train = root / "train"
    frames = [f"{number:05d}" for number in NUMBERS]
    objects = {
        "1": {"category": "ape", "frames": frames},
        "3": {"category": "giant_panda", "frames": frames[2:]},
    }
    for name in ("003234408d", "ffe7b5b7c1"):
        write_masks(train / "Annotations" / name, NUMBERS, walking_ids(6, late=2))
    write_frames(train / "JPEGImages" / "003234408d", NUMBERS)
    write_frames(root / "train_all_frames" / "JPEGImages" / "ffe7b5b7c1", range(40))
    write_meta(train, {"ffe7b5b7c1": {"objects": objects}, "003234408d": {"objects": objects}})
    return root


@pytest.mark.parametrize("media", ["proxy", "jpeg"])
def test_masks_and_frames_are_those_of_every_fifth_frame(ytvos, tmp_path, media):
    clips = convert_from("ytvos", ytvos, tmp_path / "out", media)
    assert list(clips) == ["003234408d", "ffe7b5b7c1"]
    ids = walking_ids(6, late=2)
    for clip in clips.values():
        assert sorted(clip.masks) == [1, 3]
        assert all(np.array_equal(mask, ids == i) for i, mask in clip.masks.items())
        assert [number_in(picture) for picture in clip.pictures] == list(NUMBERS)
        assert clip.meta["source_frames"] == list(NUMBERS) and clip.meta["ann_stride"] == 5
        assert clip.meta["visible"] == ["111111", "001111"]
        assert clip.meta["extra"]["categories"] == ["ape", "giant_panda"]
    assert clips["003234408d"].meta["fps"] == 6


def test_a_video_that_was_not_downloaded_is_named_and_the_rest_is_converted(ytvos, tmp_path):
    shutil.rmtree(ytvos / "train" / "Annotations" / "003234408d")
    (message,) = skipped("ytvos", ytvos, tmp_path / "out")
    assert "train/Annotations/003234408d: missing, though the list of videos names it" in message


def test_a_name_in_the_json_does_not_leave_the_folder(ytvos, tmp_path):
    write_meta(ytvos / "train", {"../../secret": {"objects": {"1": {}}}})
    (message,) = skipped("ytvos", ytvos, tmp_path / "out")
    assert "'../../secret' is not a relative path inside" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "meta.json: not JSON"),
        ("{}", 'meta.json: expected {"videos"'),
        ('{"videos": {"a": 3}}', 'meta.json, video a: expected {"objects": .* got 3'),
        ('{"videos": {"a": {"objects": {"x": {}}}}}', "meta.json, video a: expected"),
    ],
)
def test_a_damaged_json_is_named(ytvos, text, message):
    (ytvos / "train" / "meta.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_source("ytvos", ytvos).clips()


def test_folders_with_masks_of_first_frames_only_are_refused(ytvos):
    (ytvos / "train").rename(ytvos / "valid")
    with pytest.raises(DataError, match=r"valid: has masks of first frames only; .*eval_ytvos\.yaml"):
        load_source("ytvos", ytvos / "valid").clips()
    with pytest.raises(DataError, match=r"ytvos/train: expected JPEGImages/VIDEO"):
        load_source("ytvos", ytvos).clips()
