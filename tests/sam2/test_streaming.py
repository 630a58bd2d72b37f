"""Following objects through frames as they come."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

from sam2.image_prompts import PromptError
from sam2.policies import PolicyError
from sam2.policies.samurai import Samurai
from sam2.streaming import StreamError, StreamOptions, StreamTracker
from tests.sam2.tracked import reachable_bytes, square, tiny, video


def stream(**options) -> StreamTracker:
    return StreamTracker(tiny(), options=StreamOptions(fill_hole_area=0, **options))


def with_objects(tracker: StreamTracker, objects: int, frames: np.ndarray) -> StreamTracker:
    tracker.step(frames[0])
    for k in range(objects):
        tracker.prompt(k, mask=np.roll(square(0), 3 * k, axis=1))
    return tracker


def test_streaming_equals_the_video_predictor_frame_for_frame():
    frames = video(24)
    predictor = tiny()
    state = predictor.init_state(frames)
    predictor.add_new_mask(state, 0, "a", square(0))
    predictor.add_new_points_or_box(state, 0, "b", points=[[60, 40]], labels=[1])
    offline = {f: m for f, _, m in predictor.propagate_in_video(state, progress=False)}

    tracker = stream()
    tracker.step(frames[0])
    tracker.prompt("a", mask=square(0))
    tracker.prompt("b", points=[[60, 40]], labels=[1])
    for t in range(1, 24):
        result = tracker.step(frames[t])
        assert result.object_ids == ["a", "b"]
        torch.testing.assert_close(result.logits, offline[t][:, 0], rtol=1e-4, atol=1e-4)


def test_short_videos_are_placed_by_their_length_when_it_is_known():
    frames = video(3)
    predictor = tiny()
    state = predictor.init_state(frames)
    predictor.add_new_mask(state, 0, 1, square(0))
    offline = [m[:, 0] for _, _, m in predictor.propagate_in_video(state, progress=False)]
    known, unknown = with_objects(stream(frames=3), 0, frames), with_objects(stream(), 0, frames)
    for tracker in (known, unknown):
        tracker.prompt(1, mask=square(0))
    for t in (1, 2):
        torch.testing.assert_close(known.step(frames[t]).logits, offline[t], rtol=1e-4, atol=1e-4)
        assert not torch.equal(unknown.step(frames[t]).logits, offline[t])


@pytest.mark.parametrize("objects", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_memory_is_the_same_at_frame_60_and_at_frame_600(objects):
    frames = video(16)
    tracker = with_objects(stream(), objects, frames)
    held = {}
    for t in range(1, 601):
        tracker.step(frames[t % 16])
        if t in (60, 600):
            held[t] = reachable_bytes(tracker)
    assert held[60] == held[600] > 0


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists("/proc/self/statm"), reason="reads the resident size as Linux gives it"
)
def test_memory_is_flat_over_5000_frames():
    frames = video(16)
    tracker = with_objects(stream(), 2, frames)
    held, resident = {}, {}
    for t in range(1, 5001):
        tracker.step(frames[t % 16])
        if t in (60, 1000, 3000, 5000):
            held[t] = reachable_bytes(tracker)
            with open("/proc/self/statm") as file:
                resident[t] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    assert len(set(held.values())) == 1
    assert resident[3000] - resident[1000] < 20
    assert resident[5000] - resident[3000] < 20


def test_an_object_added_later_equals_a_session_that_begins_there():
    frames = video(20)
    late = with_objects(stream(), 1, frames)
    for t in range(1, 8):
        late.step(frames[t])
    late.prompt("late", mask=square(7))
    fresh = stream()
    fresh.step(frames[7])
    fresh.prompt("late", mask=square(7))
    for t in range(8, 20):
        torch.testing.assert_close(
            late.step(frames[t]).logits[1:], fresh.step(frames[t]).logits, rtol=1e-4, atol=1e-4
        )


def test_adding_and_removing_objects_leaves_the_others_as_they_were():
    frames = video(20)
    alone, joined = with_objects(stream(), 1, frames), with_objects(stream(), 1, frames)
    for t in range(1, 20):
        expected, result = alone.step(frames[t]), joined.step(frames[t])
        torch.testing.assert_close(result.logits[:1], expected.logits, rtol=1e-4, atol=1e-4)
        if t == 5:
            joined.prompt("other", points=[[30, 20]], labels=[1])
        if t == 12:
            joined.remove("other")
            assert joined.object_ids == [0]


def test_a_removed_object_leaves_nothing_behind_and_may_come_again():
    frames = video(40)
    tracker = with_objects(stream(), 1, frames)
    for t in range(1, 20):
        tracker.step(frames[t])
    before = reachable_bytes(tracker)
    tracker.prompt("x", mask=square(19))
    tracker.remove("x")
    assert reachable_bytes(tracker) == before
    tracker.prompt("x", mask=square(19))
    assert tracker.step(frames[20]).object_ids == [0, "x"]


def test_a_correction_shows_at_once_and_changes_what_follows():
    frames = video(12)
    corrected, left = with_objects(stream(), 1, frames), with_objects(stream(), 1, frames)
    for t in range(1, 6):
        before = corrected.step(frames[t])
        left.step(frames[t])
    after = corrected.prompt(0, points=[[70, 40]], labels=[1])
    assert after.frame == before.frame == 5
    assert not torch.equal(after.logits, before.logits)
    assert not torch.equal(corrected.step(frames[6]).logits, left.step(frames[6]).logits)


def test_clicks_on_a_frame_add_up_unless_they_are_cleared():
    frames = video(2)
    once = stream()
    once.step(frames[0])
    once.prompt(1, points=[[20, 20]], labels=[1])
    both = once.prompt(1, points=[[70, 40]], labels=[0], clear_old=False)

    together = stream()
    together.step(frames[0])
    together.prompt(1, points=[[20, 20]], labels=[1])
    again = together.prompt(1, points=[[20, 20], [70, 40]], labels=[1, 0])
    torch.testing.assert_close(both.logits, again.logits)


def test_a_frame_of_another_size_is_refused_and_the_stream_goes_on():
    frames = video(3)
    tracker, untouched = with_objects(stream(), 1, frames), with_objects(stream(), 1, frames)
    with pytest.raises(
        StreamError, match=r"frame is 30x100, the first was 48x80 \(height x width\).*reset\(\)"
    ):
        tracker.step(video(1, 30, 100)[0])
    assert tracker.frame == 0
    assert torch.equal(tracker.step(frames[1]).logits, untouched.step(frames[1]).logits)
    tracker.reset()
    assert tracker.step(video(1, 30, 100)[0]).logits.shape == (0, 30, 100)


def test_a_grey_frame_or_a_tensor_is_a_frame_too():
    grey = video(1)[0, :, :, 0]
    expected = with_objects(stream(), 1, np.repeat(grey[None, :, :, None], 3, axis=3)).step(grey).logits
    for frame in (torch.from_numpy(grey), Image.fromarray(grey), np.repeat(grey[:, :, None], 3, axis=2)):
        assert torch.equal(with_objects(stream(), 1, grey[None]).step(frame).logits, expected)


def test_a_policy_may_be_named_and_a_model_is_needed_at_once():
    assert StreamTracker(tiny(), "samurai")._tracker.policy == Samurai()
    with pytest.raises(PolicyError, match="did you mean samurai"):
        StreamTracker(tiny(), "samuray")
    with pytest.raises(TypeError, match="the memory policy is the class Samurai; expected its name"):
        StreamTracker(tiny(), Samurai)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model is of type NoneType, expected one from build_sam2_video"):
        StreamTracker(None)  # type: ignore[arg-type]


def test_a_result_says_what_took_how_long_and_how_sure_the_model_is():
    frames = video(3)
    result = with_objects(stream(), 2, frames).step(frames[1])
    assert set(result.seconds) == {"prepare", "observe", "track", "masks"}
    assert all(value >= 0 for value in result.seconds.values())
    assert result.masks.dtype == torch.bool and result.masks.shape == (2, 48, 80)
    assert result.ious.shape == result.object_logits.shape == (2,)
    assert ((result.ious > 0) & (result.ious < 1)).all()


def test_masks_of_several_objects_do_not_overlap_if_asked_for():
    frames = video(3)
    result = with_objects(stream(non_overlap_masks=True), 3, frames).step(frames[1])
    assert (result.masks.sum(0) <= 1).all()


@pytest.mark.parametrize(
    "prompt, message",
    [
        ({}, "no prompt"),
        ({"points": [[90, 10]], "labels": [1]}, r"\(90, 10\) is outside of the frame, 80 wide and 48 high"),
        ({"points": [[9, 10]], "labels": [1, 0]}, "^labels has shape 2, but points 1x2"),
        ({"box": [30, 30, 10, 40]}, "expected x1 < x2"),
        ({"mask": np.zeros((4, 4), bool)}, "mask is 4x4, the frame is 48x80"),
        ({"mask": np.zeros((48, 80), bool), "box": [1, 1, 5, 5]}, "without points and box"),
        ({"box": [1, 1, 5, 5], "clear_old": False}, "a box comes before any point"),
    ],
)
def test_a_bad_prompt_changes_nothing(prompt, message):
    frames = video(4)
    tracker, untouched = with_objects(stream(), 1, frames), with_objects(stream(), 1, frames)
    with pytest.raises(PromptError, match=message):
        tracker.prompt("new", **prompt)
    assert tracker.object_ids == [0]
    assert torch.equal(tracker.step(frames[1]).logits, untouched.step(frames[1]).logits)


def test_what_cannot_be_done_says_why():
    tracker = stream()
    with pytest.raises(StreamError, match=r"call step\(frame\) first"):
        tracker.prompt(1, points=[[1, 1]], labels=[1])
    with pytest.raises(StreamError, match="no object 7"):
        tracker.remove(7)
    empty = tracker.step(video(1)[0])
    assert empty.object_ids == [] and empty.logits.shape == (0, 48, 80)
    tracker.reset()
    assert tracker.frame == -1
