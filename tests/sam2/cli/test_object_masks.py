"""Masks of a frame in and out of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from sam2.cli.object_masks import (
    MaskFileError,
    areas,
    from_run_lengths,
    read_mask,
    run_lengths,
)
from sam2.evaluation.label_maps import write_label_map

SIZE = (6, 9)
SQUARE = np.zeros(SIZE, np.uint8)
SQUARE[1:4, 2:5] = 1
TWO = SQUARE.copy()
TWO[4:, 6:] = 2


def saved(folder: Path, image: Image.Image, name: str = "mask.png") -> Path:
    image.save(folder / name)
    return folder / name


@pytest.mark.parametrize("value", [1, 7, 255])
@pytest.mark.parametrize("mode", ["L", "1", "I;16"])
def test_one_value_beside_0_is_the_object(tmp_path: Path, mode: str, value: int) -> None:
    pixels = (
        SQUARE.astype(bool) if mode == "1" else SQUARE.astype("uint16" if mode == "I;16" else "uint8") * value
    )
    path = saved(tmp_path, Image.fromarray(pixels))
    assert (read_mask(path, 3, SIZE) == (SQUARE == 1)).all()


def test_the_object_is_chosen_from_a_palette_image_of_several(tmp_path: Path) -> None:
    write_label_map(tmp_path / "two.png", TWO)
    for object_id in (1, 2):
        assert (read_mask(tmp_path / "two.png", object_id, SIZE) == (object_id == TWO)).all()
    with pytest.raises(MaskFileError, match=r"two\.png has the values 1, 2; choose one with --object, now 3"):
        read_mask(tmp_path / "two.png", 3, SIZE)
    write_label_map(tmp_path / "one.png", 9 * SQUARE)
    assert (read_mask(tmp_path / "one.png", 3, SIZE) == (SQUARE == 1)).all()


def test_mask_files_that_say_nothing_are_named(tmp_path: Path) -> None:
    def refused(path: Path, match: str) -> None:
        with pytest.raises(MaskFileError, match=match):
            read_mask(path, 1, SIZE)

    refused(tmp_path / "none.png", r"none\.png does not exist")
    refused(tmp_path, "is no file")
    refused(saved(tmp_path, Image.fromarray(np.zeros(SIZE, np.uint8))), r"mask\.png is empty")
    refused(saved(tmp_path, Image.fromarray(SQUARE.T)), "is 6x9, the frames are 9x6")
    refused(saved(tmp_path, Image.fromarray(TWO)), "has the values 1, 2; expected one beside 0")
    refused(saved(tmp_path, Image.fromarray(np.stack([SQUARE] * 3, -1))), "is a RGB image")
    (tmp_path / "text.png").write_text("no picture")
    refused(tmp_path / "text.png", "no image that can be read")
    whole = saved(tmp_path, Image.fromarray(SQUARE)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.png", "no image that can be read")


def test_run_lengths_are_those_of_coco() -> None:
    masks = np.stack([SQUARE == 1, TWO == 2, np.zeros(SIZE, bool), np.ones(SIZE, bool)])
    packed = run_lengths(masks)
    assert packed[3] == {
        "size": [6, 9],
        "counts": coco.frPyObjects({"size": [6, 9], "counts": [0, 54]}, 6, 9)["counts"].decode(),
    }
    for one, mask in zip(packed, masks, strict=True):
        assert (coco.decode(one) == mask).all()
    assert (from_run_lengths(packed) == masks).all()
    assert areas(packed) == [9, 6, 0, 54]
