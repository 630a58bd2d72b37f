"""What a caller of the video predictor can rely on beyond the recorded sessions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sam2.image_prompts import PromptError
from sam2.model.sam2 import SAM2
from sam2.policies import PolicyError
from sam2.policies.samurai import Samurai
from sam2.reference_state import ReferenceState
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.video_session import VideoSession
from sam2.video_state import SessionError, SessionOptions
from tests.sam2.tracked import reachable_bytes, square, tiny, video


def follow(predictor: SAM2VideoPredictor, state: ReferenceState, **how: Any) -> dict[int, torch.Tensor]:
    return {f: m for f, _, m in predictor.propagate_in_video(state, progress=False, **how)}


def begun(predictor: SAM2VideoPredictor, frames: int = 10, objects: int = 1, **how: Any) -> ReferenceState:
    state = predictor.init_state(video(frames), **how)
    for k in range(objects):
        predictor.add_new_mask(state, 0, k, np.roll(square(0), 3 * k, axis=1))
    return state


def test_objects_together_equal_objects_alone():
    predictor, frames = tiny(), video(12)
    prompts = [(0, "a", square(0)), (0, "b", np.roll(square(0), 20, axis=1)), (4, "c", square(4))]
    together = predictor.init_state(frames)
    for frame, name, mask in prompts:
        predictor.add_new_mask(together, frame, name, mask)
    found = follow(predictor, together)
    for k, (frame, name, mask) in enumerate(prompts):
        alone = predictor.init_state(frames)
        predictor.add_new_mask(alone, frame, name, mask)
        for t, masks in follow(predictor, alone, start_frame_idx=0).items():
            torch.testing.assert_close(found[t][k : k + 1], masks, rtol=1e-4, atol=1e-4)


def test_the_size_of_a_batch_changes_nothing():
    model = tiny()
    found = []
    for rows in (1, 2, 16):
        session = VideoSession(model, begun(model).frames, SessionOptions(max_rows=rows))
        for k in range(5):
            session.add_mask(0, k, np.roll(square(0), 3 * k, axis=1))
        found.append(torch.stack([masks.logits for masks in session.propagate()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[0], found[2], rtol=1e-4, atol=1e-4)


def test_the_order_of_objects_does_not_matter():
    predictor, frames = tiny(), video(8)
    found = []
    for order in ((0, 1, 2), (2, 0, 1)):
        state = predictor.init_state(frames)
        for k in order:
            predictor.add_new_mask(state, 0, k, np.roll(square(0), 9 * k, axis=1))
        masks = torch.stack(list(follow(predictor, state).values()))
        found.append(masks[:, [order.index(k) for k in range(3)]])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_tracking_backwards_past_the_first_prompt_finds_memory_but_no_pointer_and_goes_on():
    predictor = tiny()
    state = predictor.init_state(video(10))
    predictor.add_new_mask(state, 6, 1, square(6))
    assert list(follow(predictor, state, start_frame_idx=2, max_frame_num_to_track=3)) == [2, 3, 4, 5]
    assert list(follow(predictor, state, reverse=True)) == [6, 5, 4, 3, 2, 1, 0]


def test_an_object_may_come_after_tracking_has_begun():
    predictor = tiny()
    state = begun(predictor)
    follow(predictor, state)
    predictor.add_new_points_or_box(state, 5, "new", box=[10, 10, 40, 40])
    found = follow(predictor, state, start_frame_idx=5)
    assert all(masks.shape == (2, 1, 48, 80) for masks in found.values())
    assert state["obj_ids"] == [0, "new"]


def test_what_is_prompted_during_a_pass_counts_from_the_next_one():
    predictor = tiny()
    state, expected = begun(predictor), follow(predictor, begun(predictor))
    for frame, ids, masks in predictor.propagate_in_video(state, progress=False):
        assert ids == [0]
        assert torch.equal(masks, expected[frame])
        if frame == 2:
            predictor.add_new_mask(state, 2, "new", square(2))
            predictor.add_new_points_or_box(state, 4, 0, points=[[60, 40]], labels=[1])
    predictor.add_new_mask(state, 5, "new", square(5))
    assert state["frames_tracked_per_obj"][1] == {}
    second = follow(predictor, state)
    assert state.objects["new"].prompted_frames == [2, 5]
    assert all(masks.shape == (2, 1, 48, 80) for masks in second.values())
    assert not torch.equal(second[5][:1], expected[5])


def test_an_object_that_is_removed_during_a_pass_is_left_out_at_once():
    predictor = tiny()
    state, seen = begun(predictor, objects=2), {}
    for frame, ids, masks in predictor.propagate_in_video(state, progress=False):
        seen[frame] = (ids, len(masks))
        if frame == 3:
            predictor.remove_object(state, 0)
    assert seen[3] == ([0, 1], 2)
    assert seen[4] == seen[9] == ([1], 1)


def test_scores_come_beside_the_reference_s_answer_when_asked_for():
    predictor = tiny()
    state = begun(predictor, objects=2)
    plain = predictor.add_new_points_or_box(state, 0, 0, points=[[20, 20]], labels=[1])
    assert len(plain) == 3
    *_, scores = predictor.add_new_mask(state, 0, 1, square(0), return_scores=True)
    assert scores["iou"][1] == 1 and scores["object"][1] == 10
    for *_, scores in predictor.propagate_in_video(state, progress=False, return_scores=True):
        assert scores["iou"].shape == scores["object"].shape == (2,)
        assert scores["iou"].isfinite().all() and scores["object"].isfinite().all()


def test_scores_of_an_object_without_an_answer_are_unknown():
    predictor = tiny()
    state = begun(predictor)
    _, _, masks, scores = predictor.add_new_mask(state, 3, "later", square(3), return_scores=True)
    assert scores["iou"].isnan().tolist() == [True, False]
    assert (masks[0] == -1024).all()


def test_holes_are_filled_on_a_cpu_as_an_independent_labelling_says():
    label = _label
    plain, filling = tiny(), tiny(fill_hole_area=3)
    answers = []
    for predictor in (plain, filling):
        state = predictor.init_state(video(2))
        predictor.add_new_points_or_box(state, 0, 1, points=[[30, 20]], labels=[1])
        answers.append(state.objects[1].pending[0].answer.low_res[0, 0])
    expected = answers[0].clone()
    for hole in label((answers[0] <= 0).numpy()):
        if len(hole) <= 3:
            expected[tuple(np.array(hole).T)] = 0.1
    assert not torch.equal(expected, answers[0])
    assert torch.equal(answers[1], expected)


def _label(region: np.ndarray) -> list[list[tuple[int, int]]]:
    """Components of 8 neighbours, by flooding."""
    left, found = {(int(y), int(x)) for y, x in np.argwhere(region)}, []
    while left:
        todo, component = [left.pop()], []
        while todo:
            y, x = todo.pop()
            component.append((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            todo += near
        found.append(component)
    return found


def test_masks_given_out_do_not_overlap_if_asked_for():
    predictor = tiny(non_overlap_masks=True)
    for masks in follow(predictor, begun(predictor, objects=3)).values():
        assert ((masks > 0).sum(0) <= 1).all()


def test_remembered_masks_do_not_overlap_if_asked_for():
    model = tiny()
    model.policy = replace(model.policy, non_overlap=True)
    frames = begun(model).frames
    apart, together = VideoSession(model, frames), VideoSession(model, frames)
    for session, ids in ((apart, [0]), (together, [0, 1])):
        for k in ids:
            session.add_mask(0, k, np.roll(square(0), 4 * k, axis=1))
        assert len(list(session.propagate())) == 10
    one, two = (session.objects[0].track.best.memory.get(5).spatial for session in (apart, together))
    assert not torch.equal(one, two)


def test_a_prompt_makes_an_object_forget_what_was_tracked_nearby():
    predictor = tiny(clear_non_cond_mem_around_input=True)
    state = begun(predictor, frames=16, objects=2)
    follow(predictor, state)
    assert len(state.objects[0].track.best.memory) == 16
    predictor.add_new_points_or_box(state, 8, 0, points=[[20, 20]], labels=[1])
    predictor.propagate_in_video_preflight(state)
    # 4 slots of one frame each: frames 4 to 12 are gone, but for the corrected one
    assert [e.frame for e in state.objects[0].track.best.memory.entries] == [0, 1, 2, 3, 8, 13, 14, 15]
    assert len(state.objects[1].track.best.memory) == 16


def test_corrected_frames_become_prompted_ones_if_asked_for():
    for corrects, expected in ((False, [0]), (True, [0, 5])):
        predictor = tiny(add_all_frames_to_correct_as_cond=corrects)
        state = begun(predictor)
        follow(predictor, state)
        predictor.add_new_points_or_box(state, 5, 0, points=[[20, 20]], labels=[1])
        predictor.propagate_in_video_preflight(state)
        assert list(state["output_dict_per_obj"][0]["cond_frame_outputs"]) == expected


def test_state_kept_on_the_host_changes_nothing():
    predictor = tiny()
    on_device = follow(predictor, begun(predictor))
    on_host = follow(predictor, begun(predictor, offload_state_to_cpu=True))
    for t, masks in on_device.items():
        assert torch.equal(masks, on_host[t])


def test_the_state_holds_no_frames():
    predictor = tiny()
    held = {}
    for count in (10, 40):
        state = predictor.init_state(video(count))
        predictor.add_new_mask(state, 0, 1, square(0))
        state.prepare()
        held[count] = reachable_bytes([state.objects, state.tracker, state._features])
    assert held[10] == held[40]


def test_a_frame_keeps_as_much_of_each_of_several_objects_as_of_one():
    predictor, grown = tiny(), {}
    for objects in (1, 6):
        state, held = predictor.init_state(video(12)), []
        for k in range(objects):
            predictor.add_new_mask(state, 0, k, square(k))
        for _ in predictor.propagate_in_video(state):
            held.append(reachable_bytes(state.objects))
        grown[objects] = held[11] - held[5]
    assert grown[6] <= 6 * grown[1]


def test_a_forward_pass_need_not_keep_the_past():
    predictor = tiny()
    expected = follow(predictor, begun(predictor, frames=40))
    session = VideoSession(predictor, predictor.init_state(video(40)).frames, SessionOptions(keep_past=False))
    session.add_mask(0, 0, square(0))
    held = {}
    for found in session.propagate():
        assert torch.equal(found.logits, expected[found.frame])
        held[found.frame] = reachable_bytes(session.objects)
    assert held[39] == held[15] < 2 * held[3]
    with pytest.raises(SessionError, match="forward only"):
        next(session.propagate(reverse=True))


def test_a_generator_of_frames_and_a_video_of_one_frame_will_do():
    predictor = tiny()
    state = predictor.init_state(frame for frame in video(3))
    predictor.add_new_mask(state, 0, 1, square(0))
    assert list(follow(predictor, state)) == [0, 1, 2]
    single = predictor.init_state(video(1))
    predictor.add_new_mask(single, 0, 1, square(0))
    assert list(follow(predictor, single)) == [0]


@pytest.mark.parametrize(
    "frame, prompt, error, message",
    [
        (10, {"points": [[1, 1]], "labels": [1]}, SessionError, "no frame 10; the video has frames 0 to 9"),
        (-1, {"points": [[1, 1]], "labels": [1]}, SessionError, "no frame -1"),
        ("2", {"points": [[1, 1]], "labels": [1]}, SessionError, "frame is '2', expected its index"),
        (2, {}, PromptError, "no prompt"),
        (2, {"points": [[1, 1]]}, PromptError, "^points without labels; every point needs its label"),
        (2, {"points": [[1, 1]], "labels": [1, 1]}, PromptError, "^labels has shape 2, but points 1x2"),
        (2, {"points": [[1, 1]], "labels": [9]}, PromptError, "^labels holds 9"),
        (2, {"points": [[81, 1]], "labels": [1]}, PromptError, r"\(81, 1\) is outside of the frame"),
        (2, {"points": [[1, -2]], "labels": [1]}, PromptError, r"\(1, -2\) is outside of the frame"),
        (
            2,
            {"points": [[1, 1], [81, 1]], "labels": [1, 0]},
            PromptError,
            r"\(81, 1\) is outside of the frame",
        ),
        (2, {"labels": [1]}, PromptError, "^labels without points"),
        (2, {"points": [1, 1], "labels": [1]}, PromptError, "^points has shape 2, expected Nx2"),
        (2, {"box": [30, 5, 10, 40]}, PromptError, r"^box is \(30, 5, 10, 40\); expected x1 < x2"),
        (2, {"box": [[1, 1, 9, 9], [30, 5, 10, 40]]}, PromptError, r"^box 1 is \(30, 5, 10, 40\)"),
        (2, {"box": [1, 1, 9, 9], "clear_old_points": False}, PromptError, "a box comes before any point"),
        (2, {"box": [81, 1, 90, 9]}, PromptError, "all of it outside of the frame, 80 wide and 48 high"),
        (2, {"points": np.zeros((0, 2)), "labels": []}, PromptError, "no prompt: all its points"),
    ],
)
def test_a_prompt_that_cannot_be_meant_leaves_the_session_as_it_was(frame, prompt, error, message):
    predictor = tiny()
    state, untouched = begun(predictor, objects=2), begun(predictor, objects=2)
    with pytest.raises(error, match=message):
        predictor.add_new_points_or_box(state, frame, 1, **prompt)
    with pytest.raises(error, match=message):
        predictor.add_new_points_or_box(state, frame, "new", **prompt)
    assert state["obj_ids"] == [0, 1]
    expected = follow(predictor, untouched)
    for t, masks in follow(predictor, state).items():
        assert torch.equal(masks, expected[t])


def test_a_box_may_reach_over_the_edge_of_the_frame():
    predictor = tiny()
    state = predictor.init_state(video(2))
    _, _, masks = predictor.add_new_points_or_box(state, 0, 1, box=[-10, 5, 30, 60])
    assert masks.shape == (1, 1, 48, 80) and state["obj_ids"] == [1]


def test_masks_of_another_size_are_refused():
    predictor = tiny()
    state = begun(predictor)
    with pytest.raises(PromptError, match="mask is 3x4, the frame is 48x80"):
        predictor.add_new_mask(state, 0, 5, np.ones((3, 4), bool))
    with pytest.raises(PromptError, match="mask has shape 1x48x80, expected HxW"):
        predictor.add_new_mask(state, 0, 5, np.ones((1, 48, 80), bool))
    assert state["obj_ids"] == [0]


def test_nothing_to_follow_says_so():
    predictor = tiny()
    state = predictor.init_state(video(4))
    with pytest.raises(SessionError, match="point at an object first"):
        next(predictor.propagate_in_video(state))
    predictor.add_new_mask(state, 0, "a", square(0))
    predictor.clear_all_prompts_in_frame(state, 0, "a")
    with pytest.raises(SessionError, match="object 'a' has no prompt"):
        next(predictor.propagate_in_video(state))


def test_unknown_objects_are_removed_in_peace_unless_strict():
    predictor = tiny()
    state = begun(predictor)
    assert predictor.remove_object(state, "unknown") == ([0], [])
    with pytest.raises(SessionError, match="no object 'unknown'"):
        predictor.remove_object(state, "unknown", strict=True)
    assert predictor.remove_object(state, 0) == ([], [])


def test_an_empty_mask_is_an_absent_object_and_no_broken_box():
    predictor = tiny()
    state = predictor.init_state(video(4))
    _, _, masks, scores = predictor.add_new_mask(state, 0, 1, np.zeros((48, 80), bool), return_scores=True)
    assert scores["object"] == -10 and (masks < 0).all()
    assert len(follow(predictor, state)) == 4


def test_the_state_can_be_read_as_the_reference_s_dict():
    predictor = tiny()
    state = begun(predictor, objects=2)
    follow(predictor, state)
    assert (state["num_frames"], state["video_height"], state["video_width"]) == (10, 48, 80)
    assert state["obj_id_to_idx"] == {0: 0, 1: 1}
    outputs = state["output_dict_per_obj"][1]
    assert list(outputs["cond_frame_outputs"]) == [0]
    assert list(outputs["non_cond_frame_outputs"]) == list(range(1, 10))
    assert outputs["non_cond_frame_outputs"][3]["pred_masks"].shape == (1, 1, 16, 16)
    with pytest.raises(KeyError, match="num_frames"):
        state["no such key"]


def test_the_images_of_the_state_are_normalised_frames_made_when_asked_for():
    predictor = tiny()
    state = begun(predictor, frames=4)
    images = state["images"]
    pixels = np.array(Image.fromarray(video(4)[3]).resize((64, 64), Image.Resampling.BICUBIC)) / 255.0
    expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]  # ImageNet's mean and deviation
    for image in (images[3], images[-1], list(images)[3], images[1:][2]):
        assert image.dtype == torch.float32
        np.testing.assert_allclose(image, expected.transpose(2, 0, 1), atol=1e-5)
    assert len(images) == 4 and images[4:].shape == (0, 3, 64, 64)
    with pytest.raises(IndexError, match="no frame 4"):
        images[4]
    # what was given normalised comes back as it is
    given = predictor.init_state(images[:], video_height=48, video_width=80)
    assert torch.equal(given["images"][2], images[2]) and torch.equal(given["images"][0:4], images[:])


def test_the_state_tells_its_prompts_pending_answers_and_settings():
    predictor = tiny()
    state = predictor.init_state(video(3), offload_state_to_cpu=True)
    predictor.add_new_points_or_box(state, 0, "a", points=[[40, 12]], labels=[1], box=[10, 6, 70, 42])
    predictor.add_new_mask(state, 1, "b", square(1))
    clicks = state["point_inputs_per_obj"]
    assert list(clicks) == [0, 1] and list(clicks[0]) == [0] and clicks[1] == {}
    # pixels of the model, which is 64 wide and high; the frame is 80 wide and 48 high
    assert clicks[0][0]["point_coords"].round().tolist() == [[[8, 8], [56, 56], [32, 16]]]
    assert clicks[0][0]["point_labels"].tolist() == [[2, 3, 1]]
    [(frame, mask)] = state["mask_inputs_per_obj"][1].items()
    assert frame == 1 and mask.dtype == torch.float32 and state["mask_inputs_per_obj"][0] == {}
    assert mask.sum() == pytest.approx(square(1).sum() * 64 * 64 / (48 * 80), rel=0.1)
    assert list(state["temp_output_dict_per_obj"][0]["cond_frame_outputs"]) == [0]
    assert list(state["temp_output_dict_per_obj"][1]["cond_frame_outputs"]) == [1]
    predictor.propagate_in_video_preflight(state)
    assert state["temp_output_dict_per_obj"][1] == {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    image, seen = state["cached_features"][1]
    assert image.shape == (1, 3, 64, 64)
    assert torch.equal(seen["backbone_fpn"][2], state.features(1).s16)
    assert state["storage_device"] == torch.device("cpu") and state["constants"] == {}
    assert state["offload_state_to_cpu"] and state["offload_video_to_cpu"]
    assert not begun(predictor)["offload_state_to_cpu"]
    assert set(dict(state)) == set(state)
    predictor.add_new_points_or_box(state, 1, "b", points=[[40, 12]], labels=[1])
    assert state["mask_inputs_per_obj"][1] == {}  # clicks take a mask's place


@pytest.mark.parametrize(
    ("key", "method"),
    [
        ("images", "init_state"),
        ("obj_ids", "remove_object"),
        ("mine", "reset_state"),
        ("device", r"to\(device\)"),
    ],
)
def test_the_state_cannot_be_assigned_and_says_what_can_be_done(key, method):
    state = begun(tiny())
    with pytest.raises(TypeError, match=rf"state\['{key}'\] can be read only; .*{method}"):
        state[key] = 3
    with pytest.raises(TypeError, match=rf"state\['{key}'\] cannot be deleted; .*{method}"):
        del state[key]


def test_a_negative_number_of_frames_is_refused():
    predictor = tiny()
    state = begun(predictor)
    with pytest.raises(SessionError, match="max_frame_num_to_track is -1, expected 0 or more"):
        follow(predictor, state, max_frame_num_to_track=-1)
    assert list(follow(predictor, state, max_frame_num_to_track=0)) == [0]


def test_a_memory_policy_may_be_named():
    predictor = tiny()
    frames = predictor.init_state(video(2)).frames
    sessions = (
        predictor.init_state(video(2), memory_policy="samurai"),
        VideoSession(predictor, frames, policy="samurai"),
        VideoSession(predictor, frames, policy=Samurai()),
    )
    assert all(session.tracker.policy == Samurai() for session in sessions)
    with pytest.raises(PolicyError, match="did you mean samurai"):
        predictor.init_state("no such video", memory_policy="samuray")
    for wrong in (None, 3, Samurai):
        with pytest.raises(TypeError, match="the memory policy is .*expected its name"):
            VideoSession(predictor, frames, policy=wrong)


def test_a_session_runs_on_any_model_and_its_answers_may_be_changed():
    torch.manual_seed(3)
    source = tiny()
    model = SAM2(source.variant, policy=source.policy).eval()
    model.load_state_dict(source.state_dict())
    session = VideoSession(model, begun(source).frames)
    session.add_mask(0, 1, square(0))
    expected = follow(source, begun(source))
    with torch.inference_mode():
        for masks in session.propagate():
            torch.testing.assert_close(masks.logits, expected.pop(masks.frame))
            masks.logits.fill_(1e6)  # what is given out is the caller's: later frames do not change by it
    assert not expected
