"""Video files with folders of masks named by frame numbers."""

import logging
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from data.clip import DataError
from data.sources import load_source
from tests.data.sav_folder import number_in, numbered_frame, write_video
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.test_sav_frames import overlapping_masks, write_objects
from tests.data.sources.vos_files import walking_ids, write_masks, write_palette

FRAMES, HEIGHT, WIDTH = 12, 32, 48
IDS = walking_ids(6)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video of 12 frames that carry their number."""
    path = tmp_path_factory.mktemp("video") / "bear.mp4"
    write_video(path, [numbered_frame(n, HEIGHT, WIDTH) for n in range(FRAMES)])
    return path


def put(video, place):
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(video, place)


def assert_is(clip, numbers, ids=IDS):
    assert sorted(clip.masks) == [i for i in np.unique(ids) if i]
    assert all(np.array_equal(mask, ids == i) for i, mask in clip.masks.items())
    assert clip.meta["source_frames"] == list(numbers)
    assert [number_in(picture) for picture in clip.pictures] == list(numbers)


@pytest.mark.parametrize(
    ("place", "masks", "options"),
    [
        ("bear.mp4", "bear", {}),
        ("bear.mp4", "masks/bear", {}),
        ("videos/bear.mp4", "masks/bear", {}),
        ("raw/bear.mp4", "seg/bear/png", {"videos": "raw", "masks": "seg/VIDEO/png"}),
        ("bear.mp4", "seg/bear", {"masks": "seg"}),
    ],
)
def test_usual_layouts_are_found_and_others_are_given(video, tmp_path, place, masks, options):
    root = tmp_path / "in"
    put(video, root / place)
    write_masks(root / masks, range(0, 12, 2), IDS)
    clips = convert_from("video_masks", root, tmp_path / "out", "proxy", **options)
    assert list(clips) == ["bear"]
    assert_is(clips["bear"], range(0, 12, 2))
    assert clips["bear"].meta["fps"] == 12  # every second of 24


@pytest.mark.parametrize(
    ("first", "step", "numbers", "frames"),
    [(0, 1, [0, 1, 2, 3, 4, 11], [0, 1, 2, 3, 4, 11]), (1, 1, range(1, 12, 2), range(0, 11, 2))]
    + [(0, 2, range(6), range(0, 12, 2)), (1, 2, range(1, 7), range(0, 12, 2))],
)
def test_names_become_frame_numbers_by_first_and_step(tmp_path, first, step, numbers, frames):
    wide = walking_ids(6, HEIGHT, 64)  # videos 48 pixels wide cannot be kept as they are
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "bear.mp4", [numbered_frame(n, HEIGHT, 64) for n in range(FRAMES)])
    for number, ids in zip(numbers, wide, strict=True):
        write_palette(tmp_path / "in" / "bear" / f"2024_mask_{number}.png", ids)  # 10 comes before 2 as text
    for media in ("jpeg", "original"):
        clip = convert_from("video_masks", tmp_path / "in", tmp_path / media, media, first=first, step=step)[
            "bear"
        ]
        if media == "original":
            clip.pictures = [clip.pictures[k] for k in clip.meta["frame_index"]]
        assert_is(clip, frames, wide)


def test_objects_in_folders_of_their_own_may_overlap(video, tmp_path):
    put(video, tmp_path / "in" / "bear.mp4")
    write_objects(tmp_path / "in" / "bear", overlapping_masks(), range(0, 12, 2))
    clip = convert_from("video_masks", tmp_path / "in", tmp_path / "out")["bear"]
    assert all(np.array_equal(clip.masks[i], mask) for i, mask in overlapping_masks().items())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_mask_beyond_the_end_of_the_video_is_refused(video, tmp_path, suffix):
    import av

    place = tmp_path / "in" / f"bear{suffix}"
    place.parent.mkdir()
    with (
        av.open(str(video)) as source,
        av.open(str(place), "w") as copy,
    ):  # mkv does not say how many frames it has
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    write_masks(tmp_path / "in" / "bear", range(2, 14, 2), IDS)
    (message,) = skipped("video_masks", tmp_path / "in", tmp_path / "out")
    if suffix == ".mp4":
        assert (
            "bear/00012.png: belongs to frame 12 (first=0, step=1), but bear.mp4 has the frames 0 to 11"
            in message
        )
    else:
        assert "has 12 frames, the last annotated frame is number 12" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: write_palette(root / "bear/7.png", IDS[0]), "and 00007.png belong to one frame, 7"),
        (lambda root: write_palette(root / "bear/last.png", IDS[0]), "last.png: no frame number in its name"),
        (lambda root: write_palette(root / "bear/0.png", IDS[0][:8]), "is 32x48, 0.png is 8x48"),
        (
            lambda root: (root / "bear.mp4").rename(root / "bare.mp4"),
            "expected masks in masks/VIDEO or VIDEO, bare for",
        ),
        (
            lambda root: shutil.copy(root / "bear.mp4", root / "bear.mov"),
            "bear.mp4: bear.mov has the same masks",
        ),
        (lambda root: (root / "bear.mp4").write_bytes(b"no video"), "bear.mp4: .*not a video"),
        (
            lambda root: [write_palette(path, IDS[0][:18]) for path in (root / "bear").iterdir()],
            "frames are 32x48, masks",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(video, tmp_path, change, message):
    put(video, tmp_path / "in" / "bear.mp4")
    write_masks(tmp_path / "in" / "bear", range(6, 12), IDS)
    change(tmp_path / "in")
    (found,) = skipped("video_masks", tmp_path / "in", tmp_path / "out")
    assert re.search(message, found), found


def test_videos_without_masks_and_masks_without_video_are_named(video, tmp_path, caplog):
    put(video, tmp_path / "in" / "videos" / "bear.mp4")
    put(video, tmp_path / "in" / "videos" / "cow.mp4")
    for name in ("bear", "dog"):
        write_masks(tmp_path / "in" / "masks" / name, range(6), IDS)
    with caplog.at_level(logging.WARNING):
        (message,) = skipped("video_masks", tmp_path / "in", tmp_path / "out")
    assert "masks/dog: no video dog in" in message
    assert "without masks, left out: cow.mp4 (1 in all)" in caplog.text


def test_a_number_below_the_first_is_refused(video, tmp_path):
    put(video, tmp_path / "in" / "bear.mp4")
    write_masks(tmp_path / "in" / "bear", range(6), IDS)
    (message,) = skipped("video_masks", tmp_path / "in", tmp_path / "out", first=1)
    assert "bear/00000.png: is mask number 0, the first possible is 1; see first=" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 2}, "first must be 0 or 1, got 2"),
        ({"step": 0}, "step must be a whole number from 1"),
        ({"videos": "../x"}, "videos: '../x' is not a relative path inside"),
        ({"masks": "../VIDEO"}, "masks: '../VIDEO' is not a relative path inside"),
        ({"videos": "none"}, "none: expected video files .* found nothing"),
        ({}, r"expected video files .* found a\.png"),
    ],
)
def test_a_layout_or_an_option_that_is_wrong_is_refused(tmp_path, options, message):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=message):
        load_source("video_masks", tmp_path, **options).clips()
