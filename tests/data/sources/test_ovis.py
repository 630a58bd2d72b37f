"""OVIS and YouTube-VIS from JSON files in their published style."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from data.clip import DataError
from data.sources import load_source
from tests.data.sav_folder import encode_rle, number_in, numbered_frame
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.test_sav_frames import overlapping_masks

OVIS = [f"2592056/img_{number:07d}.jpg" for number in range(1, 7)]
YTVIS = [f"0065b171f9/{number:05d}.jpg" for number in range(0, 30, 5)]


def runs(mask):
    """Run lengths column by column, background first, one pixel after the other."""
    counts, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def compressed(mask):
    return {"size": list(mask.shape), "counts": encode_rle(mask)["counts"]}


def annotations(encode, video=1):
    """Two objects that overlap, the second absent from the fourth frame on; and a crowd."""
    found = [
        {"id": 10 * video + k, "video_id": video, "category_id": 2 + k, "iscrowd": 0,
         "segmentations": [encode(mask) if mask.any() else None for mask in masks]}
        for k, masks in enumerate(overlapping_masks().values())
    ]  # fmt: skip
    crowd = {"segmentations": [encode(np.ones((32, 48), bool))] * 6, "iscrowd": 1, "id": 10 * video + 9}
    return [*found, found[0] | crowd]


def write(root, path, frames, names=OVIS, found=None, **changes):
    video = {"id": 1, "width": 48, "height": 32, "length": 6, "file_names": names} | changes
    categories = [{"id": 2, "name": "Fish", "supercategory": ""}, {"id": 3, "name": "Bird"}]
    if found is None:
        found = annotations(compressed)
    content = {"info": {}, "videos": [video], "annotations": found, "categories": categories}
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(json.dumps(content))
    for k, name in enumerate(names):
        place = root / frames / name
        if root in place.resolve().parents:
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(numbered_frame(k, 32, 48)).save(place, quality=95)
    return root


def assert_is(clip, ids=(10, 11)):
    assert sorted(clip.masks) == list(ids)
    for i, masks in zip(ids, overlapping_masks().values(), strict=False):
        assert np.array_equal(clip.masks[i], masks)
    assert [number_in(picture) for picture in clip.pictures] == list(range(6))


@pytest.mark.parametrize("encode", [compressed, runs])
@pytest.mark.parametrize(
    ("path", "frames", "names", "numbers"),
    [
        ("annotations_train.json", "train", OVIS, range(6)),
        ("annotations/train.json", "train/JPEGImages", YTVIS, range(0, 30, 5)),
        ("train/instances.json", "train/JPEGImages", YTVIS, range(0, 30, 5)),
    ],
)
def test_masks_and_frames_are_those_of_the_json(tmp_path, encode, path, frames, names, numbers):
    root = write(tmp_path / "in", path, frames, names, annotations(encode))
    clips = convert_from("ovis", root, tmp_path / "out")
    assert list(clips) == [names[0].partition("/")[0]]
    (clip,) = clips.values()
    assert_is(clip)
    assert clip.meta["source_frames"] == list(numbers)
    assert clip.meta["visible"] == ["111111", "111000"]
    assert clip.meta["extra"]["categories"] == ["Fish", "Bird"]


def test_a_crowd_is_kept_if_asked_for(tmp_path):
    root = write(tmp_path / "in", "a.json", "")
    clip = convert_from("ovis", root, tmp_path / "out", crowds="keep")["2592056"]
    assert_is(clip, (10, 11, 19))
    assert clip.masks[19].all()


def test_polygons_are_filled(tmp_path):
    corners = [[4, 6, 20, 6, 20, 16, 4, 16]]
    found = {
        "id": 3,
        "video_id": 1,
        "category_id": 2,
        "segmentations": [corners, None, corners, None, None, None],
    }
    root = write(tmp_path / "in", "a.json", "", found=[found])
    masks = convert_from("ovis", root, tmp_path / "out")["2592056"].masks[3]
    expected = np.zeros((32, 48), np.uint8)
    expected[6:16, 4:20] = 1
    assert np.array_equal(masks[0], expected) and np.array_equal(masks[2], expected)
    assert masks.sum() == 2 * expected.sum()


def test_the_json_itself_can_be_given_and_frames_be_elsewhere(tmp_path):
    root = write(tmp_path / "in", "x.json", "anything")
    (root / "anything").rename(tmp_path / "frames")
    clips = convert_from("ovis", root / "x.json", tmp_path / "out", frames=str(tmp_path / "frames"))
    assert_is(clips["2592056"])


def test_videos_without_annotations_are_left_out_and_said(tmp_path, caplog):
    root = write(tmp_path / "in", "a.json", "")
    content = json.loads((root / "a.json").read_text())
    content["videos"].append(content["videos"][0] | {"id": 2})
    (root / "a.json").write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        assert len(convert_from("ovis", root, tmp_path / "out")) == 1
    assert "without annotations, left out: 1 of 2 videos" in caplog.text


def other(**changes):
    return [annotations(compressed)[0] | changes]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"found": other(segmentations=[None] * 5)}, "annotation 10: 5 segmentations for 6 frames"),
        ({"found": other(segmentations=None)}, "annotation 10: no segmentations for 6 frames"),
        ({"found": other(segmentations=[None] * 6)}, "no single object in any of 6 frames"),
        ({"found": other(iscrowd=1)}, "no single object in any of 6 frames"),
        ({"found": other() * 2}, "two annotations have one id"),
        ({"found": other(segmentations=["abc"] + [None] * 5)}, "annotation 10, frame 0: expected {'size'"),
        (
            {"found": other(segmentations=[{"size": [32, 48], "counts": [5, 7]}] + [None] * 5)},
            "add up to 1536 pixels",
        ),
        (
            {"found": other(segmentations=[[[0, 0, 1, 1]]] + [None] * 5)},
            "annotation 10, frame 0: a polygon of 2 points",
        ),
        ({"height": 31}, "annotation 10, frame 0: the mask's size is [32, 48], the picture's [31, 48]"),
        ({"width": 10**7}, "width: is 10000000, expected a whole number from 1 to 16384"),
        ({"file_names": []}, "file_names is [], expected a list"),
        (
            {"file_names": [*OVIS[:5], "../../x.jpg"]},
            "file_names: '../../x.jpg' is not a relative path inside",
        ),
    ],
)
def test_what_is_wrong_in_a_video_is_named(tmp_path, changes, message):
    root = write(tmp_path / "in", "a.json", "", **changes)
    (found,) = skipped("ovis", root, tmp_path / "out")
    assert message in found and "a.json, video 1" in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": []}', "videos: is missing, expected a list"),
        ('{"videos": [], "annotations": null}', "has no annotations; give the JSON of the training set"),
        ('{"videos": [{"id": 1}, {"id": 1}], "annotations": []}', "two videos have one id"),
        ('{"videos": [{"id": 1, "file_names": ["b/c.jpg"]}], "annotations": [{"video_id": 1}]}',
         "none of its frames is there, 'b/c.jpg' for instance; found a.json; say what holds them"),
        ('{"videos": [{"id": 1, "file_names": ["/b/c.jpg"]}], "annotations": [{"video_id": 1}]}', "is not a relative"),
    ],
)  # fmt: skip
def test_another_json_is_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_source("ovis", tmp_path).clips()


def test_the_json_to_read_must_be_clear(tmp_path):
    with pytest.raises(DataError, match="expected one JSON for training, found nothing"):
        load_source("ovis", tmp_path).clips()
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(DataError, match=r"found a\.json, b\.json; name it with annotations="):
        load_source("ovis", tmp_path).clips()
    for options in ({"crowds": "all"}, {"fps": 0}):
        with pytest.raises(DataError, match="must be"):
            load_source("ovis", tmp_path, **options)
