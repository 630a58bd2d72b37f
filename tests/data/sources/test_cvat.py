"""CVAT's XML: for images as datumaro writes it, for videos as CVAT documents it, run lengths as its SDK makes them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from data.clip import DataError
from data.sources import load_source
from tests.data.sav_folder import number_in, numbered_frame, write_video
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.image_files import rectangle, write_image
from tests.data.sources.vos_files import write_frames

FILES = Path(__file__).parents[1] / "files" / "cvat"
H, W = 32, 48
# cvat_sdk 2.80.0, masks.encode_mask of files/cvat/disc.png: run lengths of a rectangle, row by row
RUNS = "4, 7, 7, 9, 5, 11, 3, 13, 1, 49, 4, 52, 1, 13, 3, 11, 5, 9, 7, 7, 4"
DISC = f'rle="{RUNS}" left="26" top="13" width="15" height="15"'


def disc():
    return np.asarray(Image.open(FILES / "disc.png"), bool)


def drawn(*parts):
    return coco.decode(coco.merge(coco.frPyObjects([list(part) for part in parts], H, W))).astype(bool)


def document(body, task="<source>street.mp4</source>", size=True):
    shape = "<original_size><width>48</width><height>32</height></original_size>" if size else ""
    meta = f"<meta><task><mode>interpolation</mode>{task}{shape}</task></meta>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{body}</annotations>'


def box(frame, left, top, right, bottom, outside=0, keyframe=1, more=""):
    sides = f'xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"'
    return f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="{keyframe}" {sides} z_order="0" {more}/>'


def polygon(frame, points, outside=0, keyframe=1):
    text = ";".join(f"{x},{y}" for x, y in points)
    return f'<polygon frame="{frame}" outside="{outside}" keyframe="{keyframe}" points="{text}" z_order="0"></polygon>'


def track(number, label, *shapes):
    return f'<track id="{number}" label="{label}" source="manual">{"".join(shapes)}</track>'


def square(x):
    return [(x, 5), (x + 10, 5), (x + 10, 15), (x, 15)]


def write(root, text, video=True, name="annotations.xml"):
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    if video:
        write_video(root / "street.mp4", [numbered_frame(k, H, W) for k in range(12)])
    return root


def test_shapes_of_images_are_those_that_datumaro_has_written(tmp_path):
    write_image(tmp_path / "set" / "images" / "street.jpg", 4)
    shutil.copy(FILES / "images.xml", tmp_path / "set" / "annotations.xml")
    clip = convert_from("cvat", tmp_path / "set", tmp_path / "out")["street"]
    first = drawn([3.2, 4.7, 30.1, 6.9, 25.5, 28.3, 8.0, 22.5])
    group = rectangle(1, 1, 5, 5) | rectangle(40, 1, 46, 5)
    assert [np.array_equal(clip.masks[i][0], m) for i, m in enumerate([first, disc(), group], 1)] == [
        True
    ] * 3
    assert clip.meta["extra"]["categories"] == ["car", "wheel", "car"] and clip.meta["kind"] == "image"
    assert [number_in(picture) for picture in clip.pictures] == [4]


def test_tracks_of_a_video_follow_keyframes_and_outside(tmp_path):
    moving = [polygon(k, square(2 * k), keyframe=int(k in (1, 4))) for k in range(1, 5)]
    moving += [polygon(5, square(8), outside=1), polygon(8, square(20)), polygon(9, square(20), outside=1)]
    still = [
        f'<mask frame="{k}" outside="{int(k == 4)}" keyframe="1" {DISC} z_order="0"></mask>'
        for k in (2, 3, 4)
    ]
    root = write(tmp_path / "set" / "Task 7", document(track(0, "car", *moving) + track(3, "wheel", *still)))
    clip = convert_from("cvat", tmp_path / "set", tmp_path / "out")["task_7"]
    assert clip.meta["source_frames"] == [1, 2, 3, 4, 8] and clip.meta["fps"] > 0
    assert [number_in(picture) for picture in clip.pictures] == [1, 2, 3, 4, 8]
    wanted = [rectangle(2 * k, 5, 2 * k + 10, 15) for k in range(1, 5)] + [rectangle(20, 5, 30, 15)]
    assert np.array_equal(clip.masks[0], wanted)
    empty = np.zeros((H, W), bool)
    assert np.array_equal(clip.masks[3], [empty, disc(), disc(), empty, empty])
    assert clip.meta["extra"]["categories"] == ["car", "wheel"]
    kept = convert_from("cvat", root, tmp_path / "kept", gaps="keep")
    assert kept["annotations"].meta["source_frames"] == list(range(1, 9))


def test_boxes_are_interpolated_and_filled_on_request(tmp_path):
    text = document(
        track(1, "car", box(0, 0, 0, 10, 10), box(4, 8, 4, 18, 14), box(5, 8, 4, 18, 14, outside=1))
    )
    root = write(tmp_path / "set", text)
    assert 'track 1 ("car"), frame 0: a box is no mask' in skipped("cvat", root, tmp_path / "a")[0]
    clip = convert_from("cvat", root, tmp_path / "b", boxes="fill")["annotations"]
    assert np.array_equal(clip.masks[1], [rectangle(2 * k, k, 2 * k + 10, k + 10) for k in range(5)])
    assert "no track has a mask" in skipped("cvat", root, tmp_path / "c", boxes="skip")[0]


def test_a_turned_box_turns_clockwise_and_the_shorter_way(tmp_path):
    shapes = [box(0, 14, 14, 34, 18, more='rotation="350.0"'), box(2, 14, 14, 34, 18, more='rotation="110"')]
    root = write(tmp_path / "set", document(track(1, "car", *shapes)))
    masks = convert_from("cvat", root, tmp_path / "out", boxes="fill")["annotations"].masks[1]
    turn, (x, y) = np.radians(50), (24, 16)  # halfway from -10 to 110
    corners = [(-10, -2), (10, -2), (10, 2), (-10, 2)]
    cos, sin = np.cos(turn), np.sin(turn)
    points = [value for a, b in corners for value in (x + a * cos - b * sin, y + a * sin + b * cos)]
    assert np.array_equal(masks[1], drawn(points))
    assert masks[0][14:18, 14:20].sum() < masks[0][16:20, 14:20].sum()  # at -10 degrees the left end is lower


def test_frames_count_as_in_the_video_with_start_and_step(tmp_path):
    task = "<source>street.mp4</source><start_frame>2</start_frame><stop_frame>11</stop_frame><frame_filter>step=3"
    shapes = [polygon(f, square(f)) for f in (2, 5, 11)]
    text = document(
        track(0, "car", *shapes), task + "</frame_filter><deleted_frames><frame>8</frame></deleted_frames>"
    )
    clip = convert_from("cvat", write(tmp_path / "set", text), tmp_path / "out")["annotations"]
    assert [number_in(picture) for picture in clip.pictures] == [2, 5, 11]
    root = write(tmp_path / "set", text.replace('frame="5"', 'frame="6"'))
    assert (
        "frame 6 is none of the task's, which begin at 2 with step 3"
        in skipped("cvat", root, tmp_path / "b")[0]
    )


@pytest.mark.parametrize("named", [True, False])
def test_frames_may_be_a_folder_of_images(tmp_path, named):
    """Named by CVAT after a video's frames, or the images that a task was made from: then the k-th is frame k."""
    task = "<source>gone.mp4</source>" if named else "<size>6</size>"
    root = write(
        tmp_path / "set",
        document(track(0, "car", *[polygon(k, square(k)) for k in (2, 3)]), task, named),
        False,
    )
    write_frames(root / "images", range(6))
    for k in reversed(range(6)):
        path = root / "images" / f"{k:05d}.jpg"
        path.rename(path.with_name(f"frame_{k:06d}.jpg" if named else f"{k + 1:05d}.jpg"))
    clip = convert_from("cvat", root, tmp_path / "out", fps=10)["annotations"]
    assert [number_in(picture) for picture in clip.pictures] == [2, 3] and clip.meta["fps"] == 10
    next(iter((root / "images").glob("*3.jpg"))).unlink()
    wanted = "has no image of frame 3" if named else "images holds 5 images, the task has 6"
    assert wanted in skipped("cvat", root, tmp_path / "b")[0]


def test_frames_of_a_video_as_images_belong_together(tmp_path):
    images = "".join(
        f'<image id="{k}" name="frame_{k:06d}" width="48" height="32"><polygon label="a" points="1,1;9,1;9,9"/></image>'
        for k in range(2)
    )
    root = write(tmp_path / "set", document(images), False, "street.xml")
    for k in range(2):
        write_image(root / "images" / f"frame_{k:06d}.PNG", k)
    assert {clip.group for clip in load_source("cvat", root).clips()} == {"street"}
    assert list(convert_from("cvat", root, tmp_path / "out")) == [
        "street_frame_000000",
        "street_frame_000001",
    ]


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        (polygon(0, [(1, 1), (5, 5)]), "frame 0: a polygon of 2 points"),
        (polygon(0, [(1, "x"), (5, 5), (1, 5)]), "points: is 'x', expected a number"),
        (polygon(0, [(1, "inf"), (5, 5), (1, 5)]), "points: is 'inf', expected a number"),
        (polygon(-1, square(3)), "frame: is '-1', expected a whole number"),
        (polygon(0, square(3)) * 2, "frame 0 comes twice"),
        (
            polygon(0, square(3)) + polygon(3, square(3)),
            "nothing is written for frames 1 to 2, between two keyframes",
        ),
        (
            f'<mask frame="0" {DISC}/>'.replace('left="26"', 'left="40"'),
            "its rectangle leaves the 32x48 picture",
        ),
        (f'<mask frame="0" {DISC}/>'.replace("52", "51"), "its rle has 224 pixels, its rectangle 15x15"),
        (f'<mask frame="0" {DISC}/>'.replace("52", "-5"), "rle must be whole numbers"),
        (f'<mask frame="0" {DISC}/>'.replace('top="13"', ""), "top: is '', expected a whole number"),
        (
            '<polyline frame="0" points="1,1;2,2"/>',
            "a polyline is no mask; correct it, or leave such shapes out",
        ),
        (polygon(40, square(3)), "has 12 frames, the last annotated frame is number 40"),
    ],
)
def test_what_is_wrong_with_a_shape_is_said(tmp_path, shape, problem):
    root = write(tmp_path / "set", document(track(4, "car", shape)))
    (message,) = skipped("cvat", root, tmp_path / "out")
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(message)
    assert 'track 4 ("car")' in message or "street.mp4" in message


def test_tasks_of_images_and_of_videos_are_converted_one_kind_at_a_time(tmp_path):
    write_image(tmp_path / "set" / "task_1" / "images" / "street.jpg", 4)
    shutil.copy(FILES / "images.xml", tmp_path / "set" / "task_1" / "annotations.xml")
    write(tmp_path / "set" / "task_2", document(track(0, "car", polygon(1, square(2)))))
    both = r"images \(.*task_1.*\) and of videos \(.*task_2.*\), .* with kind=images and with kind=videos"
    with pytest.raises(DataError, match=both):
        load_source("cvat", tmp_path / "set").clips()
    images = convert_from("cvat", tmp_path / "set", tmp_path / "images", kind="images")
    videos = convert_from("cvat", tmp_path / "set", tmp_path / "videos", kind="videos")
    assert (list(images), list(videos)) == (["task_1_street"], ["task_2"])
    with pytest.raises(DataError, match="no task is of images; leave kind out"):
        load_source("cvat", tmp_path / "set" / "task_2", kind="images").clips()
    with pytest.raises(DataError, match="kind must be auto, images or videos, got 'all'"):
        load_source("cvat", tmp_path / "set", kind="all")


def test_entities_and_other_xml_are_refused(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]><annotations><meta>&y;</meta></annotations>'
    outside = (
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations><meta>&x;</meta></annotations>'
    )
    cases = [
        (bomb, "document type, which could declare entities"),
        (outside, "document type, which could declare entities"),
        (bomb.encode("utf-16"), "document type, which could declare entities"),
        ("<annotations>", "not XML that can be read"),
        ("<a/>", "is no XML of CVAT"),
    ]
    for k, (text, problem) in enumerate(cases):
        path = tmp_path / f"{k}.xml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(DataError, match=problem):
            load_source("cvat", path).clips()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="expected annotations.xml of CVAT, found nothing"):
        load_source("cvat", empty).clips()


def test_no_path_leads_out_of_the_folder_and_missing_media_are_named(tmp_path):
    shape = polygon(0, square(1))
    for k, source in enumerate(["../street.mp4", "/etc/passwd"]):
        root = write(
            tmp_path / str(k), document(track(0, "a", shape), f"<source>{source}</source>"), video=False
        )
        assert "path inside" in skipped("cvat", root, tmp_path / f"out{k}")[0]
    image = '<image id="0" name="../a.jpg" width="48" height="32"><polygon label="a" points="1,1;9,1;9,9"/></image>'
    assert "path inside" in skipped("cvat", write(tmp_path / "i", document(image), False), tmp_path / "j")[0]
    root = write(tmp_path / "v", document(track(0, "a", shape)), video=False)
    assert "street.mp4 nor" in skipped("cvat", root, tmp_path / "w")[0]
    write_video(root / "other.mp4", [numbered_frame(k, H, W) for k in range(3)])
    assert list(convert_from("cvat", root, tmp_path / "x", pictures="other.mp4")) == ["annotations"]
    for option, value in [("boxes", "keep"), ("unusable", ""), ("gaps", "x"), ("fps", 0)]:
        with pytest.raises(DataError, match=f"{option} must be"):
            load_source("cvat", root, **{option: value})
