"""Still images with masks: COCO files and folders of label maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from data.clip import DataError
from sam2.evaluation.errors import EvaluationError
from sam2.training.segmented_images import decode_coco, open_coco, open_folders

SIZE = (12, 20)


def blob(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).random(size) < 0.4


def save_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)


def compressed(mask: np.ndarray) -> dict[str, Any]:
    found = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": found["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    """Column by column, background first."""
    flat, counts, now = mask.T.ravel(), [0], False
    for value in flat.tolist():
        if value != now:
            counts.append(0)
            now = value
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


@pytest.mark.parametrize("mask", [blob(), ~blob(), np.zeros(SIZE, bool), np.ones(SIZE, bool)])
def test_run_lengths_of_both_kinds_give_back_the_mask(mask):
    np.testing.assert_array_equal(decode_coco(compressed(mask), SIZE, "here"), mask)
    np.testing.assert_array_equal(decode_coco(uncompressed(mask), SIZE, "here"), mask)


def test_polygons_are_drawn_together_and_as_coco_draws_them():
    square = decode_coco([[2, 3, 9, 3, 9, 8, 2, 8]], SIZE, "here")
    expected = np.zeros(SIZE, bool)
    expected[3:8, 2:9] = True
    np.testing.assert_array_equal(square, expected)
    both = decode_coco([[2, 3, 9, 3, 9, 8, 2, 8], [12.0, 1, 18, 1, 18, 11, 12, 11]], SIZE, "here")
    expected[1:11, 12:18] = True
    np.testing.assert_array_equal(both, expected)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "expected polygons, or run lengths with the size"),
        ([], "has no polygon"),
        ([[1, 2, 3, 4]], "3 or more corners"),
        ([[1, 2, 3, 4, 5, float("nan")]], "3 or more corners"),
        ([[0, 0, 5, 0, 1e9, 5]], "a polygon reaches from 0 to 1000000000.0, the image to 20"),
        ({"size": [20, 12], "counts": [240]}, r"with the size \[12, 20\]"),
        ({"size": [12, 20], "counts": [200]}, "sum to 200, the image has 240"),
        ({"size": [12, 20], "counts": [300, -60]}, "neither text nor a list"),
        ({"size": [12, 20], "counts": "zzzz"}, "not a COCO RLE"),
    ],
)
def test_segmentations_that_are_none_are_refused(segmentation, message):
    with pytest.raises((EvaluationError, DataError), match=message):
        decode_coco(segmentation, SIZE, "a.json: annotations[3]")


def coco(tmp_path: Path, **changed: Any) -> Path:
    content = {
        "images": [
            {"id": 7, "file_name": "b.png", "height": 12, "width": 20},
            {"id": 3, "file_name": "sub/a.png", "height": 12, "width": 20},
            {"id": 4, "file_name": "c.png", "height": 12, "width": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "segmentation": compressed(blob(1)), "iscrowd": 0},
            {"id": 2, "image_id": 3, "segmentation": uncompressed(blob(2)), "iscrowd": 0},
            {"id": 3, "image_id": 7, "segmentation": uncompressed(blob(3)), "iscrowd": 1},
            {"id": 4, "image_id": 7, "segmentation": [[2, 3, 9, 3, 9, 8]]},
        ],
    }
    file = tmp_path / "coco.json"
    file.write_text(json.dumps({**content, **changed}))
    for name in ("b.png", "sub/a.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    return file


def test_a_coco_file_gives_its_objects_without_crowds(tmp_path):
    opened = open_coco(coco(tmp_path), tmp_path / "images")
    assert [image.name for image in opened.images] == ["b.png", "sub/a.png"]
    assert opened.skipped == {"crowds": 1, "images without objects": 1}
    found = opened.images[0].masks(SIZE)
    assert [number for number, _ in found] == [1, 4]
    np.testing.assert_array_equal(found[0][1], blob(1))
    with pytest.raises(EvaluationError, match="b.png: is 12x20, its COCO file says 20x12"):
        opened.images[0].masks((20, 12))
    with pytest.raises(EvaluationError, match=r"b\.png: is no image that can be read"):
        opened.images[0].pixels()


def test_images_of_a_coco_file_that_are_not_there_are_named_at_once(tmp_path):
    file = coco(tmp_path)
    (tmp_path / "images/sub/a.png").unlink()
    with pytest.raises(
        EvaluationError, match=r"images: has no sub/a\.png \(1 of 2 images of coco\.json are not there\)"
    ):
        open_coco(file, tmp_path / "images")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": None}, "with a list of objects 'images'"),
        ({"images": [{"id": 7, "file_name": "../b.png", "height": 1, "width": 1}]}, "inside the folder"),
        ({"images": [{"id": 7, "file_name": "/b.png", "height": 1, "width": 1}]}, "inside the folder"),
        (
            {"images": [{"id": 7, "file_name": "b.png", "height": "1", "width": 1}]},
            "height is '1', expected int",
        ),
        ({"images": [{"id": 7, "file_name": "b", "height": 1 << 20, "width": 1 << 20}]}, "expected 1 to"),
        ({"images": [{"id": 7, "file_name": n, "height": 9, "width": 9} for n in "ab"]}, "another image's"),
        ({"annotations": [{"id": 1, "image_id": 5}]}, "image_id is 5, which no image has"),
        ({"annotations": []}, "has no image with an object"),
    ],
)
def test_coco_files_that_cannot_be_meant_are_refused(tmp_path, changed, message):
    with pytest.raises(EvaluationError, match=message):
        open_coco(coco(tmp_path, **changed), tmp_path)


def test_label_maps_of_all_kinds_give_their_ids(tmp_path):
    ids = np.zeros(SIZE, np.uint8)
    ids[2:5, 3:9], ids[6:9, 10:15], ids[9:11] = 1, 7, 255
    palette = Image.fromarray(ids)
    palette.putpalette(list(range(256)) * 3)
    wide = np.where(ids == 7, np.uint16(4000), ids)
    (tmp_path / "masks" / "d").mkdir(parents=True)
    palette.save(tmp_path / "masks/a.png")
    Image.fromarray(ids).save(tmp_path / "masks/b.png")
    Image.fromarray(wide).save(tmp_path / "masks/c.png")
    Image.fromarray((ids == 1).astype(np.uint8) * 255).save(tmp_path / "masks/d/left.png")
    Image.fromarray((ids > 0).astype(np.uint8) * 255).save(tmp_path / "masks/d/whole.png")
    for name in ("a.jpg", "b.png", "c.webp", "d.JPG"):
        save_image(tmp_path / "images" / name)
    opened = open_folders(tmp_path / "masks", tmp_path / "images", void=255)
    assert [image.name for image in opened.images] == ["a.jpg", "b.png", "c.webp", "d.JPG"]
    found = [dict(image.masks(SIZE)) for image in opened.images]
    assert [list(masks) for masks in found] == [[1, 7], [1, 7], [1, 4000], ["left", "whole"]]
    for masks, (one, two) in zip(found, [(1, 7), (1, 7), (1, 4000), ("left", "whole")], strict=True):
        np.testing.assert_array_equal(masks[one], ids == 1)
        np.testing.assert_array_equal(masks[two], ids > 0 if two == "whole" else ids == 7)
    kept = dict(open_folders(tmp_path / "masks", tmp_path / "images").images[0].masks(SIZE))
    assert list(kept) == [1, 7, 255]
    assert opened.images[0].pixels().shape == (*SIZE, 3)


def test_images_and_masks_may_lie_in_one_folder(tmp_path):
    save_image(tmp_path / "a.jpg")
    Image.fromarray(np.ones(SIZE, np.uint8)).save(tmp_path / "a.png")
    (image,) = open_folders(tmp_path, tmp_path).images
    assert image.path.name == "a.jpg" and [i for i, _ in image.masks(SIZE)] == [1]


def test_folders_that_do_not_fit_are_refused(tmp_path):
    masks, images = tmp_path / "masks", tmp_path / "images"
    with pytest.raises(EvaluationError, match="masks: is no folder"):
        open_folders(masks, images)
    masks.mkdir()
    save_image(images / "a.jpg")
    with pytest.raises(EvaluationError, match=r"a\.jpg: has no mask of its name; 1 images, 0 masks"):
        open_folders(masks, images)
    Image.fromarray(np.ones((5, 5), np.uint8)).save(masks / "a.png")
    with pytest.raises(EvaluationError, match=r"a\.png: is 5x5, its image is 20x12"):
        open_folders(masks, images).images[0].masks(SIZE)
    save_image(masks / "a.png")
    with pytest.raises(EvaluationError, match=r"a\.png: is an RGB image"):
        open_folders(masks, images).images[0].masks(SIZE)
    save_image(images / "a.webp")
    with pytest.raises(EvaluationError, match=r"a\.webp: a\.jpg has the same name"):
        open_folders(masks, images)
