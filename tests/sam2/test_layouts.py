"""Names of other files, against the recorded names of the official ones and of HF transformers."""

import pytest
import timm
import torch
import torch.nn.functional as F

from sam2 import layouts
from tests import golden


def hf_names(kind):
    return {name: torch.zeros(shape, device="meta") for name, shape in golden.hf_manifest(kind).items()}


def test_every_tensor_of_the_hf_video_model_gets_its_official_name_and_shape():
    official = layouts.from_hf(hf_names("video"))
    assert {name: list(tensor.shape) for name, tensor in official.items()} == golden.manifest("sam2.1_t")


def test_each_hf_name_maps_to_the_recorded_official_one():
    recorded = golden.key_map()
    numbered = {
        name: torch.full((4, 1) if name.endswith("point_embed.weight") else (), float(i))
        for i, name in enumerate(golden.hf_manifest("video"))
    }
    numbered["prompt_encoder.point_embed.weight"] += torch.tensor([[0.1], [0.2], [0.3], [0.4]])
    official = layouts.from_hf(numbered)
    assert official.keys() == recorded.keys()
    for name, source in recorded.items():
        stem, _, row = source.removesuffix("]").partition("[")
        expected = numbered[stem][int(row)] if row else numbered[stem]
        assert torch.equal(official[name].flatten(), expected.flatten()), name


def test_the_hf_image_model_is_the_part_without_memory():
    official = layouts.from_hf(hf_names("model"))
    manifest = golden.manifest("sam2.1_t")
    assert official.keys() < manifest.keys()
    assert not any(name.startswith(("memory_", "obj_ptr", "maskmem")) for name in official)


@pytest.mark.parametrize(
    "prefix", ["", "model.", "state_dict.model.", "state_dict.module.net.sam.", "a.image_encoder.b."]
)
def test_a_prefix_is_found_whatever_it_is_called(prefix):
    wanted = golden.manifest("sam2_t").keys()
    names = [f"{prefix}{name}" for name in wanted] + ["epoch", "criterion.weight", "model_ema.decay"]
    assert layouts.find_prefix(names, wanted) == prefix


def test_the_prefix_of_another_size_is_found_too():
    names = [f"x.y.{name}" for name in golden.manifest("sam2_l")]
    assert layouts.find_prefix(names, golden.manifest("sam2.1_t").keys()) == "x.y."


def test_names_of_something_else_have_no_prefix():
    assert layouts.find_prefix(["conv1.weight", "fc.bias"], golden.manifest("sam2_t").keys()) is None


def test_two_equal_models_in_a_file_are_ambiguous():
    wanted = golden.manifest("sam2_t").keys()
    names = [f"{part}.{name}" for part in ("model", "ema") for name in wanted]
    with pytest.raises(layouts.AmbiguousPrefixError, match=r"'model\.' or 'ema\.'"):
        layouts.find_prefix(names, wanted)


def test_wrapper_segments_are_taken_out_wherever_they_stand():
    wrapped = "_orig_mod.image_encoder._orig_mod.trunk.blocks.0._checkpoint_wrapped_module.norm1.weight"
    assert layouts.unwrap(wrapped) == "image_encoder.trunk.blocks.0.norm1.weight"


@pytest.mark.parametrize(("side", "grid"), [(56, 7), (56, 14), (64, 7)])
def test_a_position_code_that_can_be_split_is_split_exactly(side, grid):
    draw = torch.Generator().manual_seed(0)
    background, window = (torch.randn(1, 5, n, n, generator=draw) for n in (grid, 8))
    dense = F.interpolate(background, (side, side), mode="bicubic") + window.tile(1, 1, side // 8, side // 8)
    split = layouts.split_position(dense.flatten(2).transpose(1, 2), (grid, grid), (8, 8))
    again = F.interpolate(split.background, (side, side), mode="bicubic") + split.window.tile(
        1, 1, side // 8, side // 8
    )
    torch.testing.assert_close(again, dense, rtol=0, atol=5e-6)
    assert split.residual < 1e-6
    assert (
        split.background.norm() ** 2 + split.window.norm() ** 2 <= background.norm() ** 2 + window.norm() ** 2
    )


def test_a_position_code_that_cannot_be_split_reports_its_residual():
    dense = torch.randn(1, 56 * 56, 3, generator=torch.Generator().manual_seed(1))
    assert 0.9 < layouts.split_position(dense, (7, 7), (8, 8)).residual < 1


@pytest.mark.parametrize("tokens", [50, 60 * 60])
def test_a_code_that_windows_do_not_tile_is_refused(tokens):
    with pytest.raises(ValueError, match=rf"{tokens} tokens are no square that windows of 8x8 tile"):
        layouts.split_position(torch.zeros(1, tokens, 2), (7, 7), (8, 8))


def test_timm_names_become_official_ones():
    with torch.device("meta"):
        names = timm.create_model("hiera_tiny_224").state_dict()
    trunk = {layouts.from_timm(name) for name in names if not layouts.is_beside_trunk(name)}
    official = layouts.below(dict.fromkeys(golden.manifest("sam2_t")), "image_encoder.trunk.")
    assert official.keys() - trunk == {"pos_embed_window"}
    assert not trunk - official.keys()
