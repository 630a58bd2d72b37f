"""Dice, Boundary IoU, HD95 and NSD: values of other libraries, closed forms and brute force.

surfaces_recorded.json says by which libraries and versions its values were made.
"""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam2.evaluation import surfaces
from sam2.evaluation.boundary import Bools
from sam2.evaluation.surfaces import (
    band_px,
    boundary_iou,
    dice,
    hd95,
    nsd,
    surface_distances,
    surface_voxels,
)

CASES = json.loads(Path(__file__).with_name("surfaces_recorded.json").read_text())["cases"]
ids = ["x".join(map(str, case["shape"])) for case in CASES]


def unpack(case: dict[str, Any], name: str) -> Bools:
    bits = np.frombuffer(base64.b64decode(case[name]), np.uint8)
    return np.unpackbits(bits, count=math.prod(case["shape"])).reshape(case["shape"]).astype(bool)


def filled(shape: tuple[int, ...], *box: slice) -> Bools:
    mask = np.zeros(shape, bool)
    mask[box] = True
    return mask


# ------------------------------------------------------------------------------------------------- other libraries


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_numbers_are_those_of_medpy(case: dict[str, Any]) -> None:
    gt, pred, wanted = unpack(case, "gt"), unpack(case, "pred"), case["medpy"]
    found = surface_distances(gt, pred, case["spacing"])
    assert dice(gt, pred) == pytest.approx(wanted["dice"], abs=1e-9)
    assert max(values.max() for values in found) == pytest.approx(wanted["hd"], abs=1e-9)
    assert found.gt_to_pred.mean() == pytest.approx(wanted["asd_gt_to_pred"], abs=1e-9)
    assert found.pred_to_gt.mean() == pytest.approx(wanted["asd_pred_to_gt"], abs=1e-9)
    assert hd95(found) == pytest.approx(wanted["hd95"], abs=1e-9)
    assert nsd(found, case["tolerance"]) == pytest.approx(wanted["nsd"], abs=1e-9)


@pytest.mark.parametrize("case", [c for c in CASES if "monai" in c], ids=lambda c: str(c["shape"]))
def test_hd95_and_nsd_are_those_of_monai_as_far_as_its_float32_goes(case: dict[str, Any]) -> None:
    found = surface_distances(unpack(case, "gt"), unpack(case, "pred"), case["spacing"])
    assert hd95(found) == pytest.approx(case["monai"]["hd95"], rel=1e-6)
    assert nsd(found, case["tolerance"]) == pytest.approx(case["monai"]["nsd"], rel=1e-6)


@pytest.mark.parametrize("case", [c for c in CASES if "scipy" in c], ids=lambda c: str(c["shape"]))
def test_boundary_iou_is_that_of_repeated_erosions_with_a_square(case: dict[str, Any]) -> None:
    assert band_px(*case["shape"]) == case["scipy"]["band_px"]
    found = boundary_iou(unpack(case, "gt"), unpack(case, "pred"))
    assert found == pytest.approx(case["scipy"]["boundary_iou"], abs=1e-9)


# ----------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize(("axis", "mm"), [(0, 6.0), (1, 1.4), (2, 1.0)])
def test_planes_are_as_far_apart_as_the_spacing_says(axis: int, mm: float) -> None:
    # slabs over the whole volume, moved by two voxels: faces inside it are two voxels apart
    shape, spacing = (12, 12, 12), (3.0, 0.7, 0.5)
    gt, pred = (np.zeros(shape, bool) for _ in range(2))
    np.moveaxis(gt, axis, 0)[4] = True
    np.moveaxis(pred, axis, 0)[6] = True
    found = surface_distances(gt, pred, spacing)
    np.testing.assert_allclose(np.concatenate(found), mm, rtol=1e-12)
    assert hd95(found) == pytest.approx(mm) and nsd(found, mm) == 1 and nsd(found, 0.99 * mm) == 0


def test_a_moved_cube_overlaps_by_the_rest_and_its_nsd_counts_voxels() -> None:
    # cubes with a side of 6, moved by 1: 5/6 of each overlap; 6^3 - 4^3 surface voxels
    gt, pred = (filled((10, 10, 10), np.s_[a : a + 6], np.s_[2:8], np.s_[2:8]) for a in (2, 3))
    assert dice(gt, pred) == pytest.approx(5 / 6)
    assert len(surface_voxels(gt)) == 6**3 - 4**3
    found = surface_distances(gt, pred, (1, 1, 1))
    assert hd95(found) == 1 and nsd(found, 1) == 1
    # of one cube, within 0: its sides without the layer that stands out (36 voxels) and without the inside of
    # the layer that is the other's end face (16 voxels)
    assert nsd(found, 0) == pytest.approx((152 - 36 - 16) / 152)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.5, 1.0)])
def test_balls_around_one_point_are_as_far_apart_as_their_radii_differ(
    spacing: tuple[float, float, float],
) -> None:
    z, y, x = (np.arange(-24, 25) * step for step in spacing)
    squares = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
    found = surface_distances(squares <= 11**2, squares <= 7**2, spacing)
    assert hd95(found) == pytest.approx(4, abs=math.hypot(*spacing) / 2)
    assert nsd(found, 4 + math.hypot(*spacing)) == 1 and nsd(found, 1) == 0


def test_boundary_iou_of_a_square_in_a_large_image_is_that_of_its_frame() -> None:
    # a 300x400 image: 2 % of 500 is 10; squares of 100, one of them 10 shorter
    gt = filled((300, 400), np.s_[50:150], np.s_[50:150])
    pred = filled((300, 400), np.s_[50:150], np.s_[50:140])
    assert band_px(300, 400) == 10
    common = 2 * 10 * 90 + 80 * 10  # top, bottom, left; the right ends do not meet but there
    both = (100**2 - 80**2) + (100 * 90 - 80 * 70) - common
    assert boundary_iou(gt, pred) == pytest.approx(common / both)


def test_the_edge_of_the_image_is_a_contour_and_a_surface() -> None:
    full = np.ones((30, 40), bool)
    assert len(surface_voxels(full)) == 2 * 30 + 2 * 40 - 4
    inner = full.copy()
    inner[1:-1, 1:-1] = False  # band of one pixel: both are the frame
    assert band_px(30, 40) == 1 and boundary_iou(full, inner) == 1


def test_three_steps_of_a_tenth_are_within_three_tenths() -> None:
    gt, pred = filled((1, 8), np.s_[:], np.s_[0:1]), filled((1, 8), np.s_[:], np.s_[3:4])
    found = surface_distances(gt, pred, (0.1, 0.1))
    assert found.gt_to_pred[0] > 0.3  # by the rounding of 0.1
    assert nsd(found, 0.3) == 1


# ------------------------------------------------------------------------------------------------------ empty cases


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6)])
def test_two_empty_masks_agree(shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape, bool)
    found = surface_distances(empty, empty, (1.0,) * len(shape))
    assert dice(empty, empty) == 1 and nsd(found, 1) == 1 and hd95(found) == 0
    assert boundary_iou(np.zeros((5, 6), bool), np.zeros((5, 6), bool)) == 1


@pytest.mark.parametrize("swap", [False, True])
def test_one_empty_mask_has_no_distance_and_else_nothing_in_common(swap: bool) -> None:
    some, empty = filled((5, 6), np.s_[1:4], np.s_[2:4]), np.zeros((5, 6), bool)
    gt, pred = (empty, some) if swap else (some, empty)
    found = surface_distances(gt, pred, (1, 1))
    assert dice(gt, pred) == 0 and nsd(found, 1e300) == 0 and hd95(found) is None
    assert boundary_iou(gt, pred) == 0


# ------------------------------------------------------------------------------------------------------ brute force


def brute_surface(mask: Bools) -> list[tuple[int, ...]]:
    def holds(place: tuple[int, ...]) -> bool:
        return all(0 <= p < n for p, n in zip(place, mask.shape, strict=True)) and bool(mask[place])

    found = []
    for place in map(tuple, np.argwhere(mask).tolist()):
        sides = [
            (*place[:axis], place[axis] + step, *place[axis + 1 :])
            for axis in range(mask.ndim)
            for step in (-1, 1)
        ]
        if not all(map(holds, sides)):
            found.append(place)
    return found


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Bools, Bools, tuple[float, ...]]:
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=2, max_size=3)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    gt, pred = (random.random(shape) < draw(st.sampled_from([0.03, 0.3, 0.9])) for _ in range(2))
    spacing = tuple(draw(st.lists(st.floats(0.1, 9), min_size=len(shape), max_size=len(shape))))
    return gt, pred, spacing


@settings(max_examples=80, deadline=None)
@given(pairs(), st.sampled_from([1, 3, 512]))
def test_distances_are_the_least_over_all_pairs(
    masks: tuple[Bools, Bools, tuple[float, ...]], samples: int
) -> None:
    gt, pred, spacing = masks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surfaces, "_SAMPLES", samples)  # few, so that the search has something left to find
        found = surface_distances(gt, pred, spacing)
    sides = [np.array(brute_surface(m)).reshape(-1, gt.ndim) * spacing for m in (gt, pred)]
    for values, (start, goal) in zip(found, (sides, sides[::-1]), strict=True):
        apart = np.linalg.norm(start[:, None] - goal[None], axis=-1)
        np.testing.assert_allclose(values, apart.min(axis=1, initial=np.inf), rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32))
def test_the_band_is_what_is_near_something_outside(height: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    masks = [np.kron(random.random((7, 7)) < 0.8, np.ones((10, 10)))[:height, :width] > 0 for _ in range(2)]
    px = band_px(height, width)

    def band(mask: Bools) -> Bools:
        padded = np.pad(mask, px)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * px + 1, 2 * px + 1))
        return mask & ~windows.all((2, 3))

    gt, pred = map(band, masks)
    union = (gt | pred).sum()
    assert boundary_iou(*masks) == ((gt & pred).sum() / union if union else 1)


# ---------------------------------------------------------------------------------------------------------- mistakes


def test_what_cannot_be_meant_is_refused() -> None:
    flat, deep = np.zeros((4, 5), bool), np.zeros((3, 4, 5), bool)
    with pytest.raises(ValueError, match=r"\(4, 5\).*\(3, 4, 5\)"):
        dice(flat, deep)
    with pytest.raises(TypeError, match="uint8"):
        dice(flat.astype(np.uint8), flat)
    with pytest.raises(ValueError, match="slice by slice"):
        boundary_iou(deep, deep)
    with pytest.raises(ValueError, match="2 numbers.*need 3"):
        surface_distances(deep, deep, (1, 1))
    with pytest.raises(ValueError, match="positive"):
        surface_distances(deep, deep, (1, 0, 1))
    with pytest.raises(ValueError, match="tolerance -1"):
        nsd(surface_distances(flat, flat, (1, 1)), -1)
