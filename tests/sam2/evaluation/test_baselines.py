from __future__ import annotations

import numpy as np
import pytest

from sam2.evaluation.baselines import all_foreground, copy_first_mask, everything_foreground, object_masks
from sam2.evaluation.jf import score_masks, score_sequence


@pytest.fixture
def ids() -> np.ndarray:
    ids = np.zeros((4, 20, 30), np.int32)
    for t in range(4):
        ids[t, 2:8, 2 + t : 8 + t] = 5
    ids[2:, 12:18, 10:20] = 9
    return ids


def test_masks_of_an_id_map_score_as_the_map(ids):
    objects, masks = object_masks(ids)
    pred = np.roll(ids, 1, axis=1)
    scores, expected = score_masks(masks, object_masks(pred)[1]), score_sequence(ids, pred)
    assert objects == (5, 9) == tuple(expected)
    for column, i in enumerate(objects):
        np.testing.assert_array_equal(scores.j[:, column], expected[i].j)
        np.testing.assert_array_equal(scores.f[:, column], expected[i].f)


def test_the_first_mask_is_kept_from_where_it_appears(ids):
    masks = object_masks(ids)[1]
    copied = copy_first_mask(masks)
    np.testing.assert_array_equal(copied[:, 0], np.repeat(masks[:1, 0], 4, axis=0))
    assert not copied[:2, 1].any()
    np.testing.assert_array_equal(copied[2:, 1], masks[2:, 1])


def test_copying_scores_the_overlap_that_motion_leaves(ids):
    masks = object_masks(ids)[1]
    expected = [(6 - t) / (6 + t) for t in range(4)]  # a 6 pixels wide square that moves t pixels
    assert score_masks(masks, copy_first_mask(masks)).j[:, 0].tolist() == expected


def test_an_object_that_never_appears_is_copied_as_nothing():
    assert not copy_first_mask(np.zeros((3, 1, 4, 4), bool)).any()


def test_everything_foreground_scores_the_share_of_the_image(ids):
    masks = object_masks(ids)[1]
    scores = score_masks(masks, everything_foreground(masks))
    assert scores.j[0].tolist() == [36 / 600, 0.0]
    assert scores.f[0].tolist() == [0.0, 1.0]  # neither the whole image nor an absent object has a boundary


def test_all_foreground_gives_every_object_the_union_of_the_true_masks(ids):
    masks = object_masks(ids)[1]
    predicted = all_foreground(masks)
    np.testing.assert_array_equal(predicted[:, 0], ids > 0)
    np.testing.assert_array_equal(predicted[:, 1], ids > 0)
    scores = score_masks(masks, predicted)
    assert scores.j[0].tolist() == [1.0, 0.0]  # one object alone is right, the absent one is a ghost
    assert scores.j[2].tolist() == [36 / 96, 60 / 96]


@pytest.mark.parametrize("masks", [np.zeros((2, 3, 4), bool), np.zeros((1, 2, 3, 4), np.uint8)])
def test_baselines_take_masks_only(masks):
    with pytest.raises(ValueError, match=r"\(T, O, H, W\) bool"):
        copy_first_mask(masks)
    with pytest.raises(ValueError, match=r"\(T, O, H, W\) bool"):
        all_foreground(masks)
    with pytest.raises(ValueError, match=r"\(T, O, H, W\) bool"):
        everything_foreground(masks)


def test_an_id_map_holds_integers():
    with pytest.raises(ValueError, match="float64"):
        object_masks(np.zeros((1, 2, 3)))
