"""Objects do not disturb each other: on a CPU not in the last bit, with memories rounded to bfloat16 as released."""

from __future__ import annotations

import pytest
import torch

from sam2.build_sam import build_sam2_video_predictor
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.streaming import StreamTracker
from sam2.tracker import Tracker
from tests.sam2.tracked import square, video

FRAMES = 16


@pytest.fixture
def predictor() -> SAM2VideoPredictor:
    torch.manual_seed(3)
    model = build_sam2_video_predictor("test", device="cpu")
    assert model.policy.storage is torch.bfloat16
    return model


def followed(
    predictor: SAM2VideoPredictor, first: int, others: int, late: int | None
) -> list[dict[object, torch.Tensor]]:
    """Logits of every object, frame by frame from `first` on: `others` are there at once, "late" comes at `late`."""
    frames, tracker, found = video(FRAMES), StreamTracker(predictor), []
    for t in range(first, FRAMES):
        result = tracker.step(frames[t])
        for k in range(others if t == first else 0):
            result = tracker.prompt(k, mask=square(3 * k))
        if t == late:
            result = tracker.prompt("late", points=[[40, 20]], labels=[1])
        found.append(dict(zip(result.object_ids, result.logits.clone(), strict=True)))
    return found


def test_an_object_that_joins_changes_no_bit_of_the_others(predictor: SAM2VideoPredictor) -> None:
    alone, joined = followed(predictor, 0, 3, None), followed(predictor, 0, 3, 6)
    assert "late" in joined[6]
    for before, after in zip(alone, joined, strict=True):
        assert all(torch.equal(after[k], logits) for k, logits in before.items())


def test_an_object_that_joins_is_tracked_as_by_a_stream_that_begins_there(
    predictor: SAM2VideoPredictor,
) -> None:
    joined, fresh = followed(predictor, 0, 3, 6)[6:], followed(predictor, 6, 0, 6)
    for among, alone in zip(joined, fresh, strict=True):
        assert torch.equal(among["late"], alone["late"])


def test_what_objects_share_is_computed_once_and_changes_nothing(
    predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    look = predictor.look
    monkeypatch.setattr(predictor, "look", lambda features: calls.append(len(features)) or look(features))
    several = followed(predictor, 0, 3, None)
    assert calls == [1] * (FRAMES - 1)
    monkeypatch.setattr(Tracker, "rows_on", lambda self, device: 16)
    together = followed(predictor, 0, 3, None)
    for one_by_one, batch in zip(several[:2], together[:2], strict=True):
        for k, logits in one_by_one.items():
            torch.testing.assert_close(batch[k], logits, rtol=1e-4, atol=1e-3)
