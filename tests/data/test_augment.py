"""Held against the reference's chain, step by step with PIL and torchvision, on the same drawn parameters."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from data.augment import AugmentConfig, augment, draw
from data.clip import DataError
from data.colour import Colour, colour_table
from data.decode import Masklet
from data.warp import FILL, Geometry, warp_frames, warp_masks

NOTHING = AugmentConfig(*(0.0,) * 14)
GEOMETRY = AugmentConfig(0.5, 0.5, 0.5, 1.0, 25.0, 20.0, *(0.0,) * 8)


def picture(height, width, seed=0):
    """Smooth colours, edges and fine texture; values from 30 to 225, so that no step clips."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 196, (height // 12, width // 12, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    smooth[height // 3 : height // 2, width // 4 : width // 2] = (200, 80, 60)
    return (smooth + rng.normal(0, 3, smooth.shape)).clip(30, 225).astype(np.uint8)


def blob(height, width, cy=0.5, cx=0.5, radius=0.2):
    y, x = np.mgrid[:height, :width] + 0.5
    angle = np.arctan2(y / height - cy, x / width - cx)
    r = np.hypot(y / height - cy, (x / width - cx) * width / height)
    return (r < radius * (1 + 0.3 * np.cos(3 * angle))).astype(np.uint8)


def masklet(masks):
    masks = np.asarray(masks)
    rows, columns = np.flatnonzero(masks.any((0, 2))), np.flatnonzero(masks.any((0, 1)))
    if not len(rows):
        return Masklet(masks[:, :0, :0], 0, 0, *masks.shape[1:])
    top, left = rows[0], columns[0]
    return Masklet(
        masks[:, top : rows[-1] + 1, left : columns[-1] + 1], int(top), int(left), *masks.shape[1:]
    )


def official_geometry(frame, masks, geometry, size):
    """Flip, turn at full size (masks nearest), then shrink with antialiasing: the reference's order."""
    image, planes = Image.fromarray(frame), torch.from_numpy(np.asarray(masks))[:, None]
    if geometry.flip_x:
        image, planes = TF.hflip(image), TF.hflip(planes)
    if geometry.flip_y:
        image, planes = TF.vflip(image), TF.vflip(planes)
    if geometry.affine:
        angle, shear = geometry.affine
        how = {"angle": angle, "translate": [0, 0], "scale": 1.0, "shear": [shear, 0.0]}
        image = TF.affine(image, **how, interpolation=InterpolationMode.BILINEAR, fill=[123, 116, 103])
        planes = TF.affine(planes, **how, interpolation=InterpolationMode.NEAREST, fill=0)
    image = TF.resize(image, [size, size])
    planes = TF.resize(planes, [size, size], antialias=True)
    image = image.transpose(Image.Transpose.TRANSPOSE) if geometry.transpose else image
    planes = planes.transpose(2, 3) if geometry.transpose else planes
    return np.asarray(image).astype(float), planes[:, 0].bool()


def finished(*given, **named):
    frames, masks = augment(*given, **named)
    return frames.finish(), masks


def warp(frames, geometry, colours, size):
    return warp_frames(torch.from_numpy(frames), geometry, colour_table(colours), size)


def iou(first, second):
    return (first & second).sum((1, 2)) / (first | second).sum((1, 2))


ADJUST = {
    "brightness": TF.adjust_brightness,
    "contrast": TF.adjust_contrast,
    "saturation": TF.adjust_saturation,
}


@pytest.mark.parametrize(
    ("hw", "size", "least_iou"),
    [((135, 240), 128, 0.97), ((60, 107), 128, 0.94), ((480, 270), 128, 0.99), ((270, 480), 256, 0.985)],
    ids=str,
)
@pytest.mark.parametrize("seed", range(4))
def test_one_warp_gives_what_the_reference_gets_step_by_step(hw, size, least_iou, seed):
    geometry = draw(GEOMETRY, 1, seed).geometry
    frame, masks = picture(*hw), [blob(*hw), blob(*hw, 0.3, 0.6, 0.25)]
    expected, expected_masks = official_geometry(frame, masks, geometry, size)
    actual = warp(frame[None], geometry, [Colour()], size)[0].permute(1, 2, 0).numpy().astype(float)
    actual_masks = warp_masks([masklet(m[None]) for m in masks], geometry, size)[0]
    inside = np.abs(expected - FILL).sum(-1) > 2  # outside, both have the fill colour
    assert np.abs(actual - expected).mean() < 1.5
    assert np.abs(actual - expected)[inside].mean() < 1.5
    assert iou(actual_masks, expected_masks).min() > least_iou


@pytest.mark.parametrize("seed", range(4))
def test_masks_come_closer_to_the_true_shape_than_the_step_by_step_chain(seed):
    """The truth: the same shape drawn, turned and shrunk at six times the size."""
    geometry = draw(GEOMETRY, 1, seed).geometry
    small, large = blob(90, 160), blob(540, 960)
    _, truth = official_geometry(picture(540, 960), [large], geometry, 128)
    _, chain = official_geometry(picture(90, 160), [small], geometry, 128)
    ours = warp_masks([masklet(small[None])], geometry, 128)[0]
    assert iou(ours, truth).min() > 0.97
    assert iou(ours, truth).min() > iou(chain, truth).min()


def test_a_picture_that_is_only_resized_and_flipped_equals_pil_within_one_level():
    frame, mask = picture(135, 240), blob(135, 240)
    geometry = Geometry(flip_x=True, flip_y=True, transpose=True)
    expected, expected_masks = official_geometry(frame, [mask], geometry, 64)
    actual = warp(frame[None], geometry, [Colour()], 64)[0].permute(1, 2, 0).numpy()
    assert np.abs(actual - expected).max() <= 1
    actual_mask = warp_masks([masklet(mask[None])], geometry, 64)[0, 0]
    assert (actual_mask ^ expected_masks[0]).float().mean() < 2e-3


@pytest.mark.parametrize(
    "geometry", [Geometry(True), Geometry(False, True), Geometry(True, True, True)], ids=str
)
def test_the_general_warp_and_the_exchange_of_pixels_agree_exactly(geometry):
    frame, mask = picture(64, 64), blob(64, 64)
    almost = Geometry(geometry.flip_x, geometry.flip_y, geometry.transpose, (1e-9, 0.0))
    plain = warp(frame[None], geometry, [Colour()], 64)
    turned = warp(frame[None], almost, [Colour()], 64)
    assert (plain.int() - turned.int()).abs()[..., 1:-1, 1:-1].max() == 0
    masks = [warp_masks([masklet(mask[None])], g, 64) for g in (geometry, almost)]
    assert torch.equal(*masks)


@pytest.mark.parametrize("seed", range(5))
def test_one_colour_matrix_equals_the_jitters_one_after_the_other(seed):
    frame = picture(80, 80)
    colour = draw(AugmentConfig(grayscale=0.3), 1, seed).colours[0]
    exact, stepwise = torch.from_numpy(frame).permute(2, 0, 1) / 255, Image.fromarray(frame)
    for name, factor in colour.steps:
        exact, stepwise = ADJUST[name](exact, factor), ADJUST[name](stepwise, factor)
    actual = warp(frame[None], Geometry(), [colour], 80)[0]
    assert len(colour.steps) >= 6
    assert (actual - exact * 255).abs().max() < 0.6  # rounded once
    rounded_down_six_times = torch.from_numpy(np.array(stepwise)).permute(2, 0, 1)
    assert (actual.float() - rounded_down_six_times).abs().mean() < 4


def test_colours_change_after_the_warp_so_the_fill_changes_too():
    frame = np.full((1, 60, 60, 3), 100, np.uint8)
    colour = Colour(steps=(("brightness", 1.1),))
    result = warp(frame, Geometry(affine=(25.0, 0.0)), [colour], 60)[0]
    np.testing.assert_allclose(result[:, 0, 0], np.array(FILL) * 1.1, atol=0.51)


def test_channels_can_change_places():
    frame = np.zeros((1, 8, 8, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    result = warp(frame, Geometry(), [Colour(order=(2, 0, 1))], 8)
    assert result[0, :, 3, 3].tolist() == [30, 10, 20]


def test_a_clip_is_changed_alike_in_all_frames_and_brightness_of_each_frame_differs():
    frame = picture(60, 80)
    frames, mask = np.stack([frame] * 3), masklet([blob(60, 80)] * 3)
    config = AugmentConfig(frame_brightness=0, frame_contrast=0, frame_saturation=0)
    result, masks = finished(frames, [mask], 48, config, seed=5)
    assert torch.equal(result[0], result[1]) and torch.equal(result[0], result[2])
    assert torch.equal(masks[0], masks[2])
    result, _ = finished(frames, [mask], 48, AugmentConfig(), seed=5)
    assert len({int(f.sum()) for f in result}) == 3


def test_the_picture_is_not_turned_when_an_object_would_leave_it():
    corner = np.zeros((2, 60, 60), np.uint8)
    corner[:, :3, :3] = 1
    frames = np.stack([picture(60, 60)] * 2)
    config = AugmentConfig(*(0.0,) * 3, 1.0, 25.0, *(0.0,) * 9)
    seed = next(s for s in range(50) if abs(draw(config, 2, s).geometry.affine[0]) > 10)
    kept, masks = finished(frames, [masklet(corner)], 60, config, seed)
    assert torch.equal(masks[:, 0], torch.from_numpy(corner).bool())
    assert torch.equal(kept, torch.from_numpy(frames).permute(0, 3, 1, 2))
    centre = masklet([blob(60, 60)] * 2)
    turned, _ = finished(frames, [centre], 60, config, seed)
    assert not torch.equal(turned, kept)


def test_an_object_that_appears_late_counts_from_its_first_frame():
    late = np.zeros((2, 60, 60), np.uint8)
    late[1, :3, :3] = 1
    config = AugmentConfig(*(0.0,) * 3, 1.0, 25.0, *(0.0,) * 9)
    seed = next(s for s in range(50) if abs(draw(config, 2, s).geometry.affine[0]) > 10)
    _, masks = finished(np.stack([picture(60, 60)] * 2), [masklet(late)], 60, config, seed)
    assert torch.equal(masks[:, 0], torch.from_numpy(late).bool())


def test_the_same_seed_gives_the_same_clip_and_another_seed_another():
    frames, mask = picture(60, 80)[None], masklet([blob(60, 80)])
    first, again, other = (finished(frames, [mask], 48, AugmentConfig(), seed) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_switching_one_option_leaves_the_other_draws_as_they_were():
    with_flip, without = (draw(AugmentConfig(horizontal_flip=p, transpose=1 - p), 3, 9) for p in (1.0, 0.0))
    assert with_flip.colours == without.colours
    assert with_flip.geometry.affine == without.geometry.affine


def test_draws_stay_in_their_ranges_and_reach_their_ends():
    drawn = [draw(AugmentConfig(), 2, seed) for seed in range(400)]
    angles = np.array([d.geometry.affine for d in drawn])
    assert np.abs(angles).max(0) == pytest.approx([25, 20], rel=0.03)
    assert (np.abs(angles).max(0) <= [25, 20]).all()
    assert np.mean([d.geometry.flip_x for d in drawn]) == pytest.approx(0.5, abs=0.08)
    assert not any(d.geometry.flip_y or d.geometry.transpose for d in drawn)
    grey = np.mean([("saturation", 0.0) in d.colours[0].steps for d in drawn])
    assert 0.02 < grey < 0.09
    assert all(d.colours[0].steps[:3] == d.colours[1].steps[:3] for d in drawn)
    factors = {
        n: [f for d in drawn for k, f in d.colours[0].steps[:3] if k == n] for n in ("brightness", "contrast")
    }
    assert max(factors["brightness"]) == pytest.approx(1.1, abs=5e-3)
    assert min(factors["contrast"]) == pytest.approx(0.97, abs=5e-3)


def test_no_augmentation_at_model_size_changes_nothing():
    frames, mask = picture(48, 48)[None], blob(48, 48)[None]
    result, masks = finished(frames, [masklet(mask)], 48, NOTHING, seed=3)
    assert torch.equal(result, torch.from_numpy(frames).permute(0, 3, 1, 2))
    assert torch.equal(masks[:, 0], torch.from_numpy(mask).bool())


@pytest.mark.parametrize("hw", [(67, 101), (33, 40), (200, 90)], ids=str)
def test_cutting_an_object_out_before_resizing_changes_nothing(hw):
    mask = blob(*hw, 0.6, 0.7, 0.15)
    whole = Masklet(mask[None], 0, 0, *hw)
    for geometry in (Geometry(), Geometry(affine=(20.0, 10.0))):
        assert torch.equal(warp_masks([masklet(mask[None])], geometry, 50), warp_masks([whole], geometry, 50))


def test_a_range_that_makes_no_sense_is_refused():
    with pytest.raises(DataError, match=r"horizontal_flip is 1\.5.*from 0 to 1"):
        AugmentConfig(horizontal_flip=1.5)


def test_frames_of_a_clip_can_turn_on_their_own_after_the_clip_has():
    """A frame's own turn after the clip's is one turn by both angles."""
    frame, mask = picture(90, 90), blob(90, 90, 0.45, 0.55)
    turns = ((5.0, 0.0), (-12.0, 0.0), (0.0, 0.0))
    together = Geometry(flip_x=True, affine=(10.0, 0.0), frame_affines=turns)
    frames = warp(np.stack([frame] * 3), together, [Colour()] * 3, 64)
    masks = warp_masks([masklet([mask] * 3)], together, 64)
    for t, (angle, _) in enumerate(turns):
        alone = Geometry(flip_x=True, affine=(10.0 + angle, 0.0))
        expected = warp(frame[None], alone, [Colour()], 64)[0]
        assert (frames[t].int() - expected.int()).abs().max() <= 1
        assert torch.equal(masks[t], warp_masks([masklet([mask])], alone, 64)[0])
    assert not torch.equal(frames[0], frames[1])


def test_frames_turn_differently_when_asked_and_masks_go_along():
    frames, mask = np.stack([picture(60, 60)] * 3), masklet([blob(60, 60)] * 3)
    config = AugmentConfig(*(0.0,) * 14, frame_degrees=20.0, frame_shear=10.0)
    result, masks = finished(frames, [mask], 48, config, seed=2)
    assert len({int(f.long().sum()) for f in result}) == 3 and len({int(m.sum()) for m in masks}) > 1
    drawn = draw(config, 3, 2).geometry
    assert len(drawn.frame_affines) == 3 and drawn.affine is None
    assert all(abs(angle) <= 20 and abs(shear) <= 10 for angle, shear in drawn.frame_affines)


@pytest.mark.parametrize("seed", range(6))
def test_a_mosaic_holds_the_clip_four_times_and_the_objects_once(seed):
    frames, mask = np.stack([picture(60, 60, 3)] * 2), masklet([blob(60, 60, 0.4, 0.3)] * 2)
    plain, shapes = finished(frames, [mask], 24, NOTHING, seed=0)
    config = AugmentConfig(*(0.0,) * 14, mosaic=1.0)
    result, masks = finished(frames, [mask], 48, config, seed=seed)
    mosaic = draw(config, 2, seed).mosaic
    for cell, mirrored in enumerate(mosaic.mirrored):
        row, column = divmod(cell, 2)
        window = (slice(24 * row, 24 * row + 24), slice(24 * column, 24 * column + 24))
        expected = plain.flip(-1) if mirrored else plain
        assert torch.equal(result[(..., *window)], expected)
        expected = shapes.flip(-1) if mirrored else shapes
        assert torch.equal(masks[(..., *window)], expected if cell == mosaic.cell else expected & False)
    with pytest.raises(DataError, match="a mosaic needs a model of even size, not 47"):
        finished(frames, [mask], 47, config, seed=seed)


def test_new_changes_leave_what_was_drawn_before_as_it_was():
    plain, more = draw(AugmentConfig(), 3, 7), draw(AugmentConfig(frame_degrees=5.0, mosaic=0.5), 3, 7)
    assert plain.geometry == more.geometry.__class__(
        more.geometry.flip_x, more.geometry.flip_y, more.geometry.transpose, more.geometry.affine
    )
    assert plain.colours == more.colours


@pytest.mark.parametrize("hw", [(135, 240), (60, 107), (97, 31), (1080, 1920)], ids=str)
@pytest.mark.parametrize("size", [64, 100, 256])
def test_masks_by_the_nearest_rule_are_those_of_torch_bit_for_bit(hw, size):
    """Every pixel, flipped or not, also of objects at the border, and of none."""
    masks = [blob(*hw), blob(*hw, 0.0, 1.0, 0.3), np.zeros(hw, np.uint8)]
    masks[2][0, -1] = 1
    expected = (
        F.interpolate(torch.from_numpy(np.stack(masks))[None], (size, size), mode="nearest-exact")[0] > 0
    )
    pieces = [masklet(mask[None]) for mask in masks]
    assert torch.equal(warp_masks(pieces, Geometry(), size, "nearest")[0], expected)
    turned = warp_masks(pieces, Geometry(True, True, True), size, "nearest")[0]
    assert torch.equal(turned, expected.flip(1, 2).transpose(1, 2))


def test_turned_masks_by_the_nearest_rule_are_close_to_those_of_the_chain():
    geometry = Geometry(affine=(20.0, 10.0))
    mask = blob(135, 240)
    _, expected = official_geometry(picture(135, 240), [mask], geometry, 128)
    actual = warp_masks([masklet(mask[None])], geometry, 128, "nearest")[0]
    assert iou(actual, expected).min() > 0.94
    with pytest.raises(DataError, match="masks is 'cubic'; choose bilinear or nearest"):
        AugmentConfig(masks="cubic")
