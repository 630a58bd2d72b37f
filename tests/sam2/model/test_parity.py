"""The reference's numbers for the image encoder, from its own run on weights that both sides can rebuild."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2.model import positions, trunk
from sam2.model.sam2 import SAM2
from sam2.variants import resolve
from tests import golden


@pytest.mark.parametrize("name", ["enc_sam2.1_t_1024", "enc_sam2.1_b+_1024"])
@torch.no_grad()
def test_trunk_neck_and_position_codes_equal_the_reference(name):
    case = golden.case(name)
    model = SAM2(resolve(case.meta["model"])).eval()
    model.load_state_dict(golden.state_dict(case.meta["model"], case.meta["variant"]), strict=True)
    image = golden.inputs.image(*case.meta["image"])
    frames = torch.from_numpy(golden.inputs.model_frames(image[None], case.meta["size"]))

    stages = trunk.maps(model.image_encoder.trunk, frames)
    for level, stage in enumerate(stages):
        assert list(stage.shape) == case[f"trunk{level}_shape"].tolist()
        _equal(stage[:, :: max(1, stage.shape[1] // 16)], case[f"trunk{level}_sub"])
        _same_statistics(stage, case[f"trunk{level}_stats"])
    for level, level_map in enumerate(model.image_encoder.neck(stages)):
        _equal(level_map[:, ::8], case[f"fpn{level}_sub"])
        _same_statistics(level_map, case[f"fpn{level}_stats"])
        code = positions.sine_2d(level_map.shape[1], *level_map.shape[-2:])
        _equal(code[None, ::8], case[f"pos{level}_sub"])


def _equal(actual: torch.Tensor, expected: np.ndarray) -> None:
    step = max(1, actual.shape[-1] // 16)
    actual = actual[..., step // 4 :: step, step // 2 :: step]
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-4, atol=1e-4)


def _same_statistics(actual: torch.Tensor, expected: np.ndarray) -> None:
    x = actual.double()
    found = [x.abs().mean().item(), x.std(correction=0).item()]
    np.testing.assert_allclose(found, expected[1:3], rtol=1e-4)
