"""Masks of all objects as one palette image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sam2.evaluation.label_maps import label_map, write_label_map


def test_of_two_objects_the_surer_one_has_the_pixel() -> None:
    logits = torch.tensor([[[3.0, 1.0, -1.0, -5.0]], [[2.0, 4.0, 0.5, -1.0]]])
    assert label_map(logits, [200, 7]).tolist() == [[200, 7, 7, 0]]


def test_palette_images_hold_ids_in_the_colours_of_davis(tmp_path: Path) -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_label_map(tmp_path / "ids.png", ids)
    with Image.open(tmp_path / "ids.png") as image:
        assert image.mode == "P" and (np.array(image) == ids).all()
        colours = np.array(image.convert("RGB")).reshape(-1, 3).tolist()
    # as in the annotations of DAVIS 2017
    assert colours[:6] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]]
    assert colours[8:10] == [[64, 0, 0], [192, 0, 0]] and colours[255] == [224, 224, 192]
