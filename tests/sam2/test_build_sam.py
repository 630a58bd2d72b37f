"""Building by name: spellings, files, the reference's settings, weights by path or id."""

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml

from sam2 import pretrained
from sam2.build_sam import build_sam2, build_sam2_hf
from sam2.checkpoint import CheckpointError, export
from sam2.model.memory_bank import INFERENCE
from sam2.model.sam2 import SAM2
from sam2.model_config import find_recipe
from sam2.pretrained import PretrainedError
from sam2.reference_settings import SettingError
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.variants import VARIANTS, UnknownVariantError
from tests import golden


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with weights of the test preset."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    export(SAM2(VARIANTS["test"]), path)
    return path


def test_readme_code_runs_from_any_directory_without_hydra(weights, tmp_path):
    code = f"""
        import sys
        import numpy as np
        from sam2.build_sam import build_sam2
        from sam2.sam2_image_predictor import SAM2ImagePredictor
        image = np.zeros((40, 60, 3), np.uint8)
        points, labels = np.array([[30, 20]]), np.array([1])
        predictor = SAM2ImagePredictor(build_sam2("test.yaml", {str(weights)!r}, "cpu"))
        predictor.set_image(image)
        masks, scores, logits = predictor.predict(point_coords=points, point_labels=labels)
        assert masks.shape == (3, 40, 60) and scores.shape == (3,) and logits.shape == (3, 16, 16)
        heavy = {{"hydra", "lightning", "webdataset", "data"}}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, check=True)


def test_a_built_model_is_ready_to_infer(weights):
    model = build_sam2("test", weights, device="cpu")
    assert not model.training and not any(parameter.is_meta for parameter in model.parameters())
    expected = torch.load(weights, weights_only=True)["model"]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["no_mem_pos_enc"]
    assert build_sam2("test", weights, device="cpu", mode="train").training


def test_weights_survive_the_file_they_came_from(weights, tmp_path):
    copy = tmp_path / "copy.pt"
    copy.write_bytes(weights.read_bytes())
    model = build_sam2("test", copy, device="cpu")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copy.write_bytes(b"\0" * copy.stat().st_size)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_without_weights_the_model_is_initialised():
    model = build_sam2("test", device="cpu")
    assert model.state_dict()["image_encoder.trunk.patch_embed.proj.weight"].abs().sum() > 0


def test_settings_of_videos_are_refused_for_images():
    assert build_sam2("test", device="cpu", hydra_overrides_extra=["++model.fill_hole_area=0"])
    with pytest.raises(
        SettingError, match=r"fill_hole_area=8: it belongs to videos; use build_sam2_video_pred"
    ):
        build_sam2("test", hydra_overrides_extra=["++model.fill_hole_area=8"])


def test_the_references_argument_names_are_taken(weights):
    model = build_sam2(config_file="test", ckpt_path=weights, device="cpu")
    assert model.variant.name == "test"
    with pytest.raises(TypeError, match=r"got both checkpoint and ckpt_path"):
        build_sam2("test", weights, ckpt_path=weights)
    with pytest.raises(TypeError, match=r"no argument 'checkpoints'"):
        build_sam2("test", checkpoints=weights)
    with pytest.raises(TypeError, match=r"a config is needed"):
        build_sam2()
    with pytest.raises(ValueError, match=r"mode is 'evaluate'"):
        build_sam2("test", mode="evaluate")
    with pytest.raises(TypeError, match=r"is a string, expected a list: \['\+\+model\.image_size=512'\]"):
        build_sam2("test", hydra_overrides_extra="++model.image_size=512")


def test_official_weights_of_another_resolution_load(weights):
    model = build_sam2("test", weights, device="cpu", hydra_overrides_extra=["++model.image_size=96"])
    assert model.image_size == 96


def test_a_weight_file_in_place_of_the_name_is_noticed(weights):
    with pytest.raises(SettingError, match=r"model\.pt .* is no model configuration"):
        build_sam2(weights)
    with pytest.raises(UnknownVariantError, match=r"gone\.pt is a weight file, not a model's name"):
        build_sam2("gone.pt")
    with pytest.raises(
        UnknownVariantError, match=r"there is no file .*my_model\.yaml, and no model is called"
    ):
        build_sam2("configs/my_model.yaml")
    with pytest.raises(
        CheckpointError, match=r'has 4 trunk blocks, model "demo" has 6; did you mean model=test\?'
    ):
        build_sam2("demo", weights)


# --- the reference's settings ------------------------------------------------------------------------------------

EFFECTS = [
    ("image_size=512", "variant.image_size", 512),
    ("num_maskmem=4", "variant.heads.memory_slots", 4),
    ("num_maskmem=9", "policy.slots", 9),
    ("max_obj_ptrs_in_encoder=20", "variant.heads.max_pointers", 20),
    ("max_obj_ptrs_in_encoder=20", "policy.max_pointers", 20),
    ("iou_prediction_use_sigmoid=False", "variant.heads.iou_sigmoid", False),
    ("memory_attention.num_layers=2", "variant.heads.memory_layers", 2),
    ("memory_attention.layer.dim_feedforward=512", "variant.heads.memory_mlp", 512),
    ("no_obj_embed_spatial=false", "variant.version.empty_memory_embedding", False),
    ("use_signed_tpos_enc_to_obj_ptrs=false", "variant.version.pointer_position_signed", False),
    ("proj_tpos_enc_in_obj_ptrs=false", "variant.version.pointer_position_projected", False),
    ("memory_temporal_stride_for_eval=3", "policy.stride", 3),
    ("max_cond_frames_in_attn=4", "policy.max_prompted", 4),
    ("only_obj_ptrs_in_the_past_for_eval=false", "policy.pointers_past_only", False),
    ("binarize_mask_from_pts_for_mem_enc=false", "policy.binarise_prompted", False),
    ("non_overlap_masks_for_mem_enc=true", "policy.non_overlap", True),
    ("sam_mask_decoder_extra_args.dynamic_multimask_via_stability=false", "policy.stability_threshold", 0.0),
    ("sam_mask_decoder_extra_args.dynamic_multimask_stability_delta=0.1", "policy.stability_delta", 0.1),
    ("sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh=0.9", "policy.stability_threshold", 0.9),
    ("image_encoder.trunk.drop_path_rate=2e-1", "drop_path", 0.2),
    ("compile_image_encoder=true", "compile_image_encoder", True),
]


@pytest.mark.parametrize(("override", "field", "value"), EFFECTS)
@pytest.mark.parametrize("plus", ["++", "+", ""])
def test_a_setting_changes_its_field_and_nothing_unrelated(override, field, value, plus):
    changed = find_recipe("sam2.1_t", [f"{plus}model.{override}"])
    found = changed
    for part in field.split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)
    plain = find_recipe("sam2.1_t")
    assert changed != plain
    related = (
        {"variant", "policy"} if override.startswith(("num_maskmem", "max_obj")) else {field.split(".")[0]}
    )
    for part in dataclasses.fields(plain):
        assert part.name in related or getattr(changed, part.name) == getattr(plain, part.name)


def test_all_dropouts_of_memory_attention_move_together():
    names = [f"memory_attention.layer.{part}dropout" for part in ("", "self_attention.", "cross_attention.")]
    changed = find_recipe("sam2.1_t", [f"++model.{name}=0.0" for name in names])
    assert changed.variant.heads.dropout == 0.0
    with pytest.raises(SettingError, match=r"has one dropout rate here; set all three alike"):
        find_recipe("sam2.1_t", [f"++model.{names[0]}=0.0"])


def test_postprocessing_is_the_references_and_can_be_switched_off():
    assert find_recipe("sam2.1_t").policy == INFERENCE
    off = find_recipe("sam2.1_t", postprocessing=False).policy
    assert off == dataclasses.replace(INFERENCE, binarise_prompted=False, stability_threshold=0.0)
    asked = ["++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true"]
    assert find_recipe("sam2.1_t", asked, postprocessing=False).policy.stability_threshold == 0.98


def test_settings_reach_the_built_model():
    overrides = ["++model.memory_temporal_stride_for_eval=2", "model.image_encoder.trunk.drop_path_rate=0.5"]
    model = build_sam2(
        "test", device="cpu", hydra_overrides_extra=[*overrides, "++model.compile_image_encoder=true"]
    )
    assert model.policy.stride == 2 and model.policy.slots == VARIANTS["test"].heads.memory_slots
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.image_encoder.trunk.blocks]
    assert rates[0] == 0.0 and rates[-1] == pytest.approx(0.5)
    assert model.image_encoder._compiled_call_impl is not None
    assert model.state_dict().keys() == SAM2(VARIANTS["test"]).state_dict().keys()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "++model.imagesize=512",
            r"unknown setting model\.imagesize; did you mean model\.image_size\?.*model\.num_mask",
        ),
        ("++model.zzz=1", r"unknown setting model\.zzz Settings with an effect: model\.image_size"),
        (
            "++model.pred_obj_scores=false",
            r"model\.pred_obj_scores is always True here, got False: .*architecture",
        ),
        (
            "++model.sigmoid_scale_for_mem_enc=1",
            r"always 20\.0 here, got 1: the released weights were trained with it",
        ),
        ("++model.image_encoder.trunk.embed_dim=112", r"embed_dim is always 96 here, got 112"),
        (
            "++model._target_=sam2.sam2_video_predictor.SAM2VideoPredictor",
            r"this class is no part of the model",
        ),
        ("++model.image_size=big", r"model\.image_size=big: expected a whole number"),
        ("++model.image_size=512.5", r"expected a whole number"),
        ("++model.image_size=500", r"image_size 500 is not a positive multiple of 32"),
        ("++model.non_overlap_masks_for_mem_enc=1", r"expected true or false"),
        ("++model.max_cond_frames_in_attn=1", r"max_prompted must be -1 \(all\) or at least 2"),
        ("++model.add_tpos_enc_to_obj_ptrs=false", r"proj_tpos_enc_in_obj_ptrs needs model\.add_tpos"),
        ("++scratch.resolution=512", r"only settings of the model can be overridden"),
        ("~model.image_size", r"expected \+\+model\.NAME=VALUE"),
        ("model.image_size", r"expected \+\+model\.NAME=VALUE"),
        ("++model.image_size=[", r"the value is no YAML"),
    ],
)
def test_an_impossible_setting_says_why(override, message):
    with pytest.raises(ValueError, match=message):
        find_recipe("sam2.1_t", [override])


@pytest.mark.parametrize(
    "override",
    [
        "++model.sigmoid_bias_for_mem_enc=-10",
        "++model.image_encoder.trunk.stages=[1,2,7,2]",
        "++model.memory_attention.layer.self_attention.feat_sizes=[32,32]",
        "++model.soft_no_obj_ptr=false",
        "++model.memory_encoder.fuser.layer.layer_scale_init_value=1e-6",
        "++model._target_=sam2.modeling.sam2_base.SAM2Base",
    ],
)
def test_saying_what_is_already_so_changes_nothing(override):
    assert find_recipe("sam2.1_t", [override]) == find_recipe("sam2.1_t")


# --- configuration files -----------------------------------------------------------------------------------------


def test_a_file_of_ours_names_a_variant_and_settings(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(
        "variant: sam2.1_hiera_s\nimage_size: 512\nmemory_attention:\n  num_layers: 2\n"
    )
    monkeypatch.chdir(tmp_path)
    for spelling in ("mine.yaml", tmp_path / "mine.yaml"):
        recipe = find_recipe(spelling, ["++model.num_maskmem=5"])
        assert recipe.variant.name == "sam2.1_s" and recipe.variant.image_size == 512
        assert recipe.variant.heads.memory_layers == 2 and recipe.policy.slots == 5
    assert find_recipe("mine.yaml", ["model.image_size=256"]).variant.image_size == 256


def reference_configuration(trunk, **settings):
    """A model file in the reference's form: class paths, nested parts, trunk numbers where they differ from its own."""
    return {
        "model": {
            "_target_": "sam2.modeling.sam2_base.SAM2Base",
            "image_encoder": {
                "_target_": "sam2.modeling.backbones.image_encoder.ImageEncoder",
                "scalp": 1,
                "trunk": {"_target_": "sam2.modeling.backbones.hieradet.Hiera", **trunk},
                "neck": {"d_model": 256, "fpn_top_down_levels": [2, 3], "fpn_interp_model": "nearest"},
            },
            "memory_attention": {
                "d_model": 256,
                "layer": {"dropout": 0.1, "activation": "relu"},
                "num_layers": 4,
            },
            "num_maskmem": 7,
            "image_size": 1024,
            "sigmoid_scale_for_mem_enc": 20.0,
            "add_tpos_enc_to_obj_ptrs": False,
            "compile_image_encoder": False,
            **settings,
        }
    }


TINY = {"stages": [1, 2, 7, 2], "global_att_blocks": [5, 7, 9], "window_pos_embed_bkg_spatial_size": [7, 7]}
NEW = {
    "no_obj_embed_spatial": True,
    "add_tpos_enc_to_obj_ptrs": True,
    "proj_tpos_enc_in_obj_ptrs": True,
    "use_signed_tpos_enc_to_obj_ptrs": True,
}


@pytest.mark.parametrize(
    ("trunk", "settings", "name"),
    [
        (TINY, {}, "sam2_t"),
        (TINY, NEW, "sam2.1_t"),
        ({"embed_dim": 112, "num_heads": 2}, NEW, "sam2.1_b+"),
    ],
)
def test_a_model_file_of_the_reference_is_recognised_whatever_its_name(trunk, settings, name, tmp_path):
    path = tmp_path / "edited.yaml"
    path.write_text(yaml.safe_dump(reference_configuration(trunk, **settings)))
    assert find_recipe(path).variant == VARIANTS[name]


def test_edits_of_a_reference_file_count_even_under_an_official_name(tmp_path):
    path = tmp_path / "sam2.1_hiera_t.yaml"
    path.write_text(yaml.safe_dump(reference_configuration(TINY, **NEW | {"image_size": 512})))
    assert find_recipe(path).variant == VARIANTS["sam2.1_t"].at(512)
    path.write_text(yaml.safe_dump(reference_configuration(TINY, **NEW | {"soft_no_obj_ptr": True})))
    with pytest.raises(SettingError, match=r"sam2\.1_hiera_t\.yaml: model\.soft_no_obj_ptr is always False"):
        find_recipe(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", r"describes no model"),
        ("image_size: 512\n", r"describes no model: expected a run's config\.yaml"),
        ("variant: sam9\n", r"no model is called 'sam9'"),
        ("variant: sam2_t\nimagesize: 3\n", r"mine\.yaml: unknown setting model\.imagesize; did you mean"),
        ("model: {image_encoder: {trunk: {embed_dim: 100}}}\n", r"no released model has a trunk of"),
        ("model: {}\ntrainer: {}\n", r"has trainer beside `model`"),
        ("a: [\n", r"is no YAML"),
    ],
)
def test_a_file_that_describes_no_model_says_so(text, message, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        find_recipe(tmp_path / "mine.yaml")


# --- weights by path or id ---------------------------------------------------------------------------------------


def test_from_pretrained_takes_a_file_or_its_folder(weights):
    for source in (weights, weights.parent, str(weights)):
        predictor = SAM2ImagePredictor.from_pretrained(source, device="cpu", max_hole_area=3)
        assert predictor.model.variant.name == "test" and predictor.max_hole_area == 3
        assert not predictor.model.training
    model = build_sam2_hf(weights, device="cpu", hydra_overrides_extra=["++model.image_size=96"])
    assert model.image_size == 96
    with pytest.raises(TypeError, match=r"no argument 'mask_treshold'"):
        SAM2ImagePredictor.from_pretrained(weights, mask_treshold=1)


def test_a_released_file_name_decides_without_reading(tmp_path):
    (tmp_path / "sam2.1_hiera_base_plus.pt").write_bytes(b"not read")
    assert pretrained.locate(tmp_path)[0] == "sam2.1_b+"


def test_a_folder_must_hold_one_weight_file(tmp_path, weights):
    with pytest.raises(PretrainedError, match=r"should hold one weight file .* found none"):
        pretrained.locate(tmp_path)
    for name in ("a.pt", "b.ckpt"):
        (tmp_path / name).write_bytes(weights.read_bytes())
    with pytest.raises(PretrainedError, match=r"found a\.pt, b\.ckpt"):
        pretrained.locate(tmp_path)


def test_every_released_id_names_its_variant_and_file(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download",
        lambda repo_id, filename: asked.append((repo_id, filename)) or "/cache/file",
    )
    assert pretrained.locate("facebook/sam2.1-hiera-base-plus") == ("sam2.1_b+", Path("/cache/file"))
    assert pretrained.locate("facebook/sam2-hiera-large") == ("sam2_l", Path("/cache/file"))
    assert asked == [
        ("facebook/sam2.1-hiera-base-plus", "sam2.1_hiera_base_plus.pt"),
        ("facebook/sam2-hiera-large", "sam2_hiera_large.pt"),
    ]
    assert {variant for variant, _ in pretrained.RELEASED.values()} == {n for n in VARIANTS if golden_has(n)}


def golden_has(name):
    return name.startswith("sam2") and bool(golden.manifest(name))


def test_an_id_without_a_connection_says_what_to_do(monkeypatch):
    def offline(**_):
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(
        PretrainedError, match=r"sam2_hiera_tiny\.pt of facebook/sam2-hiera-tiny.*pass its path"
    ):
        SAM2ImagePredictor.from_pretrained("facebook/sam2-hiera-tiny")
    with pytest.raises(
        PretrainedError, match=r"neither a weight file or folder nor a released model; known: facebook/"
    ):
        SAM2ImagePredictor.from_pretrained("facebook/sam-vit-huge")
    with pytest.raises(PretrainedError, match=r"gone\.pt does not exist"):
        SAM2ImagePredictor.from_pretrained("gone.pt")
