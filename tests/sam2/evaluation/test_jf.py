"""J and F against the published tools' numbers, against a plain dilation, and against what must hold."""

from __future__ import annotations

import json
import math
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sam2.evaluation.boundary import Grid, boundary_keys, boundary_map, tolerance_px
from sam2.evaluation.jf import score_frame, score_masks, score_sequence

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
GOLDEN = Path(__file__).parents[2] / "golden_eval"
RAW: dict[str, Any] = json.loads((GOLDEN / "per_frame_raw.json").read_text())["per_sequence"]
CASES: dict[str, Any] = json.loads((GOLDEN / "boundary_cases.json").read_text())


@cache
def load(sequence: str) -> tuple[np.ndarray, np.ndarray]:
    def read(side: str) -> np.ndarray:
        folder = GOLDEN / "vos" / side / sequence
        return np.stack([np.asarray(Image.open(folder / f"{name}.png")) for name in RAW[sequence]["frames"]])

    return read("gt"), read("pred")


def masks_of(ids: np.ndarray, objects: list[int]) -> np.ndarray:
    return np.stack([ids == i for i in objects], axis=1)


# ------------------------------------------------------------------------------------------------ an oracle


def naive_boundary(mask: np.ndarray) -> np.ndarray:
    """Pixel by pixel from the definition."""
    height, width = mask.shape
    found = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            window = mask[y : y + 2, x : x + 2]
            found[y, x] = window.any() and not window.all()
    return found


def naive_dilate(points: np.ndarray, radius: int) -> np.ndarray:
    """Every pixel within `radius` of a point, one offset at a time."""
    height, width = points.shape
    found = np.zeros_like(points)
    for y, x in np.argwhere(points):
        rows, columns = np.ogrid[:height, :width]
        found |= (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return found


def naive_scores(gt: np.ndarray, pred: np.ndarray) -> tuple[float, float]:
    union = np.count_nonzero(gt | pred)
    j = np.count_nonzero(gt & pred) / union if union else 1.0
    g, p = naive_boundary(gt), naive_boundary(pred)
    if not g.any() or not p.any():
        return j, float(g.any() == p.any())
    radius = tolerance_px(*gt.shape)
    precision = np.count_nonzero(p & naive_dilate(g, radius)) / np.count_nonzero(p)
    recall = np.count_nonzero(g & naive_dilate(p, radius)) / np.count_nonzero(g)
    return j, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


SIZES = st.tuples(st.integers(1, 13), st.integers(1, 70))


@st.composite
def id_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two small maps: noise, rectangles, or one a shifted copy of the other."""
    shape = draw(SIZES)
    ids = st.sampled_from([0, 0, 0, 1, 2, 7])
    gt = draw(arrays(np.uint8, shape, elements=ids))
    if draw(st.booleans()):
        gt = np.kron(gt, np.ones((3, 3), np.uint8))[: shape[0], : shape[1]]
    if draw(st.booleans()):
        return gt, np.roll(gt, draw(st.tuples(st.integers(-3, 3), st.integers(-3, 3))), (0, 1))
    return gt, draw(arrays(np.uint8, shape, elements=ids))


# ------------------------------------------------------------------------------------------------ published numbers


@pytest.mark.parametrize("sequence", RAW)
def test_every_frame_equals_the_published_tool_to_the_last_bit(sequence):
    scores = score_sequence(*load(sequence))
    expected = RAW[sequence]["objects"]
    assert [str(i) for i in scores] == list(expected)
    for i, (j, f) in scores.items():
        assert j.tolist() == expected[str(i)]["J"]
        assert f.tolist() == expected[str(i)]["F"]


@pytest.mark.parametrize("sequence", RAW)
def test_masks_score_as_the_id_map_they_come_from(sequence):
    gt, pred = load(sequence)
    objects = [int(i) for i in RAW[sequence]["objects"]]
    scores = score_masks(masks_of(gt, objects), masks_of(pred, objects))
    for column, i in enumerate(objects):
        assert scores.j[:, column].tolist() == RAW[sequence]["objects"][str(i)]["J"]
        assert scores.f[:, column].tolist() == RAW[sequence]["objects"][str(i)]["F"]


@pytest.mark.parametrize("sequence", ["a480_two", "c1080_four", "e_void255", "i_pixels"])
def test_areas_and_boundaries_have_the_published_sizes(sequence):
    for t, (gt, pred) in enumerate(zip(*load(sequence), strict=True)):
        frame = score_frame(gt, pred, [int(i) for i in RAW[sequence]["objects"]])
        grid = Grid(*gt.shape, tolerance_px(*gt.shape))
        for n, expected in enumerate(RAW[sequence]["objects"].values()):
            assert (frame.gt_area[n], frame.pred_area[n]) == (
                expected["gt_area"][t],
                expected["pred_area"][t],
            )
            one = frame.ids[n : n + 1]
            assert len(boundary_keys(gt, one, grid)) == expected["gt_boundary"][t]
            assert len(boundary_keys(pred, one, grid)) == expected["pred_boundary"][t]


@pytest.mark.parametrize("case", CASES["boundary_maps"], ids=lambda case: case["name"])
def test_boundary_maps_follow_the_edge_rules(case):
    mask = np.array([[cell == "#" for cell in row] for row in case["mask"]])
    expected = np.array([[cell == "#" for cell in row] for row in case["boundary"]])
    np.testing.assert_array_equal(boundary_map(mask), expected)


@pytest.mark.parametrize("case", CASES["tolerance"], ids=lambda case: f"{case['h']}x{case['w']}")
def test_tolerance_grows_with_the_diagonal(case):
    assert tolerance_px(case["h"], case["w"]) == case["bound_pix"]


# ------------------------------------------------------------------------------------------------ the definition


@settings(PATIENT, max_examples=150)
@given(id_maps())
def test_scores_equal_a_plain_dilation(maps):
    gt, pred = maps
    for i, j, f in zip(*score_frame(gt, pred)[:3], strict=True):
        assert (j, f) == naive_scores(gt == i, pred == i)


@settings(PATIENT, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_scores_equal_a_plain_dilation_at_a_wide_tolerance(seed):
    random = np.random.default_rng(seed)
    gt, pred = (random.random((2, 9, 700)) < 0.004).astype(np.uint8)  # 9 x 700: the tolerance is 6 pixels
    for i, j, f in zip(*score_frame(gt, pred)[:3], strict=True):
        assert (j, f) == naive_scores(gt == i, pred == i)


@settings(PATIENT, max_examples=60)
@given(id_maps())
def test_exchanging_prediction_and_truth_changes_nothing(maps):
    gt, pred = maps
    here, there = score_frame(gt, pred), score_frame(pred, gt)
    np.testing.assert_array_equal(here.j, there.j)
    np.testing.assert_allclose(here.f, there.f, rtol=1e-15)


@settings(PATIENT, max_examples=60)
@given(id_maps())
def test_identical_masks_score_one(maps):
    frame = score_frame(maps[0], maps[0].copy())
    assert set(frame.j) | set(frame.f) <= {1.0}


@settings(PATIENT, max_examples=60)
@given(id_maps(), st.integers(2, 30), st.integers(2, 30))
def test_a_shift_inside_a_larger_image_changes_nothing(maps, dy, dx):
    def put(ids, y, x):
        canvas = np.zeros((64, 128), np.uint8)
        canvas[y : y + ids.shape[0], x : x + ids.shape[1]] = ids
        return canvas

    gt, pred = maps
    near = score_frame(put(gt, 1, 1), put(pred, 1, 1))
    far = score_frame(put(gt, dy, dx), put(pred, dy, dx))
    for a, b in zip(near, far, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("distance", "expected"), [(1, 1.0), (2, 1.0), (3, 0.0)])
def test_boundaries_match_up_to_the_tolerance_and_not_beyond(distance, expected):
    gt, pred = np.zeros((2, 120, 160), np.uint8)  # tolerance 2
    gt[:, :50], pred[:, : 50 + distance] = 1, 1
    assert score_frame(gt, pred).f.tolist() == [expected]


def test_the_tolerance_is_a_disk_and_not_a_square():
    gt, pred = np.zeros((2, 120, 160), np.uint8)
    gt[50, 50], pred[52, 52] = 1, 1  # nearest boundary pixels lie (1, 1) apart, others up to (3, 3)
    assert score_frame(gt, pred).f.tolist() == [naive_scores(gt > 0, pred > 0)[1]]
    assert 0 < score_frame(gt, pred).f[0] < 1


def test_ids_beyond_a_byte_score_as_small_ones():
    gt, pred = (ids.astype(np.int64) for ids in load("g_sparse_ids"))
    small, large = score_sequence(gt, pred), score_sequence(gt * 70_001, pred * 70_001)
    assert list(large) == [i * 70_001 for i in small]
    for i, scores in small.items():
        np.testing.assert_array_equal(large[i * 70_001], scores)


def test_more_objects_than_a_byte_holds_keep_their_order():
    gt = np.arange(1, 601, dtype=np.uint16).repeat(4).reshape(600, 4)
    pred = gt.copy()
    pred[gt % 3 == 0] = 0
    asked = list(range(600, 0, -1))
    frame = score_frame(gt, pred, asked)
    assert frame.ids.tolist() == asked
    assert frame.j.tolist() == [float(i % 3 != 0) for i in asked]


# ------------------------------------------------------------------------------------------------ empty masks


EMPTY, FULL = np.zeros((20, 30), np.uint8), np.ones((20, 30), np.uint8)
SMALL = np.pad(np.ones((4, 4), np.uint8), ((8, 8), (13, 13)))


@pytest.mark.parametrize(
    ("gt", "pred", "expected"),
    [
        (EMPTY, EMPTY, (1.0, 1.0)),
        (SMALL, EMPTY, (0.0, 0.0)),
        (EMPTY, SMALL, (0.0, 0.0)),
        (FULL, FULL, (1.0, 1.0)),
        (FULL, EMPTY, (0.0, 1.0)),  # neither has a boundary
        (FULL, SMALL, (16 / 600, 0.0)),
    ],
    ids=["both empty", "missed", "ghost", "both full", "full against empty", "full against small"],
)
def test_empty_masks_and_empty_boundaries_have_their_own_rules(gt, pred, expected):
    frame = score_frame(gt, pred, [1])
    assert (frame.j[0], frame.f[0]) == expected
    masks = score_masks(gt[None, None] > 0, pred[None, None] > 0)
    assert (masks.j[0, 0], masks.f[0, 0]) == expected


def test_an_object_counts_as_right_where_neither_map_has_it():
    gt, pred = np.zeros((2, 4, 20, 30), np.uint8)
    gt[2], pred[2] = SMALL, SMALL
    pred[0] = SMALL  # a ghost, before the object is first seen
    assert score_sequence(gt, pred)[1].j.tolist() == [0.0, 1.0, 1.0, 1.0]


def test_an_id_that_only_the_prediction_knows_is_background():
    gt, pred = SMALL[None], SMALL[None].copy()
    pred[0, :3] = 9
    assert list(score_sequence(gt, pred)) == [1]
    assert score_sequence(gt, pred)[1].j.tolist() == [1.0]
    assert score_frame(gt[0], pred[0]).ids.tolist() == [1, 9]  # a stricter protocol can see it


def test_objects_may_be_named():
    gt, pred = load("a480_two")
    both, one = score_sequence(gt[:2], pred[:2]), score_sequence(gt[:2], pred[:2], ids=[2, 6])
    np.testing.assert_array_equal(one[2], both[2])
    assert one[6].j.tolist() == [1.0, 1.0]
    assert score_sequence(gt[:2], pred[:2], ids=[]) == {}


def test_overlapping_masks_are_scored_apart():
    gt = np.stack([SMALL, FULL]).astype(bool)[None]
    pred = np.stack([FULL, FULL]).astype(bool)[None]
    assert score_masks(gt, pred).j.tolist() == [[16 / 600, 1.0]]


def test_no_frames_and_no_objects_give_empty_scores():
    assert score_sequence(np.zeros((0, 5, 5), int), np.zeros((0, 5, 5), int)) == {}
    assert score_masks(np.zeros((0, 3, 5, 5), bool), np.zeros((0, 3, 5, 5), bool)).j.shape == (0, 3)
    assert score_masks(np.zeros((2, 0, 5, 5), bool), np.zeros((2, 0, 5, 5), bool)).f.shape == (2, 0)


# ------------------------------------------------------------------------------------------------ streams and mistakes


def test_frames_may_be_streamed_and_memory_does_not_grow_with_them():
    gt, pred = load("d_odd")

    def frames(source: np.ndarray, count: int):
        return (source[t % len(source)].copy() for t in range(count))

    def peak_bytes(count: int) -> int:
        tracemalloc.start()
        score_sequence(frames(gt, count), frames(pred, count))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(2)
    assert peak_bytes(100) - peak_bytes(10) < gt[0].nbytes  # 90 more frames cost less than one image
    streamed, whole = score_sequence(frames(gt, len(gt)), frames(pred, len(gt))), score_sequence(gt, pred)
    np.testing.assert_array_equal(streamed[1], whole[1])


@pytest.mark.parametrize(
    ("gt", "pred", "error", "message"),
    [
        (
            np.zeros((2, 4, 5), int),
            np.zeros((2, 5, 4), int),
            ValueError,
            r"gt \(2, 4, 5\) and pred \(2, 5, 4\)",
        ),
        (np.zeros((4, 5), int), np.zeros((4, 5), int), ValueError, r"must both be \(T, H, W\)"),
        (np.zeros((1, 4, 5)), np.zeros((1, 4, 5)), TypeError, r"frame 0: gt .* integer ids, got float64"),
        (np.zeros((1, 4, 5), bool), np.zeros((1, 4, 5), bool), TypeError, r"score_masks"),
        (np.zeros((1, 4, 5), int), np.full((1, 4, 5), -1), ValueError, r"frame 0: pred holds the id -1"),
        ([np.zeros((4, 5), int)] * 2, [np.zeros((4, 5), int)], ValueError, r"pred ends after 1 frames"),
        ([np.zeros((4, 5), int)] * 2, [np.zeros((4, 5), int), np.zeros((4, 6), int)], ValueError, r"frame 1"),
    ],
    ids=["size", "one frame", "float", "bool", "negative", "length", "later size"],
)
def test_wrong_maps_are_named(gt, pred, error, message):
    with pytest.raises(error, match=message):
        score_sequence(gt, pred)


def test_wrong_masks_are_named():
    with pytest.raises(TypeError, match="frame 0: gt .* bool masks, got uint8"):
        score_masks(np.zeros((1, 1, 4, 5), np.uint8), np.zeros((1, 1, 4, 5), bool))
    with pytest.raises(ValueError, match=r"\(T, O, H, W\)"):
        score_masks(np.zeros((1, 4, 5), bool), np.zeros((1, 4, 5), bool))
    with pytest.raises(ValueError, match=r"frame 0: gt \(1, 4, 5\) and pred \(2, 4, 5\)"):
        score_masks([np.zeros((1, 4, 5), bool)], [np.zeros((2, 4, 5), bool)])


@pytest.mark.parametrize("ids", [[0], [1, 1], [-3]])
def test_object_ids_are_positive_and_unique(ids):
    with pytest.raises(ValueError, match="start at 1"):
        score_frame(EMPTY, EMPTY, ids)


def test_tolerance_is_rounded_up_from_the_exact_diagonal():
    assert tolerance_px(375, 500) == 5  # the diagonal is 625: exactly 5, not 6
    assert all(
        tolerance_px(h, w) == math.ceil(0.008 * np.linalg.norm((h, w)))
        for h in (1, 97, 720)
        for w in range(1, 1500)
    )
