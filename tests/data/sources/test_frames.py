"""Folders of frames and masks as people lay them out."""

import logging
import re

import numpy as np
import pytest
from PIL import Image

from data.clip import DataError
from data.sources import load_source
from tests.data.sav_folder import number_in, numbered_frame
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.test_sav_frames import overlapping_masks, write_objects
from tests.data.sources.vos_files import walking_ids, write_frames, write_masks, write_palette

IDS = walking_ids(4)
LAYOUTS = [
    ("{video}/frames", "{video}/masks", {}),
    ("frames/{video}", "masks/{video}", {}),
    ("{video}/Images", "{video}/Labels", {}),
    ("JPEGImages/{video}", "Annotations/{video}", {}),
    (
        "JPEGImages/480p/{video}",
        "Annotations/480p/{video}",
        {"frames": "JPEGImages/480p", "masks": "Annotations/480p"},
    ),
    ("{video}/cam 0/rgb", "{video}/cam 0/seg", {"frames": "VIDEO/cam 0/rgb", "masks": "VIDEO/cam 0/seg"}),
    ("{video}/a", "{video}/b", {"frames": "a", "masks": "b"}),
]


def write_video(root, video="bear", frames="frames/{video}", masks="masks/{video}", ids=IDS):
    write_frames(root / frames.format(video=video), range(len(ids)))
    write_masks(root / masks.format(video=video), range(len(ids)), ids)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def assert_are(masks, ids):
    assert sorted(masks) == [i for i in np.unique(ids) if i]
    assert all(np.array_equal(mask, ids == i) for i, mask in masks.items())


@pytest.mark.parametrize(("frames", "masks", "options"), LAYOUTS)
def test_usual_layouts_are_found_and_others_are_given(tmp_path, frames, masks, options):
    for video in ("bear", "cow"):
        write_video(tmp_path / "in", video, frames, masks)
    clips = convert_from("frames", tmp_path / "in", tmp_path / "out", **options)
    assert list(clips) == ["bear", "cow"]
    for clip in clips.values():
        assert_are(clip.masks, IDS)
        assert [number_in(picture) for picture in clip.pictures] == list(range(4))


def test_a_single_video_needs_no_folder_of_its_own(tmp_path):
    write_video(tmp_path / "bear", frames="frames", masks="masks")
    clips = convert_from("frames", tmp_path / "bear", tmp_path / "out", fps=12)
    assert list(clips) == ["bear"] and clips["bear"].meta["fps"] == 12
    assert_are(clips["bear"].masks, IDS)


def test_names_that_sort_wrongly_as_text_keep_their_order_and_may_have_gaps(tmp_path):
    root = tmp_path / "in"
    numbers = [2, 10, 9, 100]
    for number in [*numbers, 3, 50]:
        save(root / "frames" / "vidéo 1" / f"frame_{number}.jpg", numbered_frame(number, 32, 48))
    for k, number in enumerate(sorted(numbers)):
        write_palette(root / "masks" / "vidéo 1" / f"frame_{number}.png", IDS[k])
    (clip,) = convert_from("frames", root, tmp_path / "out").values()
    assert [number_in(picture) for picture in clip.pictures] == [2, 9, 10, 100]
    assert_are(clip.masks, IDS)
    assert clip.meta["source_frames"] == [0, 2, 3, 5]  # places among all frames: names are not plain numbers


def test_ids_above_255_come_through_16_bit_masks(tmp_path):
    write_frames(tmp_path / "in" / "a" / "frames", range(2))
    ids = np.zeros((2, 32, 48), np.uint16)
    ids[:, 4:9, 4:9], ids[:, 10:20, 10:20], ids[1, 22:30, 4:9] = 255, 256, 40000
    for k in range(2):
        save(tmp_path / "in" / "a" / "masks" / f"{k:05d}.png", ids[k])
    assert_are(convert_from("frames", tmp_path / "in", tmp_path / "out")["a"].masks, ids)


@pytest.mark.parametrize(
    "write",
    [
        lambda mask: mask.astype(np.uint8) * 255,
        lambda mask: mask,  # one bit a pixel
        lambda mask: np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255,
        lambda mask: mask.astype(np.uint8),
    ],
    ids=["grey", "bit", "rgb", "one"],
)
def test_one_binary_mask_a_frame_is_one_object(tmp_path, write):
    write_frames(tmp_path / "in" / "a" / "frames", range(4))
    for k in range(4):
        save(tmp_path / "in" / "a" / "masks" / f"{k:05d}.png", write(IDS[k] == 1))
    for kind in ("auto", "binary"):
        clip = convert_from("frames", tmp_path / "in", tmp_path / kind, kind=kind)["a"]
        assert list(clip.masks) == [1] and np.array_equal(clip.masks[1], IDS == 1)


def test_a_folder_for_each_object_keeps_overlaps_and_names(tmp_path):
    write_frames(tmp_path / "in" / "a" / "frames", range(6))
    write_objects(tmp_path / "in" / "a" / "masks", overlapping_masks(), range(6), leave_out_empty=True)
    clip = convert_from("frames", tmp_path / "in", tmp_path / "numbers")["a"]
    assert sorted(clip.masks) == [0, 12] and clip.meta["extra"] == {}
    (tmp_path / "in" / "a" / "masks" / "012").rename(tmp_path / "in" / "a" / "masks" / "left hand")
    clip = convert_from("frames", tmp_path / "in", tmp_path / "names")["a"]
    assert clip.meta["extra"]["object_names"] == ["000", "left hand"]
    for i, mask in zip((1, 2), overlapping_masks().values(), strict=True):
        assert np.array_equal(clip.masks[i], mask)


def test_whether_255_is_void_must_be_said(tmp_path):
    ids = IDS.copy()
    ids[:, :3] = 255
    write_video(tmp_path / "in", ids=ids)
    (message,) = skipped("frames", tmp_path / "in", tmp_path / "out")
    assert message.endswith(
        "id 255 beside 1, 3, which is void in some data sets; say ignore=[255] if it is here, or "
        "ignore=[] if it is an object"
    )
    for ignore, expected in (([255], IDS), ([], ids)):
        clip = convert_from("frames", tmp_path / "in", tmp_path / f"{ignore}", ignore=ignore)["bear"]
        assert_are(clip.masks, expected)


def test_blurred_masks_are_not_taken_for_many_objects(tmp_path):
    write_frames(tmp_path / "in" / "a" / "frames", range(4))
    edge = np.linspace(0, 255, 60).astype(np.uint8)
    values = np.zeros((32, 48), np.uint8)
    values[4:14, 4:10], values[14:24, 4:10] = edge.reshape(10, 6), 255
    for k in range(4):
        save(tmp_path / "in" / "a" / "masks" / f"{k:05d}.png", values)
    (message,) = skipped("frames", tmp_path / "in", tmp_path / "out")
    assert "masks: has 59 ids up to 255, as masks with blurred edges have" in message
    (message,) = skipped("frames", tmp_path / "in", tmp_path / "out", kind="binary")
    assert "it is blurred" in message


def test_a_stray_picture_does_not_make_many_videos_one(tmp_path):
    write_video(tmp_path / "in")
    save(tmp_path / "in" / "frames" / "thumbnail.jpg", IDS[0])
    assert list(convert_from("frames", tmp_path / "in", tmp_path / "out")) == ["bear"]


def test_colours_instead_of_ids_and_blurred_masks_are_refused(tmp_path):
    write_video(tmp_path / "in")
    path = tmp_path / "in" / "masks" / "bear" / "00000.png"
    save(path, np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8))
    (message,) = skipped("frames", tmp_path / "in", tmp_path / "a")
    assert "00000.png: has the values" in message and "holds several objects" in message
    (message,) = skipped("frames", tmp_path / "in", tmp_path / "b", kind="labels")
    assert "00000.png: is a RGB image, expected object ids" in message
    path.unlink()
    for path in (tmp_path / "in" / "masks" / "bear").iterdir():
        Image.open(path).convert("L").save(path.with_suffix(".jpg"))
        path.unlink()
    (message,) = skipped("frames", tmp_path / "in", tmp_path / "c")
    assert "masks/bear: holds 00001.jpg, whose format changes values; save masks as .png" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "frames/bear/00001.jpg").unlink(), "00001.png: no frame 00001 in"),
        (lambda root: save(root / "frames/bear/00001.bmp", IDS[1]), "and 00001.* are one frame twice"),
        (lambda root: save(root / "masks/bear/00001.tif", IDS[1]), "and 00001.* are one frame twice"),
        (
            lambda root: save(root / "masks/bear/00001.png", IDS[1][:9]),
            "00001.png: is 9x48, 00000.png is 32x48",
        ),
        (lambda root: save(root / "masks/bear/1/00001.png", IDS[1]), "holds masks and also folders"),
        (lambda root: (root / "masks/bear/00001.png").write_bytes(b"PNG"), "00001.png: not a readable image"),
        (lambda root: (root / "frames/bear").rename(root / "frames/bare"), 'no frames of video "bear"'),
        (
            lambda root: save(root / "frames/bear/00001.jpg", IDS[1][:9]),
            "00001.jpg.* frames are 9x48, masks are 32x48",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(tmp_path, change, message):
    write_video(tmp_path / "in")
    change(tmp_path / "in")
    (found,) = skipped("frames", tmp_path / "in", tmp_path / "out")
    assert re.search(message, found), found


def test_videos_without_masks_are_left_out_and_said(tmp_path, caplog):
    write_video(tmp_path / "in", "bear", "{video}/frames", "{video}/masks")
    write_frames(tmp_path / "in" / "cow" / "frames", range(2))
    (tmp_path / "in" / "notes").mkdir()
    with caplog.at_level(logging.WARNING):
        assert list(convert_from("frames", tmp_path / "in", tmp_path / "out")) == ["bear"]
    assert "without masks, left out: cow, notes (2 in all)" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            "expected folders VIDEO/frames and VIDEO/masks, or frames/VIDEO and masks/VIDEO, found a/; say where",
        ),
        ({"frames": "x"}, "give both frames= and masks="),
        ({"frames": "x/VIDEO", "masks": "y/VIDEO"}, "expected folders x/VIDEO and y/VIDEO, found a/"),
        ({"frames": "x", "masks": "x"}, "are both VIDEO/x; they must be different"),
        ({"frames": "../x", "masks": "y"}, "frames: '../x' is not a relative path inside"),
        ({"frames": "VIDEO/VIDEO", "masks": "y"}, "VIDEO stands for one whole folder name"),
        ({"frames": "VIDEO_rgb", "masks": "y"}, "VIDEO stands for one whole folder name"),
        ({"kind": "palette"}, "kind must be one of auto, labels, binary, objects, got 'palette'"),
        ({"ignore": 255}, r"ignore must be a list of ids such as \[255\], got 255"),
        ({"fps": 0}, "fps must be a number above 0"),
    ],
)
def test_a_layout_or_an_option_that_is_wrong_is_refused(tmp_path, options, message):
    (tmp_path / "a" / "pictures").mkdir(parents=True)
    with pytest.raises(DataError, match=message):
        load_source("frames", tmp_path, **options).clips()


def test_two_folders_that_could_hold_the_frames_are_named(tmp_path):
    write_video(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="has the folders frames, images, masks; say which to read"):
        load_source("frames", tmp_path).clips()
