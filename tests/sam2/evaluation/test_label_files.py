"""Reading only the part of a frame that holds objects gives the scores of the whole frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.jf import score_cut, score_frame
from sam2.evaluation.label_files import read_cut, read_ids, read_mask, read_pair

HEIGHT, WIDTH = 23, 31
BOXES = {  # rows and columns
    "inside": (slice(5, 12), slice(8, 20)),
    "top left": (slice(0, 4), slice(0, 3)),
    "bottom right": (slice(17, HEIGHT), slice(25, WIDTH)),
    "last row": (slice(HEIGHT - 1, HEIGHT), slice(3, 9)),
    "one pixel": (slice(9, 10), slice(30, 31)),
    "all": (slice(0, HEIGHT), slice(0, WIDTH)),
    "nothing": (slice(0, 0), slice(0, 0)),
}


def draw(path: Path, where: str, highest: int, mode: str = "P") -> Path:
    """A PNG with ids up to `highest` scattered over a box."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    box = ids[BOXES[where]]
    box[...] = np.random.default_rng(len(where)).integers(0, highest + 1, box.shape)
    box[:1, :1] = box[-1:, -1:] = highest  # so that the box is as large as it says
    if mode == "1":
        image = Image.fromarray(ids > 0)
    else:
        image = Image.fromarray(ids if highest > 1 or mode == "P" else 255 * ids)
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    image.save(path)
    return path


@pytest.mark.parametrize("highest", [1, 5])
@pytest.mark.parametrize("predicted", BOXES)
@pytest.mark.parametrize("true", BOXES)
def test_a_part_of_a_frame_scores_as_the_whole(tmp_path: Path, true: str, predicted: str, highest: int):
    gt = draw(tmp_path / "gt.png", true, highest)
    pred = draw(tmp_path / "pred.png", predicted, highest)
    part = score_cut(read_cut(gt, pred, single=highest == 1))
    for found, expected in zip(part, score_frame(read_ids(gt), read_ids(pred)), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["P", "L", "1"])
@pytest.mark.parametrize("where", BOXES)
def test_one_object_is_the_same_in_every_kind_of_png(tmp_path: Path, where: str, mode: str):
    path, other = draw(tmp_path / "a.png", where, 1, mode), draw(tmp_path / "b.png", "inside", 1)
    truth = read_ids(draw(tmp_path / "c.png", where, 1, "P"))
    np.testing.assert_array_equal(read_mask(path), truth)
    cut = read_cut(path, other, single=True)
    assert cut.frame == (HEIGHT, WIDTH)
    assert cut.gt.dtype == cut.pred.dtype == np.uint8
    assert cut.gt.sum() == truth.sum()
    assert cut.pred.sum() == read_mask(other).sum()


@pytest.mark.parametrize(
    "predicted, part",
    [("one pixel", np.s_[4:13, 7:31]), ("top left", np.s_[0:13, 0:21]), ("nothing", np.s_[4:13, 7:21])],
)
def test_the_part_is_what_holds_both_objects_and_one_pixel_around(tmp_path: Path, predicted: str, part):
    gt, pred = draw(tmp_path / "gt.png", "inside", 1), draw(tmp_path / "pred.png", predicted, 1)
    cut, (truth, guess) = read_cut(gt, pred, single=True), read_pair(gt, pred, single=True)
    np.testing.assert_array_equal(cut.gt, truth[part])
    np.testing.assert_array_equal(cut.pred, guess[part])


@pytest.mark.parametrize("side", ["gt", "pred"])
def test_several_objects_where_one_is_expected_are_named(tmp_path: Path, side: str):
    files = {name: draw(tmp_path / f"{name}.png", "inside", 1) for name in ("gt", "pred")}
    draw(files[side], "inside", 3)
    with pytest.raises(EvaluationError, match=rf"{side}\.png: has the values 1, 2, 3 beside 0"):
        read_cut(files["gt"], files["pred"], single=True)


def test_frames_of_two_sizes_are_refused(tmp_path: Path):
    gt = draw(tmp_path / "gt.png", "inside", 1)
    Image.new("L", (WIDTH, HEIGHT - 1)).save(tmp_path / "pred.png")
    with pytest.raises(EvaluationError, match=r"pred\.png: is 31x22, its ground truth .*gt\.png is 31x23"):
        read_cut(gt, tmp_path / "pred.png", single=True)
