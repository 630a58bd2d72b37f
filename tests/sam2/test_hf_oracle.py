"""HF transformers' `Sam2Model`, written independently, as a second witness: equal weights, equal answers."""

import pytest
import torch

from sam2.image_prompts import Canvas, build_prompt
from sam2.model.sam2 import SAM2
from sam2.sam2_image_predictor import SAM2ImagePredictor, preprocess
from sam2.variants import resolve
from tests import golden

transformers = pytest.importorskip("transformers")

CPU = torch.device("cpu")


def independent_model(weights, size_px):
    """Sam2Model, tiny, for `size_px`, with official weights under its own names."""
    cells = size_px // 16
    config = transformers.Sam2Config(
        vision_config={
            "backbone_config": transformers.Sam2HieraDetConfig(image_size=[size_px, size_px]),
            "backbone_feature_sizes": [[4 * cells] * 2, [2 * cells] * 2, [cells] * 2],
        },
        prompt_encoder_config={"image_size": size_px},
    )
    with torch.device("meta"):
        model = transformers.Sam2Model(config).eval()
    state = {}
    for name, source in golden.key_map().items():
        stem, _, row = source.removesuffix("]").partition("[")
        if row:
            state.setdefault(stem, torch.zeros(4, 256))[int(row)] = weights[name]
        else:
            state[stem] = weights[name]
    state["shared_image_embedding.positional_embedding"] = state[
        "prompt_encoder.shared_embedding.positional_embedding"
    ]
    model.load_state_dict({name: state[name] for name in golden.hf_manifest("model")}, assign=True)
    return model


@pytest.mark.parametrize(
    ("size_px", "variant", "salt"),
    [(256, "present", ""), (256, "absent", "b"), pytest.param(1024, "present", "", marks=pytest.mark.slow)],
)
@torch.no_grad()
def test_transformers_agrees_on_low_resolution_logits(size_px, variant, salt):
    weights = golden.state_dict("sam2.1_t", variant, salt)
    image = golden.inputs.image(5, 120, 200)
    with torch.device("meta"):
        ours = SAM2(resolve("sam2.1_t").at(size_px)).eval()
    ours.load_state_dict(weights, assign=True)
    predictor = SAM2ImagePredictor(ours)
    predictor.set_image(image)
    theirs = independent_model(weights, size_px)
    canvas = Canvas(*image.shape[:2], size_px, CPU)
    embeddings = theirs.get_image_embeddings(preprocess(image, size_px, CPU))
    for several, points, labels, box in [
        (True, [[60, 70]], [1], None),
        (True, [[60, 70], [150, 20], [100, 90]], [1, 0, 1], None),
        (False, None, None, [20, 30, 120, 110]),
    ]:
        _, ious, low_res = predictor.predict(points, labels, box, multimask_output=several)
        prompt = build_prompt(canvas, points, labels, box)
        asked = (
            {"input_points": prompt.points[None], "input_labels": prompt.labels[None]}
            if box is None
            else {"input_boxes": prompt.points.reshape(1, 1, 4)}
        )
        answer = theirs(image_embeddings=embeddings, multimask_output=several, **asked)
        assert abs(answer.pred_masks[0, 0].clamp(-32, 32).numpy() - low_res).max() < 1e-3
        assert abs(answer.iou_scores[0, 0].numpy() - ious).max() < 1e-5
