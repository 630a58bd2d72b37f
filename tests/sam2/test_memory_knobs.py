"""Channels of a remembered map and number of slots: one knob each, in recipes and in the reference's settings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from data.clip import ClipBatch
from data.prompts import PromptPlan, PromptPolicy, SimulatedUser
from sam2.build_sam import build_sam2, build_sam2_video_predictor
from sam2.checkpoint import CheckpointError, export
from sam2.evaluation.benchmark_run import Follower
from sam2.evaluation.following import Start, follow
from sam2.model.memory_bank import INFERENCE, MemoryPolicy, fitted
from sam2.model.sam2 import SAM2
from sam2.model_config import find_recipe
from sam2.reference_settings import SettingError
from sam2.training.config import ModelConfig, RunConfig
from sam2.training.losses import LossConfig
from sam2.training.module import TrainingModule
from sam2.training.typed import ConfigError, from_mapping
from sam2.training.unroll import training_loss
from sam2.variants import VARIANTS, Heads
from sam2.video_frames import open_frames


def batch(frames: int = 7) -> ClipBatch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (frames, 1, 3, 64, 64), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(frames, 2, 64, 64, dtype=torch.bool)
    masks[:, 0, 5:25, 10:30] = masks[:, 1, 40:60, 10:50] = True
    return ClipBatch(pixels, masks, torch.tensor([0, 0]), torch.tensor([1, 2]), 0, ("clip",))


def run(**model) -> RunConfig:
    return from_mapping(
        RunConfig,
        {"data": {"root": "nowhere"}, "trainer": {"max_steps": 1}, "model": {"name": "test", **model}},
    )


@pytest.mark.parametrize(("dim", "slots"), [(8, 2), (16, 5), (32, 2), (32, 9)])
def test_a_model_of_other_memory_trains_exports_and_loads_back(tmp_path, dim, slots):
    module = TrainingModule(run(mem_dim=dim, memory_slots=slots)).train()
    model = module.model
    assert model.maskmem_tpos_enc.shape == (slots, 1, 1, dim)
    assert module.policy.slots == model.policy.slots == slots
    clip, plan = batch(), PromptPlan(7, False, (0,), corrected=frozenset(), clicks=0)
    user = SimulatedUser(plan, PromptPolicy(), clip.masks, clip.object_seeds)
    training_loss(model, clip, plan, user, module.policy, LossConfig(), 2.0).total(LossConfig()).backward()
    reached = model.maskmem_tpos_enc.grad.flatten(1).abs().sum(1) > 0
    # on the last of 7 frames there are 5 recent ones, and the prompted frame has the last code
    assert reached.tolist() == [k < 5 or k == slots - 1 for k in range(slots)]
    torch.optim.SGD(model.parameters(), 0.01).step()

    export(model.eval(), tmp_path / "model.pt")
    settings = [f"++model.memory_encoder.out_dim={dim}", f"++model.num_maskmem={slots}"]
    loaded = build_sam2_video_predictor("test", tmp_path / "model.pt", "cpu", hydra_overrides_extra=settings)
    assert loaded.variant.heads == model.variant.heads and loaded.policy.slots == slots
    pixels = clip.frames[:, 0].permute(0, 2, 3, 1).numpy()
    starts = [Start(o, 0, mask) for o, mask in enumerate(clip.masks[0].numpy(), 1)]
    shown = [list(follow(Follower(m).session(open_frames(pixels, 64)), starts)) for m in (model, loaded)]
    assert len(shown[0]) == 7
    assert all(torch.equal(ours.logits, theirs.logits) for ours, theirs in zip(*shown, strict=True))


def test_a_file_with_settings_says_it_as_well(tmp_path):
    (tmp_path / "small.yaml").write_text("variant: test\nmemory_encoder.out_dim: 8\nnum_maskmem: 3\n")
    heads = build_sam2(tmp_path / "small.yaml", device="cpu").variant.heads
    assert (heads.mem_dim, heads.memory_slots) == (8, 3)


@pytest.mark.parametrize("dim", [32, 64, 128, 256])
def test_every_width_that_divides_the_pointers_makes_a_released_size(dim):
    with torch.device("meta"):
        model = SAM2(ModelConfig(name="sam2.1_t", mem_dim=dim).variant)
    assert model.memory_attention.layers[0].cross_attn_image.k_proj.in_features == dim
    assert model.obj_ptr_tpos_proj.out_features == dim == model.no_obj_embed_spatial.shape[1]


def test_null_is_the_variants_own():
    assert ModelConfig(name="sam2.1_t").variant == VARIANTS["sam2.1_t"]
    assert ModelConfig(name="test", image_size=128).variant == VARIANTS["test"].at(128)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"mem_dim": 48}, r"model\.mem_dim is 48; pointers of width 32 .* one of 4, 8, 16, 32"),
        ({"mem_dim": 2}, r"model\.mem_dim is 2; .* four parts"),
        ({"mem_dim": 64}, r"model\.mem_dim is 64"),
        ({"memory_slots": 0}, r"model\.memory_slots is 0; it must be at least 1"),
        ({"mem_dims": 8}, r"unknown key 'model\.mem_dims'; did you mean 'mem_dim'\?"),
    ],
)
def test_impossible_combinations_are_refused_by_name(model, message):
    with pytest.raises(ConfigError, match=message):
        run(**model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["memory_encoder.out_dim=48"], r"model\.memory_encoder\.out_dim: mem_dim is 48; .* 128, 256"),
        (["num_maskmem=0"], r"model\.num_maskmem: memory_slots is 0"),
        (["max_obj_ptrs_in_encoder=0"], r"model\.max_obj_ptrs_in_encoder: max_pointers is 0"),
        (
            ["memory_attention.layer.cross_attention.kv_in_dim=32"],
            r"kv_in_dim is always 64 here, got 32: it follows model\.memory_encoder\.out_dim",
        ),
        (
            ["memory_encoder.out_dim=32", "memory_encoder.position_encoding.num_pos_feats=64"],
            r"num_pos_feats is always 32 here, got 64: it follows",
        ),
    ],
)
def test_the_references_settings_refuse_what_disagrees(settings, message):
    with pytest.raises(SettingError, match=message):
        find_recipe("sam2.1_t", [f"++model.{setting}" for setting in settings])


def test_the_references_three_widths_in_agreement_are_one_knob():
    names = (
        "memory_encoder.out_dim",
        "memory_encoder.position_encoding.num_pos_feats",
        "memory_attention.layer.cross_attention.kv_in_dim",
    )
    together = find_recipe("sam2.1_t", [f"++model.{name}=32" for name in reversed(names)])
    assert together == find_recipe("sam2.1_t", ["++model.memory_encoder.out_dim=32"])
    assert together.variant.heads == replace(VARIANTS["sam2.1_t"].heads, mem_dim=32)


def test_a_file_of_another_memory_is_refused_and_its_tensors_are_named(tmp_path):
    export(SAM2(VARIANTS["test"]), tmp_path / "own.pt")
    for model, tensors in (
        ({"mem_dim": 8}, r"maskmem_tpos_enc \(4x1x1x16 in the file, 4x1x1x8 here\)"),
        ({"memory_slots": 5}, r"maskmem_tpos_enc \(4x1x1x16 in the file, 5x1x1x16 here\)"),
    ):
        with pytest.raises(CheckpointError, match=rf"own\.pt[\s\S]*of another shape: [\s\S]*{tensors}"):
            TrainingModule(run(checkpoint=str(tmp_path / "own.pt"), **model))


def test_a_model_runs_with_all_slots_that_it_has_codes_for():
    heads = Heads(memory_slots=9, max_pointers=4)
    assert fitted(INFERENCE, heads).slots == 9 and fitted(INFERENCE, heads).max_pointers == 4
    assert fitted(MemoryPolicy(slots=3), heads).slots == 9
