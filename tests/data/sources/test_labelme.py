"""LabelMe: a file that labelme itself wrote, with the masks that labelme itself draws."""

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.clip import DataError
from data.sources import load_source
from tests.data.sav_folder import number_in
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.image_files import rectangle, write_image

FILES = Path(__file__).parents[1] / "files" / "labelme"


def polygon(label="cat", points=((2, 3), (20, 3), (20, 18), (2, 18)), **more):
    return {
        "label": label,
        "points": [list(p) for p in points],
        "shape_type": "polygon",
        "group_id": None,
    } | more


def write(root, shapes, **more):
    """a.json beside a.jpg, 32 x 48."""
    write_image(root / "a.jpg", 9)
    found = {"shapes": shapes, "imagePath": "a.jpg", "imageData": None, "imageHeight": 32, "imageWidth": 48}
    (root / "a.json").write_text(json.dumps({"version": "5.5.0", "flags": {}} | found | more))
    return root


def test_every_kind_of_shape_is_drawn_as_labelme_draws_it(tmp_path):
    root = tmp_path / "set"
    write_image(root / "pictures" / "scene.png", 5, 60, 80)
    (root / "json").mkdir()
    shutil.copy(FILES / "scene.json", root / "json")
    (clip,) = convert_from("labelme", root, tmp_path / "out").values()
    expected = np.asarray(Image.open(FILES / "expected.png"), bool).reshape(6, 60, 80)
    assert list(clip.masks) == [1, 2, 3, 4, 5, 6]
    for mask, wanted in zip(clip.masks.values(), expected, strict=True):
        assert np.array_equal(mask[0], wanted)
    extra = clip.meta["extra"]
    # the polygon and the rectangle of dog 4 are one object, cat 4 is another one
    assert extra["categories"] == ["dog", "dog", "ball", "cat", "box", "ai"]
    assert extra["group_ids"] == [None, 4, None, 4, None, None]
    assert [number_in(picture) for picture in clip.pictures] == [5] and clip.meta["key"] == "json_scene"


def test_the_outline_belongs_to_the_object(tmp_path):
    (clip,) = convert_from("labelme", write(tmp_path / "set", [polygon()]), tmp_path / "out").values()
    assert np.array_equal(clip.masks[1][0], rectangle(2, 3, 21, 19))


def test_lines_and_points_are_refused_or_left_out(tmp_path):
    lines = [polygon("path", shape_type="linestrip"), polygon("dot", [(1, 1)], shape_type="point")]
    root = write(tmp_path / "set", [*lines, polygon(), polygon("two", [(1, 1), (5, 5)])])
    (message,) = skipped("labelme", root, tmp_path / "a")
    assert 'a.json, shape 0 ("path"): a linestrip is no mask; correct it, or leave such shapes out' in message
    (clip,) = convert_from("labelme", root, tmp_path / "b", unusable="skip").values()
    assert clip.meta["extra"]["categories"] == ["cat"]


def png(height, width):
    buffer = io.BytesIO()
    Image.fromarray(np.ones((height, width), np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        (polygon(points=[(1, 1), (5, 5)]), r'shape 0 \("cat"\): a polygon of 2 points'),
        (polygon(points=[(100, 100), (110, 100), (100, 110)]), "covers no pixel of the 32x48 picture"),
        (polygon(points=[(1, 1), (5, 1e300), (1, 2)]), "points: is 1e.300, expected a number"),
        (polygon(points=[(1, 1), (5, 1e6), (1, 2)]), "a point is far outside any picture"),
        (polygon(points=[(1, 1, 1)]), r"points must be a list of \[x, y\]"),
        (polygon(shape_type="circle"), "a circle of 4 points, expected 2"),
        (polygon(shape_type="blob"), "unknown shape_type 'blob'"),
        (polygon(group_id="x"), "group_id: is 'x', expected a whole number"),
        (polygon(label=None), "shape 0, label: is missing"),
        (
            polygon(points=[(1, 1), (4, 3)], shape_type="mask", mask=png(3, 5)),
            "its mask is 3x5, its rectangle 3x4",
        ),
        (
            polygon(points=[(40, 1), (48, 3)], shape_type="mask", mask=png(3, 9)),
            "its rectangle leaves the 32x48",
        ),
        (polygon(points=[(1, 1), (4, 3)], shape_type="mask", mask="?"), "its mask is not base64"),
        (polygon(points=[(1, 1), (4, 3)], shape_type="mask", mask="AAAA"), "not a readable image"),
    ],
)
def test_what_is_wrong_with_a_shape_is_said(tmp_path, shape, problem):
    (message,) = skipped("labelme", write(tmp_path / "set", [shape]), tmp_path / "out")
    with pytest.raises(AssertionError, match=f"a.json.*{problem}"):
        raise AssertionError(message)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"imageHeight": 30}, "imageHeight is 30, but .*a.jpg is 32x48"),
        ({"imagePath": "../../a.jpg"}, "path inside"),
        ({"imagePath": "C:\\a.jpg"}, "path inside"),
        ({"imagePath": "/a.jpg"}, "path inside"),
        ({"imagePath": "b.jpg"}, "its image .*b.jpg is missing"),
        ({"shapes": []}, "0 objects, expected 1"),
        ({"shapes": None}, "shapes: is missing, expected a list of objects"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, change, problem):
    (message,) = skipped(
        "labelme", write(tmp_path / "set", **{"shapes": [polygon()]} | change), tmp_path / "out"
    )
    with pytest.raises(AssertionError, match=f"a.json.*{problem}"):
        raise AssertionError(message)


def test_a_picture_is_turned_as_labelme_shows_it(tmp_path):
    root = write(
        tmp_path / "set",
        [polygon(points=[(2, 30), (20, 30), (20, 40), (2, 40)])],
        imageHeight=48,
        imageWidth=32,
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(root / "a.jpg", exif=exif)
    (clip,) = convert_from("labelme", root, tmp_path / "out").values()
    assert np.array_equal(clip.masks[1][0], rectangle(2, 30, 21, 41, 48, 32)) and clip.pictures[0].shape[
        :2
    ] == (48, 32)
    exif[0x0112] = 3
    write_image(root / "a.jpg", height=48, width=32, exif=exif)
    (message,) = skipped("labelme", root, tmp_path / "b")
    assert r"a.jpg: is turned or mirrored by its EXIF orientation (3); save it upright" in message


def test_a_folder_without_json_is_described(tmp_path):
    with pytest.raises(DataError, match=r"expected NAME.json of LabelMe, found nothing"):
        load_source("labelme", tmp_path).clips()
    with pytest.raises(DataError, match="unusable must be refuse or skip"):
        load_source("labelme", tmp_path, unusable=True)
