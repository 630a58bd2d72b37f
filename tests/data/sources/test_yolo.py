"""YOLO segmentation in the two arrangements that it has, with masks that pycocotools makes of the same points."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from data.clip import DataError
from data.sources import load_source
from tests.data.sav_folder import number_in
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.image_files import rectangle, write_image

H, W = 32, 48
BOX = [(4, 8), (40, 8), (40, 20), (4, 20)]
STAR = [
    (5.53, 3.27),
    (40.77, 28.53),
    (3.13, 20.07),
    (44.03, 6.53),
    (20.27, 30.97),
]  # off the grid of rounding


def line(category, points):
    return " ".join([str(category), *(f"{x / W:.10f} {y / H:.10f}" for x, y in points)])


def drawn(points):
    flat = [value for point in points for value in point]
    return coco.decode(coco.merge(coco.frPyObjects([flat], H, W))).astype(bool)


def write(root, text, folder="{}", name="a", number=0):
    """An image and its lines; `folder` has {} where images and labels go."""
    write_image(root / folder.format("images") / f"{name}.jpg", number)
    label = root / folder.format("labels") / f"{name}.txt"
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text(text)
    return root


@pytest.mark.parametrize("folder", ["{}/train", "train/{}"])
def test_outlines_become_masks_in_both_arrangements(tmp_path, folder, caplog):
    root = write(tmp_path / "set", f"{line(1, BOX)}\n\n{line(0, STAR)}\r\n", folder, "A", 5)
    write(root, line(0, BOX), folder.replace("train", "val"), "A", 6)
    write_image(root / folder.format("images") / "background.jpg")
    write(root, "", folder, "empty")
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nnames:\n  0: star\n  1: box\n")
    (root / folder.format("labels") / "classes.txt").write_text("star\nbox\n")
    clips = convert_from("yolo", root, tmp_path / "out")
    assert list(clips) == ["train_a", "val_a"]
    clip = clips["train_a"]
    assert np.array_equal(clip.masks[1][0], rectangle(4, 8, 40, 20))
    assert np.array_equal(clip.masks[2][0], drawn(STAR))
    assert clip.meta["extra"]["categories"] == ["box", "star"] and clip.meta["split"] == "train"
    assert [number_in(picture) for picture in clip.pictures] == [5]
    assert "2 images without outline left out" in caplog.text
    assert list(convert_from("yolo", root, tmp_path / "val", split="val")) == ["val_a"]


def test_without_splits_and_names_classes_are_numbers(tmp_path):
    root = write(tmp_path / "set", line(7, BOX))
    clip = convert_from("yolo", root, tmp_path / "out")["a"]
    assert clip.meta["extra"]["categories"] == ["7"] and clip.meta["split"] == ""
    (root / "names.yaml").write_text("names: [a, b, c, d, e, f, g, seventh]")
    named = convert_from("yolo", root, tmp_path / "named", names="names.yaml")["a"]
    assert named.meta["extra"]["categories"] == ["seventh"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 1: is a box .5 numbers., which is no mask; export polygons"),
        ("\n0 0.5 0.5 0.2 0.2 0.1 0.1 0.1", "line 2: 7 numbers are not points"),
        ("0 0.5 0.5", "line 1: a polygon of 1 points"),
        ("0 10 10 40 10 40 20", "line 1: points must be shares .* are these pixels"),
        ("0 0.1 0.1 nan 0.1 0.1 0.4", "line 1: points must be shares"),
        ("cat 0.1 0.1 0.4 0.1 0.1 0.4", "line 1: expected numbers"),
        ("0.5 0.1 0.1 0.4 0.1 0.1 0.4", "line 1: the class is 0.5"),
        ("9 0.1 0.1 0.4 0.1 0.1 0.4", "line 1: class 9 has no name in data.yaml"),
        ("0 0.1 0.1 0.1001 0.1 0.1 0.1001", "line 1: the polygon covers no pixel"),
        ("  \n ", "0 outlines, expected 1"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(tmp_path, text, problem):
    root = write(tmp_path / "set", text)
    (root / "data.yaml").write_text("names: [cat]")
    (message,) = skipped("yolo", root, tmp_path / "out")
    with pytest.raises(AssertionError, match=f"labels/a.txt.*{problem}"):
        raise AssertionError(message)


def test_boxes_among_outlines_are_left_out_on_request(tmp_path):
    root = write(tmp_path / "set", f"0 0.5 0.5 0.2 0.2\n{line(0, BOX)}")
    assert "unusable=skip" in skipped("yolo", root, tmp_path / "a")[0]
    clip = convert_from("yolo", root, tmp_path / "b", unusable="skip")["a"]
    assert np.array_equal(clip.masks[1][0], rectangle(4, 8, 40, 20))


def test_points_are_of_the_picture_as_it_is_seen(tmp_path):
    root = write(tmp_path / "set", line(0, BOX))
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(root / "images" / "a.jpg", height=W, width=H, exif=exif)
    clip = convert_from("yolo", root, tmp_path / "out")["a"]
    assert np.array_equal(clip.masks[1][0], rectangle(4, 8, 40, 20))
    assert clip.pictures[0].shape[:2] == (H, W)


def test_files_without_partner_and_wrong_layouts_are_named(tmp_path):
    root = write(tmp_path / "set", line(0, BOX))
    write(root, line(0, BOX), name="lost")
    (root / "images" / "lost.jpg").unlink()
    assert "lost.txt: has no image" in skipped("yolo", root, tmp_path / "a")[0]
    write_image(root / "images" / "lost.jpg")
    write_image(root / "images" / "lost.png")
    assert "belong to one image; remove one" in skipped("yolo", root, tmp_path / "b")[0]
    write_image(root / "images" / "plain.jpg")
    messages = skipped("yolo", root, tmp_path / "c", unannotated="refuse")
    assert any("plain.jpg: has no label" in message for message in messages)
    with pytest.raises(
        DataError, match=r"expected images/test/NAME.jpg and labels/test/NAME.txt, or test/images"
    ):
        load_source("yolo", root, split="test").clips()
    (root / "data.yaml").write_text("names: cat")
    with pytest.raises(DataError, match="'names' must list the classes"):
        load_source("yolo", root).clips()
    (root / "data.yaml").write_text("names: !!python/object/apply:os.system [ls]")
    with pytest.raises(DataError, match="data.yaml: not YAML"):
        load_source("yolo", root).clips()
