"""The image predictor against the reference's recorded answers, and what it says to mistakes."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import v2

from sam2.image_prompts import PromptError
from sam2.model.sam2 import SAM2
from sam2.sam2_image_predictor import SAM2ImagePredictor, preprocess
from sam2.variants import VARIANTS, resolve
from tests import golden

CASES = ["image_sam2.1_t", "image_sam2.1_t_salt", "image_sam2_s_soft"]


@pytest.fixture(scope="module", params=CASES)
def recorded(request):
    """A recorded case and a predictor with the same weights and image."""
    case = golden.case(request.param)
    meta = case.meta
    image = golden.inputs.image(*meta["image"])
    assert hashlib.sha256(image.tobytes()).hexdigest() == meta["image_sha256"]
    with torch.device("meta"):
        model = SAM2(resolve(meta["model"])).eval()
    weights = golden.state_dict(meta["model"], meta["variant"], meta.get("salt") or "")
    model.load_state_dict(weights, assign=True)
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(image)
    return case, predictor


def thinned(maps, step):
    return maps[..., step // 4 :: step, step // 2 :: step]


def same_statistics(maps, expected, rtol=1e-4):
    flat = np.asarray(maps, np.float64).reshape(-1, maps.shape[-2] * maps.shape[-1])
    found = np.stack((np.abs(flat).mean(1), flat.std(1)), axis=1)
    np.testing.assert_allclose(found, np.atleast_2d(expected)[:, 1:3], rtol=rtol)


def same_answer(case, name, answer):
    masks, ious, low_res = answer
    assert masks.dtype == ious.dtype == low_res.dtype == np.float32
    assert set(np.unique(masks)) <= {0.0, 1.0}
    np.testing.assert_allclose(thinned(low_res, 4), case[f"{name}/low_sub"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(ious, case[f"{name}/ious"], rtol=0, atol=1e-5)
    area = masks.sum((-2, -1)).ravel()
    np.testing.assert_allclose(area, case[f"{name}/area"].ravel(), rtol=1e-3, atol=5)
    same_statistics(low_res, case[f"{name}/low_stats"])


def test_the_embedding_equals_the_references(recorded):
    case, predictor = recorded
    embedding = predictor.get_image_embedding().numpy()
    np.testing.assert_allclose(thinned(embedding[:, ::8], 4), case["embed_sub"], rtol=1e-4, atol=1e-4)
    features = predictor._features
    for level, fine in (("high0", features.s4), ("high1", features.s8)):
        found = thinned(fine[:, ::4].numpy(), fine.shape[-1] // 16)
        np.testing.assert_allclose(found, case[f"{level}_sub"], rtol=1e-4, atol=1e-4)


def test_every_prompt_is_answered_as_by_the_reference(recorded):
    case, predictor = recorded
    height, width = case.meta["image"][1:]
    low_res = {}
    for name, asked in case.meta["cases"].items():
        asked = dict(asked)
        if source := asked.pop("mask_input_from", None):
            asked["mask_input"] = low_res[source[0]][source[1] : source[1] + 1]
        asked = {k: np.array(v) if isinstance(v, list) else v for k, v in asked.items()}
        answer = predictor.predict(**asked)
        assert answer[0].shape[-2:] == (height, width)
        same_answer(case, name, answer)
        low_res[name] = answer[2]
    first = next(iter(low_res))
    np.testing.assert_allclose(low_res[first][0], case[f"{first}/low_full0"], rtol=0, atol=1e-3)


@pytest.mark.slow
def test_a_batch_of_images_is_answered_as_by_the_reference():
    case = golden.case("image_sam2.1_t")
    with torch.device("meta"):
        model = SAM2(resolve("sam2.1_t")).eval()
    model.load_state_dict(golden.state_dict("sam2.1_t", case.meta["variant"]), assign=True)
    predictor = SAM2ImagePredictor(model)
    batch = case.meta["batch"]
    predictor.set_image_batch([golden.inputs.image(*image) for image in batch["images"]])
    points = [np.array(points) for points in batch["points"]]
    masks, ious, low_res = predictor.predict_batch(points, [np.array(labels) for labels in batch["labels"]])
    for i, (_, height, width) in enumerate(batch["images"]):
        assert masks[i].shape == (3, height, width)
        same_answer(case, f"batch{i}", (masks[i], ious[i], low_res[i]))


# --- behaviour, on a small model with random weights -------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SAM2(VARIANTS["test"]).eval()


@pytest.fixture
def predictor(model):
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(golden.inputs.image(0, 50, 70))
    return predictor


CLICK = {"point_coords": [[30, 20]], "point_labels": [1]}


def test_answers_have_the_shapes_of_the_reference(predictor):
    masks, ious, low_res = predictor.predict(**CLICK)
    assert masks.shape == (3, 50, 70) and ious.shape == (3,) and low_res.shape == (3, 16, 16)
    masks, ious, low_res = predictor.predict(**CLICK, multimask_output=False)
    assert masks.shape == (1, 50, 70) and ious.shape == (1,) and low_res.shape == (1, 16, 16)
    boxes = np.array([[0, 0, 30, 30], [10, 10, 60, 40]])
    masks, ious, low_res = predictor.predict(box=boxes)
    assert masks.shape == (2, 3, 50, 70) and ious.shape == (2, 3) and low_res.shape == (2, 3, 16, 16)
    masks, _, _ = predictor.predict(box=boxes, multimask_output=False)
    assert masks.shape == (2, 1, 50, 70)


def test_boxes_asked_together_or_one_by_one_give_the_same(predictor):
    boxes = np.array([[0, 0, 30, 30], [10, 10, 60, 40], [5, 20, 50, 45]])
    together = predictor.predict(box=boxes, return_logits=True)
    for i, box in enumerate(boxes):
        for ours, alone in zip(together, predictor.predict(box=box, return_logits=True), strict=True):
            np.testing.assert_allclose(ours[i], alone, rtol=1e-4, atol=1e-5)


def test_points_of_several_objects_are_one_batch(predictor):
    points, labels = np.array([[[30, 20], [5, 5]], [[60, 40], [1, 1]]]), np.array([[1, 0], [1, -1]])
    together = predictor.predict(points, labels, return_logits=True)
    alone = predictor.predict(points[0], labels[0], return_logits=True)
    np.testing.assert_allclose(together[0][0], alone[0], rtol=1e-4, atol=1e-5)


def test_logits_are_enlarged_before_they_are_cut_at_32(model):
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(golden.inputs.image(0, 50, 70))
    masks, _, low_res = predictor.predict(**CLICK, return_logits=True)
    enlarged = F.interpolate(torch.from_numpy(low_res)[None], (50, 70), mode="bilinear")[0]
    torch.testing.assert_close(torch.from_numpy(masks), enlarged, rtol=1e-5, atol=1e-6)


def test_fractions_and_pixels_mean_the_same_place(predictor):
    pixels = predictor.predict(**CLICK, box=[7, 5, 35, 25], return_logits=True)
    fractions = predictor.predict(
        np.array([[30 / 70, 20 / 50]]),
        np.array([1]),
        box=[0.1, 0.1, 0.5, 0.5],
        return_logits=True,
        normalize_coords=False,
    )
    np.testing.assert_allclose(pixels[0], fractions[0], rtol=1e-4, atol=1e-5)


def test_images_of_a_batch_are_answered_as_one_by_one(model):
    images = [golden.inputs.image(1, 50, 70), golden.inputs.image(2, 64, 33)]
    points, boxes = [np.array([[30, 20]]), None], [None, np.array([[2, 3, 20, 40], [5, 6, 30, 60]])]
    labels = [np.array([1]), None]
    predictor = SAM2ImagePredictor(model)
    predictor.set_image_batch(images)
    together = predictor.predict_batch(points, labels, boxes, return_logits=True)
    for i, image in enumerate(images):
        predictor.set_image(image)
        alone = predictor.predict(points[i], labels[i], boxes[i], return_logits=True)
        for ours, expected in zip(together, alone, strict=True):
            assert ours[i].shape == expected.shape
            np.testing.assert_allclose(ours[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size_px", [64, 96, 160])
def test_any_model_resolution_works_with_the_same_weights(model, size_px):
    other = SAM2(VARIANTS["test"].at(size_px)).eval()
    other.load_state_dict(model.state_dict())
    predictor = SAM2ImagePredictor(other)
    predictor.set_image(golden.inputs.image(0, 50, 70))
    masks, _, low_res = predictor.predict(**CLICK)
    assert masks.shape == (3, 50, 70) and low_res.shape == (3, size_px // 4, size_px // 4)
    masks, _, _ = predictor.predict(**CLICK, mask_input=low_res[:1], multimask_output=False)
    assert masks.shape == (1, 50, 70)
    assert predictor.get_image_embedding().shape == (1, 32, size_px // 16, size_px // 16)


def test_the_object_score_does_not_blank_a_still_image(model):
    pessimist = SAM2(VARIANTS["test"]).eval()
    pessimist.load_state_dict(model.state_dict())
    torch.nn.init.constant_(pessimist.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, -100.0)
    answers = []
    for each in (model, pessimist):
        predictor = SAM2ImagePredictor(each)
        predictor.set_image(golden.inputs.image(0, 50, 70))
        answers.append(predictor.predict(**CLICK)[2])
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("size", [(50, 70), (400, 300)])
def test_images_are_resized_and_normalised_as_by_torchvision(size):
    image = golden.inputs.image(0, *size)
    steps = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Resize((96, 96), antialias=True)]
    expected = v2.Compose([*steps, v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])(image)
    torch.testing.assert_close(preprocess(image, 96, torch.device("cpu"))[0], expected, rtol=1e-5, atol=1e-5)


def test_pil_and_flipped_and_read_only_images_are_taken(model):
    image = golden.inputs.image(0, 50, 70)
    frozen = image.copy()
    frozen.flags.writeable = False
    flipped = image[..., ::-1].copy()[..., ::-1]  # as from BGR, with a negative stride
    alpha = Image.fromarray(image).convert("RGBA")
    predictor = SAM2ImagePredictor(model)
    embeddings = []
    for each in (image, frozen, flipped, Image.fromarray(image), alpha):
        predictor.set_image(each)
        embeddings.append(predictor.get_image_embedding())
    assert all(torch.equal(embedding, embeddings[0]) for embedding in embeddings)


def test_holes_and_specks_are_cleaned_in_low_resolution(model, monkeypatch):
    low_res = torch.full((1, 1, 16, 16), 2.0)
    low_res[..., 8:, :] = -2.0
    low_res[..., 3, 3:5] = -1.0  # a hole of 2
    low_res[..., 12, 12] = 1.0  # a speck of 1
    monkeypatch.setattr(SAM2ImagePredictor, "_decode", lambda *_: (low_res, torch.ones(1, 1)))

    def mask(**options):
        predictor = SAM2ImagePredictor(model, **options)
        predictor.set_image(golden.inputs.image(0, 16, 16))
        masks, _, returned = predictor.predict([[3, 12]], [1], return_logits=True)
        np.testing.assert_array_equal(returned, low_res[0])  # only the full-size mask is cleaned
        return masks[0]

    as_predicted = low_res[0, 0].numpy()
    np.testing.assert_allclose(mask(), as_predicted)
    filled = as_predicted.copy()
    filled[3, 3:5] = 10.0
    np.testing.assert_allclose(mask(max_hole_area=2), filled)
    np.testing.assert_allclose(mask(max_hole_area=1), as_predicted)
    swept = as_predicted.copy()
    swept[12, 12] = -10.0
    np.testing.assert_allclose(mask(max_sprinkle_area=1), swept)
    swept[3, 3:5] = 10.0
    np.testing.assert_allclose(mask(max_hole_area=8, max_sprinkle_area=8), swept)


def test_the_threshold_moves_the_masks_and_what_counts_as_a_hole(model):
    strict = SAM2ImagePredictor(model, mask_threshold=0.5)
    strict.set_image(golden.inputs.image(0, 50, 70))
    logits = strict.predict(**CLICK, return_logits=True)[0]
    np.testing.assert_array_equal(strict.predict(**CLICK)[0], logits > 0.5)


def test_without_an_image_the_missing_call_is_named(model):
    predictor = SAM2ImagePredictor(model)
    with pytest.raises(RuntimeError, match=r"no image is set; call set_image\(\.\.\.\) first"):
        predictor.predict(**CLICK)
    with pytest.raises(RuntimeError, match=r"no image is set; call set_image_batch"):
        predictor.predict_batch()
    with pytest.raises(RuntimeError, match=r"no image is set"):
        predictor.get_image_embedding()
    predictor.set_image(golden.inputs.image(0, 50, 70))
    with pytest.raises(RuntimeError, match=r"a single image is set; ask with predict"):
        predictor.predict_batch()
    predictor.set_image_batch([golden.inputs.image(0, 50, 70)] * 2)
    with pytest.raises(RuntimeError, match=r"several images are set; ask with predict_batch"):
        predictor.predict(**CLICK)
    with pytest.raises(ValueError, match=r"box_batch has 1 entries for 2 images"):
        predictor.predict_batch(box_batch=[[0, 0, 5, 5]])
    predictor.reset_predictor()
    with pytest.raises(RuntimeError, match=r"no image is set"):
        predictor.predict(**CLICK)


@pytest.mark.parametrize("given", ["sam2.1_t", Path("sam2.1_hiera_tiny.pt"), None, torch.nn.Linear(1, 1)])
def test_what_is_no_model_is_refused_at_once_with_the_two_ways_to_one(given):
    expected = (
        rf"sam_model is of type {type(given).__name__}, expected a model: SAM2ImagePredictor\(build_sam2\("
    )
    with pytest.raises(
        TypeError, match=expected + r"config, checkpoint\)\) or .*\.from_pretrained\(file_or_id\)"
    ):
        SAM2ImagePredictor(given)


def test_a_compiled_model_is_a_model(model):
    predictor = SAM2ImagePredictor(torch.compile(model, backend="eager"))
    predictor.set_image(golden.inputs.image(0, 50, 70))
    assert predictor.predict(**CLICK)[0].shape == (3, 50, 70)


GOOD = np.zeros((8, 9, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (GOOD.astype(np.float64) / 255, r"image is float64 between 0 and 0, expected uint8"),
        (GOOD.astype(np.int32), r"image is int32"),
        (GOOD.transpose(2, 0, 1), r"\(3, 8, 9\), expected \(H, W, 3\); use image\.transpose\(1, 2, 0\)"),
        (GOOD[..., 0], r"\(8, 9\).*grey image.*np\.stack"),
        (np.zeros((8, 9, 4), np.uint8), r"drop the alpha channel with image\[\.\.\., :3\]"),
        (np.zeros((0, 9, 3), np.uint8), r"image has shape \(0, 9, 3\)"),
        ("cat.jpg", r"image is of type str, expected a numpy array"),
        (torch.zeros(3, 8, 9), r"image is of type Tensor"),
        (Image.new("I;16", (9, 8)), r"image has PIL mode I;16"),
    ],
)
def test_a_wrong_image_is_described_with_its_remedy(model, image, message):
    predictor = SAM2ImagePredictor(model)
    with pytest.raises((TypeError, ValueError), match=message):
        predictor.set_image(image)
    with pytest.raises(RuntimeError, match="no image is set"):
        predictor.predict(**CLICK)


def test_a_batch_must_be_a_list_of_images(model):
    predictor = SAM2ImagePredictor(model)
    with pytest.raises(TypeError, match=r"image_list is of type ndarray"):
        predictor.set_image_batch(GOOD)
    with pytest.raises(TypeError, match=r"image_list is an empty list"):
        predictor.set_image_batch([])


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"point_coords": [[1, 2]]}, r"point_coords without point_labels"),
        ({"point_labels": [1]}, r"point_labels without point_coords"),
        (
            {"point_coords": [[1, 2], [3, 4]], "point_labels": [1]},
            r"point_labels has shape 1, but point_coords 2x2",
        ),
        ({"point_coords": [1, 2], "point_labels": [1]}, r"point_coords has shape 2, expected Nx2"),
        ({"point_coords": [[1, 2, 3]], "point_labels": [1]}, r"point_coords has shape 1x3"),
        (
            {"point_coords": [[1, 2]], "point_labels": [7]},
            r"point_labels holds 7; expected 1 \(object\) or 0 \(background\); as in the reference, -1 \(padding\), "
            r"2 and 3 \(first and second corner of a box\)",
        ),
        ({"point_coords": [[1, 2]], "point_labels": [0.5]}, r"point_labels holds 0\.5"),
        ({"point_coords": [[np.nan, 2]], "point_labels": [1]}, r"point_coords holds infinite or undefined"),
        ({"point_coords": "here", "point_labels": [1]}, r"point_coords is no array of numbers"),
        ({"box": [30, 10, 20, 40]}, r"box is \(30, 10, 20, 40\); expected x1 < x2"),
        ({"box": [[0, 0, 5, 5], [3, 3, 9, 3]]}, r"box 1 is \(3, 3, 9, 3\)"),
        ({"box": [1, 2, 3]}, r"box has shape 3, expected 4 or Nx4"),
        ({"box": np.zeros((0, 4))}, r"box has shape 0x4"),
        (
            {"box": [[0, 0, 5, 5], [1, 1, 9, 9]], "point_coords": [[1, 2]], "point_labels": [1]},
            r"box is for 2 objects, point_coords for 1; give point_coords as BxNx2",
        ),
        (
            {"mask_input": np.zeros((1, 256, 256))},
            r"mask_input has shape 1x256x256, expected 1x16x16 or Bx1x16x16",
        ),
        ({"mask_input": np.zeros((16, 16))}, r"mask_input has shape 16x16"),
        ({"mask_input": np.zeros((3, 16, 16))}, r"mask_input has shape 3x16x16.*kept as \[k:k\+1\]"),
        (
            {**CLICK, "mask_input": np.zeros((2, 1, 16, 16))},
            r"mask_input is for 2 objects, the other prompts for 1",
        ),
        ({}, r"no prompt: give point_coords with point_labels, box or mask_input"),
        ({"point_coords": np.zeros((0, 2)), "point_labels": []}, r"no prompt: all its points are padding"),
        (
            {"point_coords": [[[1, 2]], [[3, 4]]], "point_labels": [[1], [-1]]},
            r"no prompt for object 1: all its points are padding \(label -1\), or there are none",
        ),
        (
            {"point_coords": [[500, 20]], "point_labels": [1]},
            r"point \(500, 20\) is outside.*70 wide and 50 h",
        ),
        ({"point_coords": [[-2, 9], [20, 52]], "point_labels": [1, 0]}, r"point \(-2, 9\) is outside"),
        (
            {"point_coords": [[[9, 9], [9, 9]], [[20, 52], [1, 1]]], "point_labels": [[1, 1], [1, -1]]},
            r"point \(20, 52\) is outside",
        ),
        (
            {"point_coords": [[-3, 9]], "point_labels": [1], "box": [1, 1, 9, 9]},
            r"point \(-3, 9\) is outside",
        ),
        (
            {**CLICK, "normalize_coords": False},
            r"point \(30, 20\) is outside of the frame; with normalize_coords=False .* fractions of its sides",
        ),
        ({"box": [[1, 1, 9, 9], [70, 5, 90, 20]]}, r"box 1 is \(70, 5, 90, 20\), all of it outside.*70 wide"),
        ({"box": [5, -9, 30, 0]}, r"box is \(5, -9, 30, 0\), all of it outside"),
        (
            {"box": [1.5, 0, 2, 1], "normalize_coords": False},
            r"box is \(1\.5, 0, 2, 1\), all of it outside",
        ),
    ],
)
def test_a_prompt_that_cannot_be_meant_is_refused(predictor, prompt, message):
    with pytest.raises(PromptError, match=message):
        predictor.predict(**prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        {"point_coords": [[-1, 20]], "point_labels": [1]},  # a pixel off
        {"point_coords": [[70, 50]], "point_labels": [0]},
        {"point_coords": [[30, 20], [80, 20]], "point_labels": [1, 1]},  # as recorded of the reference
        {"point_coords": [[30, 20], [900, 900]], "point_labels": [1, -1]},  # padding is nowhere
        {"point_coords": [[-40, 5], [30, 90]], "point_labels": [2, 3]},  # a box by its corners
        {"box": [[-20, -5, 30, 20], [10, 10, 500, 400]]},
        {"box": [10, 10, 30, 30], "point_coords": np.zeros((1, 0, 2)), "point_labels": np.zeros((1, 0))},
        {"mask_input": np.zeros((1, 16, 16))},
        {"box": [-0.1, 0.2, 0.5, 1.1], "normalize_coords": False},
    ],
)
def test_what_reaches_over_the_edge_is_answered(predictor, prompt):
    masks, ious, _ = predictor.predict(**prompt)
    assert masks.shape[-2:] == (50, 70) and np.isfinite(ious).all()


def test_a_box_is_the_same_prompt_as_its_labelled_corners(predictor):
    box = predictor.predict(box=[-5, 5, 35, 25])
    corners = predictor.predict([[-5, 5], [35, 25]], [2, 3])
    for a, b in zip(box, corners, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_batch_names_the_image_whose_prompt_cannot_be_meant(model):
    predictor = SAM2ImagePredictor(model)
    predictor.set_image_batch([golden.inputs.image(1, 50, 70), golden.inputs.image(2, 64, 33)])
    with pytest.raises(
        PromptError, match=r"^image 1: point \(60, 9\) is outside of the frame, 33 wide and 64 h"
    ):
        predictor.predict_batch([[[60, 9]]] * 2, [[1]] * 2)
    with pytest.raises(PromptError, match=r"^image 0: no prompt"):
        predictor.predict_batch(box_batch=[None, [1, 1, 9, 9]])
    with pytest.raises(PromptError, match=r"^image 0: no prompt"):
        predictor.predict_batch()
