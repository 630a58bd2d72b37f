"""The layout of a folder tells which source reads it, or that several could."""

import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from data.clip import DataError
from data.recognise import tell_source
from data.sources import source_names
from data.write import convert
from tests.data.test_check_source import open_source, videos

LAYOUTS = {
    "davis": ["ImageSets/2017/train.txt", "JPEGImages/480p/cat/00000.jpg", "Annotations/480p/cat/00000.png"],
    "mose": ["train/JPEGImages/cat/00000.jpg", "train/Annotations/cat/00000.png"],
    "lvos": [
        "train/JPEGImages/cat/00000001.jpg",
        "train/Annotations/cat/00000001.png",
        "train/train_meta.json",
    ],
    "ytvos": ["meta.json", "JPEGImages/cat/00000.jpg", "Annotations/cat/00000.png"],
    "sav": ["sav_000/a.mp4", "sav_000/a_manual.json", "sav_000/a_auto.json"],
    "sav_frames": ["JPEGImages_24fps/a/00000.jpg", "Annotations_6fps/a/000/00000.png", "sav_val.txt"],
    "sa1b": ["sa_000000/sa_1.jpg", "sa_000000/sa_1.json"],
    "burst": ["annotations/train/all_classes.json", "frames/train/a/b/1.jpg"],
    "cvat": ["annotations.xml", "images/a.jpg"],
    "yolo": ["data.yaml", "train/images/a.jpg", "train/labels/a.txt"],
    "labelme": ["a.jpg", "a.json", "b.jpg", "b.json"],
    "frames": ["cat/frames/0.jpg", "cat/masks/0.png"],
    "video_masks": ["cat.mp4", "cat/00000.png"],
    "nifti": ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"],
}


def lay_out(root, entries):
    for entry in entries:
        path = root / entry
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".jpg", ".png"):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
        else:
            path.touch()


@pytest.mark.parametrize("source", LAYOUTS)
def test_a_layout_tells_its_source(tmp_path, source):
    assert source in source_names()
    lay_out(tmp_path, LAYOUTS[source])
    assert tell_source(tmp_path) == source


@pytest.mark.parametrize(
    ("content", "source"),
    [
        ({"images": [], "annotations": [], "categories": []}, "coco"),
        ({"videos": [], "annotations": [{"segmentations": []}]}, "ovis"),
        ([{"id": 1, "annotations": [], "data": {"image": "a.jpg"}}], "labelstudio"),
    ],
)
def test_a_json_tells_its_source(tmp_path, content, source):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    assert tell_source(tmp_path) == tell_source(path) == source


def test_shards_and_the_tars_of_sa1b_are_told_apart(tmp_path):
    videos(tmp_path / "raw")
    convert(open_source("mose", tmp_path / "raw"), tmp_path / "shards")
    assert tell_source(tmp_path / "shards") == "shards"
    lay_out(tmp_path, ["sa_1.jpg", "sa_1.json"])
    (tmp_path / "sa1b").mkdir()
    with tarfile.open(tmp_path / "sa1b" / "sa_000000.tar", "w") as tar:
        tar.add(tmp_path / "sa_1.jpg", "./sa_1.jpg")
    assert tell_source(tmp_path / "sa1b") == "sa1b"


def test_single_images_and_one_video_look_alike_and_are_asked_for(tmp_path):
    lay_out(tmp_path, ["images/a.jpg", "masks/a.png"])
    with pytest.raises(DataError, match="may be images or frames; say which with --from"):
        tell_source(tmp_path)


def test_a_folder_that_tells_nothing_lists_the_sources(tmp_path):
    lay_out(tmp_path, ["notes.txt"])
    with pytest.raises(DataError, match=r"holds notes\.txt, which tells no source.*davis.*yolo"):
        tell_source(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        tell_source(tmp_path / "nowhere")
