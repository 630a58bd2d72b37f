"""BURST from JSON files as ANNOTATION_FORMAT.md of the benchmark describes them."""

import json

import numpy as np
import pytest
from PIL import Image

from data.clip import DataError
from data.sources import load_source
from tests.data.sav_folder import encode_rle, number_in, numbered_frame
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.test_sav_frames import overlapping_masks

NAMES = [f"frame{number:04d}.jpg" for number in (1, 3, 10, 12, 30, 31)]


def sequence(name="v_1a_scene_7_61166-62253", dataset="AVA", propagated=(), **changes):
    """Tracks 2 and 15 overlap; track 15 leaves in the fourth annotated frame."""
    tracks = dict(zip((2, 15), overlapping_masks().values(), strict=True))
    frames = []
    for k in range(len(NAMES)):
        seen = {i: masks[k] for i, masks in tracks.items() if masks[k].any()}
        frames.append(
            {
                str(i): {"rle": encode_rle(mask)["counts"], "is_gt": (i, k) not in propagated, "score": 1.0}
                for i, mask in seen.items()
            }
        )
    found = {
        "width": 48,
        "height": 32,
        "id": 7,
        "seq_name": name,
        "dataset": dataset,
        "fps": 30,
        "all_image_paths": [f"frame{number:04d}.jpg" for number in range(1, 40)],
        "annotated_image_paths": NAMES,
        "neg_category_ids": [3],
        "not_exhaustive_category_ids": [],
        "track_category_ids": {"2": 805, "15": 41},
        "segmentations": frames,
    }
    return found | changes


def write(root, *sequences):
    categories = [{"id": 805, "name": "person", "synset": "person.n.01"}, {"id": 41, "name": "ball"}]
    path = root / "annotations" / "train" / "all_classes.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"sequences": sequences, "categories": categories, "split": "train"}))
    for found in sequences:
        folder = root / "frames" / "train" / str(found["dataset"]) / str(found["seq_name"])
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            Image.fromarray(numbered_frame(int(name[5:9]), 32, 48)).save(folder / name, quality=95)
    return root


@pytest.mark.parametrize("media", ["proxy", "jpeg"])
def test_masks_and_frames_are_those_of_the_json(tmp_path, media):
    root = write(
        tmp_path / "in", sequence(propagated=[(2, 1)]), sequence("b1c", "BDD", [(15, k) for k in range(3)])
    )
    clips = convert_from("burst", root, tmp_path / "out", media)
    assert list(clips) == ["ava_v_1a_scene_7_61166-62253", "bdd_b1c"]
    for clip in clips.values():
        assert sorted(clip.masks) == [2, 15]
        for i, masks in zip((2, 15), overlapping_masks().values(), strict=True):
            assert np.array_equal(clip.masks[i], masks)
        assert [number_in(picture) for picture in clip.pictures] == [1, 3, 10, 12, 30, 31]
        assert clip.meta["source_frames"] == [0, 2, 9, 11, 29, 30]
        assert clip.meta["extra"]["categories"] == ["person", "ball"]
        assert (clip.meta["source"], clip.meta["split"]) == ("burst", "train")
    assert [clip.meta["object_types"] for clip in clips.values()] == [["", "manual"], ["manual", "auto"]]


def test_scenes_of_one_film_are_not_divided(tmp_path):
    root = write(tmp_path, sequence("v_1a_scene_1_1-2"), sequence("v_1a_scene_2_3-4"), sequence("x", "BDD"))
    assert [clip.group for clip in load_source("burst", root).clips()] == ["AVA/v_1a", "AVA/v_1a", "BDD/x"]


def test_json_and_frames_may_be_elsewhere(tmp_path):
    root = write(tmp_path / "in", sequence())
    (root / "frames").rename(tmp_path / "tao")
    (root / "annotations" / "train" / "all_classes.json").rename(root / "mine.json")
    options = {"annotations": "mine.json", "frames": str(tmp_path / "tao")}
    assert len(convert_from("burst", root, tmp_path / "out", **options)) == 1
    with pytest.raises(
        DataError, match=r"expected annotations/train/all_classes\.json, found annotations/, mine"
    ):
        load_source("burst", root).clips()
    with pytest.raises(DataError, match=r"in/train: no such folder with frames; .* with frames="):
        load_source("burst", root, annotations="mine.json").clips()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segmentations": [{}] * 6}, "no track in any of 6 annotated frames"),
        ({"segmentations": [{"x": {}}] * 6}, "a track is called 'x', expected a number"),
        (
            {"segmentations": [{"1": "abc"}] * 6},
            "annotated frame 0, track 1: expected {'rle': '...'}, got abc",
        ),
        ({"segmentations": [{"1": {"rle": "abc"}}] * 6}, "frame 0, track 1: not a COCO RLE of a 32x48 mask"),
        ({"height": 33}, "track 2: not a COCO RLE of a 33x48 mask"),
        ({"height": 10**9}, "height: is 1000000000, expected a whole number from 1 to 16384"),
        ({"annotated_image_paths": NAMES[1:]}, "5 annotated_image_paths for 6 segmentations"),
        (
            {"annotated_image_paths": ["../x.jpg"] * 6, "all_image_paths": ["../x.jpg"]},
            "'../x.jpg' is not a relative",
        ),
        ({"all_image_paths": NAMES[1:]}, "annotated frame 'frame0001.jpg' is not in all_image_paths"),
        ({"all_image_paths": NAMES[::-1]}, "annotated frames must be rising frame numbers"),
        ({"fps": None}, "fps: is missing"),
    ],
)
def test_what_is_wrong_in_a_sequence_is_named(tmp_path, changes, message):
    root = write(tmp_path / "in", sequence(**changes))
    (found,) = skipped("burst", root, tmp_path / "out")
    assert message in found and "v_1a_scene_7" in found


def test_a_sequence_does_not_lead_out_of_the_folder_of_frames(tmp_path):
    root = write(tmp_path / "in", sequence())
    path = root / "annotations" / "train" / "all_classes.json"
    path.write_text(path.read_text().replace("AVA", "../../.."))
    (found,) = skipped("burst", root, tmp_path / "out")
    assert "is not a relative path inside" in found
    path.write_text(path.read_text().replace('"split": "train"', '"split": "../x"'))
    with pytest.raises(DataError, match="split: '../x' is not a relative path inside"):
        load_source("burst", root).clips()


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("{}", "sequences: is missing")])
def test_another_json_is_refused(tmp_path, text, message):
    root = write(tmp_path, sequence())
    (root / "annotations" / "train" / "all_classes.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_source("burst", root).clips()
