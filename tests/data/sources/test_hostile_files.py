"""Whatever stands in an annotation: it is read, or a DataError says what is wrong; no other error, no file outside."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.clip import DataError
from data.sources import load_source
from data.write import ConvertOptions, encode_sample
from tests.data.sav_folder import encode_rle
from tests.data.sources.image_files import rectangle, write_image

FILES = Path(__file__).parents[1] / "files"
STRANGE = (
    None,
    True,
    -1,
    0,
    2**70,
    0.5,
    1e308,
    float("nan"),
    "",
    "x",
    "../../a",
    "\0",
    [],
    [[]],
    [None],
    {},
    {"a": 1},
)
WORDS = ("", "x", "-1", "0", "1e9", "nan", "9" * 30, "1,2;3", "../../a", "\u0663", ";", "1;")
BOX = [4, 8, 40, 8, 40, 20, 4, 20]


def read_all(name, root):
    """Read every clip; the number that could be."""
    good = 0
    try:
        clips = load_source(name, root).clips()
    except DataError:
        return 0
    for clip in clips:
        try:
            video = clip.read()
            assert Path(video.media.path).resolve().is_relative_to(root.resolve())
            encode_sample(video, ConvertOptions())
            good += 1
        except DataError:
            pass
    return good


def changed(value):
    """Copies of a JSON value with one part of it replaced by something strange, or left out."""
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            for other in changed(value[key]):
                yield value | {key: other}
    elif isinstance(value, list) and value:
        yield value[1:]
        for k in {0, len(value) // 2}:
            for other in changed(value[k]):
                yield [*value[:k], other, *value[k + 1 :]]
    yield from copy.deepcopy(STRANGE)


def coco():
    segmentations = [
        [BOX],
        encode_rle(rectangle(1, 1, 9, 9)),
        {"size": [32, 48], "counts": [0, 5, 32 * 48 - 5]},
    ]
    segmentations[1]["size"] = [32, 48]
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 32, "width": 48, "license": 2}],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": found}
            for k, found in enumerate(segmentations)
        ],
        "categories": [{"id": 3, "name": "cat"}],
        "licenses": [{"id": 2, "name": "CC"}],
    }


def sa1b():
    found = {
        "id": 5,
        "segmentation": {"size": [32, 48], "counts": encode_rle(rectangle(1, 1, 9, 9))["counts"]},
    }
    found |= {
        "predicted_iou": 0.9,
        "stability_score": 0.9,
        "point_coords": [[1.0, 2.0]],
        "crop_box": [0, 0, 48, 32],
    }
    return {"image": {"image_id": 1, "width": 48, "height": 32, "file_name": "a.jpg"}, "annotations": [found]}


def labelme():
    shapes = json.loads((FILES / "labelme" / "scene.json").read_text())["shapes"]
    shapes = [shapes[0] | {"points": shapes[0]["points"][:3]}, shapes[1], shapes[2], shapes[3], shapes[6]]
    return {"imagePath": "a.jpg", "imageData": None, "imageHeight": 60, "imageWidth": 80, "shapes": shapes}


def labelstudio():
    rle = json.loads((FILES / "labelstudio" / "rle.json").read_text())["soft"]
    size = {"original_width": 48, "original_height": 32, "image_rotation": 0}
    points = [[10, 10], [50, 10], [50, 50]]
    results = [
        size
        | {"id": "r1", "type": "brushlabels", "value": {"format": "rle", "rle": rle, "brushlabels": ["cat"]}},
        size | {"id": "r2", "type": "polygonlabels", "value": {"points": points, "polygonlabels": ["dog"]}},
    ]
    annotation = {
        "id": 1,
        "completed_by": {"id": 1},
        "was_cancelled": False,
        "updated_at": "2026",
        "result": results,
    }
    return [{"id": 7, "data": {"image": "/data/upload/1/a.jpg"}, "annotations": [annotation]}]


@pytest.mark.parametrize(
    ("name", "whole", "file", "size"),
    [
        ("coco", coco(), "a.json", (32, 48)),
        ("sa1b", sa1b(), "sa_1.json", (32, 48)),
        ("labelme", labelme(), "a.json", (60, 80)),
        ("labelstudio", labelstudio(), "a.json", (32, 48)),
    ],
)
def test_any_part_of_a_json_may_be_strange_or_missing(tmp_path, name, whole, file, size):
    write_image(tmp_path / ("sa_1.jpg" if name == "sa1b" else "a.jpg"), 1, *size)
    (tmp_path / file).write_text(json.dumps(whole))
    assert read_all(name, tmp_path) == 1
    tried = refused = 0
    for strange in changed(whole):
        (tmp_path / file).write_text(json.dumps(strange))
        tried += 1
        refused += read_all(name, tmp_path) == 0
    assert tried > 100 and refused > tried / 3


@pytest.mark.parametrize("kind", ["images", "video"])
def test_any_attribute_of_an_xml_may_be_strange_or_missing(tmp_path, kind):
    write_image(tmp_path / "images" / "street.jpg", 1)
    text = (FILES / "cvat" / "images.xml").read_text()
    if kind == "video":
        body = '<track id="1" label="a"><polygon frame="0" outside="0" points="1,1;9,1;9,9"/></track>'
        mask = '<mask frame="0" outside="0" rle="3, 6" left="2" top="3" width="3" height="3"/>'
        body += f'<track id="2" label="a">{mask}</track>'
        task = "<size>1</size><start_frame>0</start_frame><frame_filter>step=1</frame_filter>"
        text = f"<annotations><meta><task>{task}</task></meta>{body}</annotations>"
    (tmp_path / "a.xml").write_text(text)
    assert read_all("cvat", tmp_path) == 1
    places = [m.span(1) for m in re.finditer(r'="([^"]*)"', text)] + [
        m.span(1) for m in re.finditer(r">([^<>\s]+)<", text)
    ]
    for first, last in places:
        for word in WORDS:
            (tmp_path / "a.xml").write_text(text[:first] + word + text[last:])
            read_all("cvat", tmp_path)


def test_any_word_of_a_line_may_be_strange_or_missing(tmp_path):
    write_image(tmp_path / "images" / "a.jpg", 1)
    words = ["0", "0.1", "0.1", "0.9", "0.1", "0.9", "0.9"]
    (tmp_path / "labels").mkdir()
    tried = refused = 0
    for k in range(len(words)):
        for word in WORDS:
            (tmp_path / "labels" / "a.txt").write_text(" ".join([*words[:k], word, *words[k + 1 :]]))
            tried += 1
            refused += read_all("yolo", tmp_path) == 0
    assert tried / 2 < refused < tried


@pytest.mark.parametrize("name", ["coco", "cvat", "images", "labelme", "labelstudio", "sa1b", "yolo"])
def test_damaged_bytes_are_refused(tmp_path, name):
    """Every kind of file cut off, and with bytes changed at random."""
    root = tmp_path / "set"
    for folder in ("images", "masks", "labels"):
        (root / folder).mkdir(parents=True)
    write_image(root / "images" / "a.jpg", 1)
    write_image(root / "a.jpg", 1, *((60, 80) if name == "labelme" else ()))
    write_image(root / "sa_1.jpg", 1)
    Image.fromarray(np.eye(32, 48, dtype=np.uint8)).save(root / "masks" / "a.png")
    (root / "labels" / "a.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    (root / "a.xml").write_text((FILES / "cvat" / "images.xml").read_text().replace("street", "a"))
    whole = {"coco": coco, "labelme": labelme, "labelstudio": labelstudio, "sa1b": sa1b}.get(name)
    if whole:
        (root / ("sa_1.json" if name == "sa1b" else "a.json")).write_text(json.dumps(whole()))
    random, whole_clips, refused = np.random.default_rng(0), read_all(name, root), 0
    assert whole_clips >= 1
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        raw = path.read_bytes()
        for _ in range(8):
            damaged = bytearray(raw[: random.integers(len(raw))] if random.random() < 0.3 else raw)
            for k in random.integers(0, max(1, len(damaged)), 4):
                damaged[k : k + 1] = bytes([random.integers(256)])
            path.write_bytes(damaged)
            refused += read_all(name, root) < whole_clips
        path.write_bytes(raw)
    assert refused >= 4
