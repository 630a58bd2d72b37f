"""The drop-in builder of the video predictor."""

from __future__ import annotations

import pytest
import torch

from sam2.build_sam import build_sam2, build_sam2_video_predictor
from sam2.reference_settings import SettingError
from sam2.sam2_video_predictor import SAM2VideoPredictor
from tests.sam2.tracked import square, video


def test_defaults_are_the_reference_s():
    predictor = build_sam2_video_predictor("test", device="cpu")
    assert isinstance(predictor, SAM2VideoPredictor) and not predictor.training
    assert predictor.fill_hole_area == 8
    assert predictor.policy.binarise_prompted and predictor.policy.stability_threshold == 0.98
    assert predictor.policy.storage == torch.bfloat16
    assert not predictor.non_overlap_masks and not predictor.add_all_frames_to_correct_as_cond


def test_without_post_processing_nothing_is_done_to_the_masks():
    predictor = build_sam2_video_predictor("test", device="cpu", apply_postprocessing=False)
    assert predictor.fill_hole_area == 0
    assert not predictor.policy.binarise_prompted and predictor.policy.stability_threshold == 0


def test_settings_of_videos_are_taken_as_overrides():
    names = ("non_overlap_masks", "clear_non_cond_mem_around_input", "add_all_frames_to_correct_as_cond")
    overrides = [f"++model.{name}=true" for name in names] + ["++model.fill_hole_area=3"]
    predictor = build_sam2_video_predictor("test", device="cpu", hydra_overrides_extra=overrides)
    assert all(getattr(predictor, name) for name in names)
    assert predictor.fill_hole_area == 3


def test_the_same_weight_file_fits_both_kinds_of_model(tmp_path):
    model = build_sam2("test", device="cpu")
    torch.save({"model": model.state_dict()}, tmp_path / "model.pt")
    predictor = build_sam2_video_predictor("test", tmp_path / "model.pt", device="cpu")
    for name, value in model.state_dict().items():
        assert torch.equal(predictor.state_dict()[name], value)


def test_a_caller_of_the_reference_runs_unchanged(tmp_path):
    predictor = build_sam2_video_predictor(config_file="test", ckpt_path=None, device="cpu")
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        state = predictor.init_state(video_path=video(5))
        _, ids, masks = predictor.add_new_points_or_box(
            inference_state=state, frame_idx=0, obj_id=1, points=[[20, 20]], labels=[1]
        )
        assert ids == [1] and masks.shape == (1, 1, 48, 80)
        predictor.add_new_mask(inference_state=state, frame_idx=0, obj_id=2, mask=square(0))
        for count, (frame, ids, masks) in enumerate(predictor.propagate_in_video(state)):
            assert (frame, ids) == (count, [1, 2])
            assert (masks > 0.0).cpu().numpy().shape == (2, 1, 48, 80)
        predictor.reset_state(state)
    assert state["obj_ids"] == []


def test_what_is_not_known_is_an_error():
    with pytest.raises(SettingError, match=r"unknown setting model\.fill_holes_area; did you mean"):
        build_sam2_video_predictor("test", hydra_overrides_extra=["++model.fill_holes_area=8"])
    with pytest.raises(TypeError, match="a config is needed"):
        build_sam2_video_predictor()


def test_a_name_in_place_of_a_variant_is_answered_with_the_two_ways_to_a_predictor():
    expected = (
        r"variant is of type str, expected a Variant; .*build_sam2_video_predictor\(config, checkpoint\) or "
    )
    with pytest.raises(TypeError, match=expected + r"SAM2VideoPredictor\.from_pretrained\(file_or_id\)"):
        SAM2VideoPredictor("sam2.1_t")


def test_compiling_is_announced_once(monkeypatch, caplog):
    monkeypatch.setattr(SAM2VideoPredictor, "compile_for_tracking", lambda self: None)
    build_sam2_video_predictor("test", device="cpu", vos_optimized=True)
    assert [record.getMessage() for record in caplog.records] == [
        "the model is compiled at its first frames: they take about a minute, on a CPU several"
    ]


def test_compiled_for_videos_it_gives_the_same_answers():
    plain = build_sam2_video_predictor("test", device="cpu")
    compiled = build_sam2_video_predictor("test", device="cpu")
    compiled.load_state_dict(plain.state_dict())
    torch._dynamo.reset()
    compiled.compile_for_tracking(backend="eager")
    found = []
    for predictor in (plain, compiled):
        state = predictor.init_state(video(8))
        predictor.add_new_mask(state, 0, 1, square(0))
        found.append(torch.stack([m for *_, m in predictor.propagate_in_video(state, progress=False)]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-2, atol=1e-2)
