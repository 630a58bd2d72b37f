"""The candidate that is shown against the best one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sam2.evaluation.choices import Choice, Choices, choice_of, chosen_and_best, overlaps
from sam2.evaluation.following import Start, follow
from sam2.policies import find_policy
from sam2.tracker import Offer
from sam2.video_session import VideoSession
from sam2.video_state import SessionOptions
from tests.sam2.tracked import square, tiny, video

IOUS = st.lists(st.floats(-1, 2), min_size=3, max_size=3)


def rows(*counts: int) -> torch.Tensor:
    """Logits (M, 10, 4): candidate m covers that many rows."""
    logits = torch.full((len(counts), 10, 4), -1.0)
    for mask, count in zip(logits, counts, strict=True):
        mask[:count] = 1.0
    return logits


def truth(count: int) -> np.ndarray:
    return (rows(count)[0] > 0).numpy()


def offer(ious: list[float], chosen: int | None = None) -> Offer:
    return Offer(torch.zeros(len(ious), 2, 2), torch.tensor(ious), chosen)


def judged(logits: torch.Tensor, given: Offer, true: np.ndarray, frame: int = 0) -> Choice:
    return choice_of(overlaps(logits, given, true, frame).tolist())


def test_ious_are_those_counted_by_hand():
    logits = rows(4, 10, 2)  # of a mask of 5 rows: 4/5, 5/10, 2/5
    assert judged(logits, offer([0.1, 0.9, 0.5]), truth(5)) == Choice(0.5, 0.8)
    assert judged(logits, offer([0.9, 0.1, 0.5]), truth(5)) == Choice(0.8, 0.8)
    assert judged(logits, offer([0.9, 0.1, 0.5], chosen=2), truth(5)) == Choice(0.4, 0.8)
    assert judged(rows(0, 0, 0), offer([0.9, 0.1, 0.5]), truth(5)) == Choice(0, 0)


def test_means_are_over_frames_in_percent_and_the_gap_is_their_difference():
    numbers = chosen_and_best([Choice(0.5, 0.8), Choice(0.6, 0.6), Choice(0.1, 0.4)])
    assert numbers == {
        "chosen_iou": pytest.approx(40),
        "best_iou": pytest.approx(60),
        "choice_gap": pytest.approx(20),
        "choices": 3,
    }
    nothing = chosen_and_best([])
    assert nothing.pop("choices") == 0 and set(nothing.values()) == {None}


@given(
    st.lists(st.tuples(IOUS, st.lists(st.integers(0, 10), min_size=3, max_size=3)), min_size=1, max_size=9)
)
def test_the_gap_is_never_negative_and_zero_where_the_best_is_chosen(frames):
    own, ideal = [], []
    for ious, counts in frames:
        own.append(judged(rows(*counts), offer(ious), truth(5)))
        best = int(np.argmax([min(n, 5) / max(n, 5) for n in counts]))
        ideal.append(judged(rows(*counts), offer(ious, chosen=best), truth(5)))
    assert chosen_and_best(own)["choice_gap"] >= 0
    assert chosen_and_best(ideal)["choice_gap"] == 0
    assert chosen_and_best(ideal)["chosen_iou"] == chosen_and_best(own)["best_iou"]


def test_a_true_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="frame 7: the true mask is 4x10, the video 4x9; nothing is resized"):
        judged(rows(1, 2, 3)[:, :9], offer([0.1, 0.2, 0.3]), truth(5), 7)


def followed(policy: str, prompt: str, **options: int) -> tuple[list, list]:
    """What is shown of two objects on 22 frames, and what was chosen; the second comes on frame 4."""
    session = VideoSession(
        tiny(), frames_of(22), SessionOptions(keep_past=False, **options), find_policy(policy)
    )
    choices = Choices(
        session, lambda t: {1: square(t), 2: np.zeros_like(square(t)) if t == 9 else ~square(t)}
    )
    shown, chosen = [], []
    for masks in follow(session, [Start(1, 0, square(0)), Start(2, 4, ~square(4))], prompt):
        shown.append(masks)
        chosen.append(choices.judge(masks.frame))
    return shown, chosen


def frames_of(count: int):
    return tiny().init_state(video(count)).frames


@pytest.mark.parametrize("policy", ["reference", "samurai", "sam2long", "dam4sam"])
@pytest.mark.parametrize("prompt", ["mask", "click1"])
def test_the_chosen_candidate_is_what_is_shown(policy, prompt):
    shown, chosen = followed(policy, prompt, fill_hole_area=8)
    for t, (masks, found) in enumerate(zip(shown, chosen, strict=True)):
        for k, i in enumerate(masks.object_ids):
            true = square(t) if i == 1 else ~square(t)
            mask = (masks.logits[k, 0] > 0).numpy()
            if (prompt == "mask" and t == {1: 0, 2: 4}[i]) or (i, t) == (2, 9):
                assert i not in found  # there was nothing to choose, or the object is not there
            else:
                assert found[i].chosen == (mask & true).sum() / (mask | true).sum() <= found[i].best
    gaps = [one.best - one.chosen for found in chosen for one in found.values()]
    assert max(gaps) > 0.01


@pytest.mark.parametrize("prompt", ["box", "click3"])
def test_where_the_model_gives_one_mask_there_is_no_choice(prompt):
    _, chosen = followed("reference", prompt)
    assert 1 not in chosen[0] and 2 not in chosen[4]
    assert all(1 in found for found in chosen[1:])


def test_the_best_is_the_best_of_all_that_the_decoder_gave(monkeypatch):
    model, outputs = tiny(), []
    decode = model.decode

    def listening(*arguments, **options):
        outputs.append(decode(*arguments, **options))
        return outputs[-1]

    monkeypatch.setattr(model, "decode", listening)
    session = VideoSession(model, frames_of(8), SessionOptions())
    choices, found = Choices(session, lambda t: {1: square(t)}), []
    for masks in follow(session, [Start(1, 0, square(0))], "click1"):
        found.append(choices.judge(masks.frame)[1].best)
    assert len(outputs) == 8
    for t, output in enumerate(outputs):
        candidates = F.interpolate(output.candidates, (48, 80), mode="bilinear")[0].numpy() > 0
        ious = [(c & square(t)).sum() / (c | square(t)).sum() for c in candidates]
        assert len(ious) == 3 and found[t] == max(ious)


def test_listening_changes_nothing():
    model = tiny()
    plain = VideoSession(model, frames_of(8), SessionOptions())
    expected = [m.logits for m in follow(plain, [Start(1, 0, square(0))], "click1")]
    heard = VideoSession(model, frames_of(8), SessionOptions())
    Choices(heard, lambda t: {})
    for masks in follow(heard, [Start(1, 0, square(0))], "click1"):
        assert torch.equal(masks.logits, expected[masks.frame])
