"""The reference's video predictor, step by step: recorded scripts of prompts, passes and corrections, replayed here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sam2.build_sam import build_sam2_video_predictor
from sam2.reference_state import ReferenceState
from sam2.sam2_video_predictor import SAM2VideoPredictor
from tests import golden

LOGITS, SCORES, POINTERS = 1e-2, 1e-4, 1e-3
NAMES = golden.names("video_")
LONG = (
    "video_sam2.1_t_1024",
    "video_sam2_t_512",
)  # the scripts of sam2.1_t at 512 pixels, at another size and of SAM 2.0


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in NAMES]
)
def test_every_step_of_a_recorded_session_equals_the_reference(name, tmp_path):
    case = golden.case(name)
    replay = Replay(case, tmp_path)
    for i, op in enumerate(case.meta["ops"]):
        replay.run(op, f"op{i:02d}_{op['op']}/")


class Replay:
    """One recorded session."""

    def __init__(self, case: golden.Case, folder: Any) -> None:
        meta = case.meta
        self.case, self.size = case, meta["size"]
        file = folder / "golden.pt"
        weights = golden.state_dict(meta["model"], meta["variant"], meta.get("salt", ""))
        torch.save({"model": weights}, file)
        version, size = meta["model"].rsplit("_", 1)
        self.predictor: SAM2VideoPredictor = build_sam2_video_predictor(
            f"{version}_hiera_{size}.yaml",
            file,
            device="cpu",
            hydra_overrides_extra=[
                f"++model.image_size={self.size}",
                f"++model.fill_hole_area={meta['fill_hole_area']}",
                *meta["overrides"],
            ],
        )
        frames, self.masks = golden.inputs.video(*meta["video"])
        images = torch.from_numpy(golden.inputs.model_frames(frames, self.size))
        height, width = frames.shape[1:3]
        self.state: ReferenceState = self.predictor.init_state(images, video_height=height, video_width=width)

    def run(self, op: dict[str, Any], key: str) -> None:
        """Do one step and compare everything that was recorded of it."""
        kind, predictor, state = op["op"], self.predictor, self.state
        if kind in ("points", "box"):
            given = {name: op.get(name) for name in ("points", "labels", "box")}
            clear = op.get("clear_old", True)
            found = predictor.add_new_points_or_box(
                state, op["frame"], op["obj"], clear_old_points=clear, **given
            )
            self._same_masks(found[2], key)
        elif kind == "mask":
            mask = self.masks[tuple(op["mask_of"])]
            self._same_masks(predictor.add_new_mask(state, op["frame"], op["obj"], mask)[2], key)
        elif kind == "propagate":
            self._propagate(op, key)
        elif kind == "clear":
            self._same_masks(predictor.clear_all_prompts_in_frame(state, op["frame"], op["obj"])[2], key)
        elif kind == "remove":
            ids, updated = predictor.remove_object(state, op["obj"])
            assert ids == self.case[f"{key}ids"].tolist()
            assert [frame for frame, _ in updated] == self.case[f"{key}updated_frames"].tolist()
            for frame, masks in updated:
                self._same_masks(masks, f"{key}f{frame}/")
        else:
            assert kind == "reset"
            predictor.reset_state(state)
        assert state["obj_ids"] == self.case[f"{key}obj_ids"].tolist()
        tracked = [len(frames) for frames in state["frames_tracked_per_obj"].values()]
        assert tracked == self.case[f"{key}tracked"].tolist()

    def _propagate(self, op: dict[str, Any], key: str) -> None:
        case, state = self.case, self.state
        passes = self.predictor.propagate_in_video(
            state, op.get("start"), op.get("max"), op.get("reverse", False), progress=False
        )
        count = 0
        for k, (frame, ids, masks) in enumerate(passes):
            assert frame == case[f"{key}frame"][k]
            areas = (masks[:, 0] > 0).sum((1, 2)).numpy()
            np.testing.assert_allclose(areas, case[f"{key}area"][k], rtol=1e-3, atol=5)
            for o in range(len(ids)):
                outputs = state["output_dict_per_obj"][o]
                is_cond = bool(case[f"{key}is_cond"][k, o])
                kept = outputs["cond_frame_outputs" if is_cond else "non_cond_frame_outputs"][frame]
                low_res = kept["pred_masks"]
                self._close(low_res[0, 0], case[f"{key}low_sub"][k, o], self.size // 128, LOGITS)
                self._same_statistics(low_res, case[f"{key}low_stats"][k, o])
                scores = kept["object_score_logits"].numpy().ravel()
                np.testing.assert_allclose(scores, case[f"{key}score"][k, o], atol=SCORES, rtol=0)
                pointer = kept["obj_ptr"][0, :8].numpy()
                np.testing.assert_allclose(pointer, case[f"{key}ptr8"][k, o], atol=POINTERS, rtol=0)
                assert kept["maskmem_features"].dtype == torch.bfloat16
                self._same_statistics(kept["maskmem_features"], case[f"{key}mem_stats"][k, o])
            count += 1
        assert count == len(case[f"{key}frame"])

    def _same_masks(self, masks: torch.Tensor, key: str) -> None:
        self._close(masks[:, 0], self.case[f"{key}video_res_sub"], 8, LOGITS)
        for mask, expected in zip(masks, self.case[f"{key}video_res_stats"], strict=True):
            self._same_statistics(mask, expected)

    @staticmethod
    def _close(actual: torch.Tensor, expected: np.ndarray, step: int, tolerance: float) -> None:
        sub = actual[..., step // 4 :: step, step // 2 :: step].numpy()
        np.testing.assert_allclose(sub, expected, atol=tolerance, rtol=0)

    @staticmethod
    def _same_statistics(actual: torch.Tensor, expected: np.ndarray) -> None:
        x = actual.double()
        found = [x.abs().mean().item(), x.std(correction=0).item()]
        np.testing.assert_allclose(found, expected[1:3], rtol=1e-3, atol=1e-3)
