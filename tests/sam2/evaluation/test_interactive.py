"""Interactive evaluation: which frames are chosen, where they are clicked, and what J&F comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam2.evaluation.clicks import Click, next_click
from sam2.evaluation.interactive import MODES, PAPER, Rules, Truth, offline, online
from sam2.evaluation.jf import score_sequence
from sam2.evaluation.session_predictor import SessionPredictor
from sam2.model.sam2 import SAM2
from sam2.variants import VARIANTS
from sam2.video_frames import open_frames
from sam2.video_session import VideoSession
from sam2.video_state import SessionOptions

SIDE = 20
Masks = dict[int, np.ndarray]
Clicked = dict[int, list[Click]]


def bars(*rows: int) -> np.ndarray:
    """(T, SIDE, SIDE): on frame t the first rows[t] rows from row 4 on, over columns 4 to 15."""
    masks = np.zeros((len(rows), SIDE, SIDE), bool)
    for t, count in enumerate(rows):
        masks[t, 4 : 4 + count, 4:16] = True
    return masks


class Scripted:
    """Shows what a script says of a frame, given the clicks so far; counts the frames and notes the passes."""

    def __init__(self, length: int, script: Callable[[int, Clicked], np.ndarray]) -> None:
        self.length, self.script = length, script
        self.clicked: Clicked = {}
        self.steps = 0
        self.passes: list[int] = []

    def reset(self) -> None:
        self.clicked, self.steps = {}, 0

    def click(self, frame: int, click: Click) -> np.ndarray:
        self.clicked.setdefault(frame, []).append(click)
        return self.script(frame, self.clicked)

    def follow(self, start: int) -> Iterator[tuple[int, np.ndarray]]:
        self.passes.append(start)
        for frame in range(start, self.length):
            self.steps += frame > 0
            yield frame, self.script(frame, self.clicked)

    def save(self) -> tuple[int, Clicked]:
        return self.steps, {frame: list(clicks) for frame, clicks in self.clicked.items()}

    def restore(self, state: tuple[int, Clicked]) -> None:
        self.steps, clicked = state
        self.clicked = {frame: list(clicks) for frame, clicks in clicked.items()}


def fixes_what_is_clicked(truth: np.ndarray, wrong: np.ndarray) -> Scripted:
    """A clicked frame is right from the last of its clicks on, every other one as wrong as it was."""
    return Scripted(len(truth), lambda t, clicked: truth[t] if len(clicked.get(t, ())) >= 3 else wrong[t])


def area_iou(truth: np.ndarray, shown: np.ndarray) -> float:
    union = (truth | shown).sum()
    return float((truth & shown).sum() / union) if union else 1.0


# ------------------------------------------------------------------------------------------------ offline


def test_offline_goes_from_the_worst_frame_to_the_next_worst():
    truth = bars(10, 10, 10, 10, 10)
    wrong = bars(10, 8, 2, 6, 2)  # IoU 1, 0.8, 0.2, 0.6, 0.2
    wrong[0] = False
    fake = fixes_what_is_clicked(truth, wrong)
    found = offline(Truth.of(truth), fake, Rules(frames=8))
    assert [i.frame for i in found.interactions] == [0, 2, 4, 3, 1]  # of equals the earliest
    assert [i.iou for i in found.interactions] == [None, 0.2, 0.2, 0.6, 0.8]
    assert fake.passes == [0] * 5
    # each correction lifts one frame's J to 1; then nothing is left and the last value stays
    np.testing.assert_allclose(found.j, [2.8 / 5, 3.6 / 5, 4.4 / 5, 4.8 / 5, 1, 1, 1, 1], rtol=1e-12)
    assert list(found.jf[4:]) == [1] * 4 and (np.diff(found.f) >= 0).all()


def test_f_is_that_of_the_boundaries():
    truth, wrong = bars(10, 10), bars(10, 5)
    found = offline(Truth.of(truth), fixes_what_is_clicked(truth, wrong), Rules(frames=1))
    whole = score_sequence(truth.astype(np.uint8), wrong.astype(np.uint8))[1]
    assert found.j[0] == whole.j.mean() == 0.75
    assert found.f[0] == whole.f.mean() and 0.5 < found.f[0] < 1
    assert found.jf[0] == (found.j[0] + found.f[0]) / 2


def test_clicks_are_in_the_middle_of_the_object_and_then_of_the_errors():
    truth = bars(11, 11)
    answers = {0: [bars(3)[0], bars(11)[0] | corner(), bars(11)[0]]}

    def script(t: int, clicked: Clicked) -> np.ndarray:
        return answers[t][len(clicked[t]) - 1] if t in answers and t in clicked else truth[t]

    found = offline(Truth.of(truth), Scripted(2, script))
    # 11 rows x 12 columns: 6 deep at row 9, columns 9 and 10; then rows 7 to 14 of 8 rows: 4 deep from row 10 on
    # columns 7 to 12; then the 3x3 of the corner that is too much
    assert found.interactions[0].clicks == (Click(9, 9, True), Click(7, 10, True), Click(1, 1, False))
    assert len(found.interactions) == 1 and list(found.jf) == [1] * 8


def corner() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:3, :3] = True
    return mask


def test_corrections_begin_with_what_is_shown_on_the_frame():
    truth, wrong = bars(10, 10), bars(10, 4)
    fake = fixes_what_is_clicked(truth, wrong)
    found = offline(Truth.of(truth), fake, Rules(frames=2, clicks=3))
    assert found.interactions[1].clicks == (next_click(truth[1], wrong[1]),) * 3


def test_no_click_is_made_where_nothing_is_wrong():
    truth = bars(6, 6, 6)
    fake = Scripted(3, lambda t, clicked: truth[t])
    found = offline(Truth.of(truth), fake)
    assert [len(i.clicks) for i in found.interactions] == [1]
    assert list(found.jf) == [1] * 8 and fake.passes == [0]


def test_a_frame_may_be_corrected_again():
    truth, wrong = bars(10, 10), bars(10, 1)
    found = offline(Truth.of(truth), Scripted(2, lambda t, clicked: wrong[t]), Rules(frames=4))
    assert [i.frame for i in found.interactions] == [0, 1, 1, 1]
    assert len(set(found.jf)) == 1


def test_ghosts_are_wrong_and_absence_that_is_shown_is_right():
    truth, wrong = bars(0, 10, 0, 0, 10), bars(9, 10, 3, 0, 9)
    fake = fixes_what_is_clicked(truth, wrong)
    found = offline(Truth.of(truth), fake, Rules(frames=3))
    assert fake.passes == [1, 1, 1]
    assert list(found.frames) == [1, 2, 3, 4]  # what is shown before the object appears does not count
    assert [(i.frame, i.iou) for i in found.interactions] == [(1, None), (2, 0), (4, 0.9)]
    assert not any(click.is_positive for click in found.interactions[1].clicks)
    np.testing.assert_allclose(found.j, [(1 + 0 + 1 + 0.9) / 4, (1 + 1 + 1 + 0.9) / 4, 1], rtol=1e-12)


# ------------------------------------------------------------------------------------------------ online


def test_online_stops_below_the_threshold_and_not_at_it():
    truth = bars(*[8] * 6)
    wrong = bars(1, 8, 6, 5, 6, 2)  # IoU 0.125, 1, 0.75, 0.625, 0.75, 0.25
    fake = fixes_what_is_clicked(truth, wrong)
    found = online(Truth.of(truth), fake)
    assert [(i.frame, i.iou) for i in found.interactions] == [(0, None), (3, 0.625), (5, 0.25)]
    steps = [1 + 1 + 0.75 + 0.625 + 0.75 + 0.25, 1 + 1 + 0.75 + 1 + 0.75 + 0.25, 1 + 1 + 0.75 + 1 + 0.75 + 1]
    np.testing.assert_allclose(found.j, np.array(steps + [steps[-1]] * 5) / 6, rtol=1e-12)


def test_online_never_comes_back():
    truth, wrong = bars(8, 8, 8, 8), bars(8, 1, 1, 1)
    fake = Scripted(4, lambda t, clicked: truth[t] if t == 0 else wrong[t])  # clicks are of no use
    found = online(Truth.of(truth), fake)
    assert [i.frame for i in found.interactions] == [0, 1, 2, 3]
    assert fake.passes == [0, 2, 3, 4]
    blind = Scripted(3, lambda t, clicked: wrong[1])  # not even on the first frame
    assert [i.frame for i in online(Truth.of(truth[:3]), blind).interactions] == [0, 1, 2]


def test_the_rest_of_the_video_is_shown_as_the_clicks_before_leave_it():
    truth, wrong = bars(*[8] * 5), bars(8, 4, 4, 4, 4)

    def script(t: int, clicked: Clicked) -> np.ndarray:  # a correction lasts for one more frame
        return truth[t] if any(frame in (t, t - 1) for frame in clicked) else wrong[t]

    found = online(Truth.of(truth), Scripted(5, script), Rules(frames=8))
    assert [i.frame for i in found.interactions] == [0, 2, 4]
    np.testing.assert_allclose(found.j[:4], [3.5 / 5, 4.5 / 5, 1, 1], rtol=1e-12)


# ------------------------------------------------------------------------------------------------ both


def test_only_annotated_frames_are_looked_at_and_scored():
    truth = bars(*[8] * 9)
    wrong = bars(8, 1, 1, 1, 7, 1, 1, 1, 4)
    for play in MODES.values():
        found = play(Truth(range(0, 9, 4), truth.__getitem__), fixes_what_is_clicked(truth, wrong), PAPER)
        assert {i.frame for i in found.interactions} <= {0, 4, 8}
        assert found.j[0] == pytest.approx((1 + 7 / 8 + 4 / 8) / 3)


def one_plain_pass(truth: np.ndarray, predictor, rules: Rules) -> tuple[list[int], float]:
    """Online with one budget, as a person does it: nothing is looked at ahead of time. Stops, and J&F at the end."""
    first = int(truth.any((1, 2)).argmax())
    predictor.reset()
    shown, stops, stop, answer = {}, [], first, np.zeros_like(truth[0])
    while True:
        stops.append(stop)
        for _ in range(rules.clicks):
            if (click := next_click(truth[stop], answer)) is not None:
                answer = predictor.click(stop, click)
        shown[stop] = answer
        for frame, mask in predictor.follow(stop + 1):
            shown[frame] = mask
            if len(stops) < rules.frames and area_iou(truth[frame], mask) < rules.threshold:
                stop, answer = frame, mask
                break
        else:
            masks = np.stack([shown[t] for t in range(first, len(truth))])
            j, f = score_sequence(truth[first:].astype(np.uint8), masks.astype(np.uint8), [1])[1]
            return stops, (j.mean() + f.mean()) / 2


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_budget_of_n_gives_the_nth_value_of_any_larger_budget(data):
    count = data.draw(st.integers(1, 7))
    truth = bars(*data.draw(st.lists(st.integers(0, 10), min_size=count, max_size=count)))
    if not truth.any():
        return
    seed, mode = data.draw(st.integers(0, 99)), data.draw(st.sampled_from(sorted(MODES)))

    def play(frames: int):
        def script(
            t: int, clicked: Clicked
        ) -> np.ndarray:  # depends on all clicks and on all that was followed
            clicks = sorted(frame * 31 + len(clicks) for frame, clicks in clicked.items())
            return bars(int(np.random.default_rng([seed, t, fake.steps, *clicks]).integers(0, 11)))[0]

        fake = Scripted(count, script)
        return MODES[mode](Truth.of(truth), fake, Rules(frames=frames, clicks=2))

    whole = play(5)
    assert len(whole.jf) == 5 and 1 <= len(whole.interactions) <= 5
    assert all(len(i.clicks) <= 2 for i in whole.interactions)
    for n in range(1, 6):
        part = play(n)
        assert part.interactions == whole.interactions[:n]
        np.testing.assert_array_equal(part.jf, whole.jf[:n])
    for i in whole.interactions[1:]:
        assert i.iou < (1 if mode == "offline" else 0.75)


def noise(seed: int, t: int, clicked: Clicked, *more: int) -> np.ndarray:
    """A mask that depends on all clicks."""
    clicks = sorted(frame * 31 + len(clicks) for frame, clicks in clicked.items())
    return bars(int(np.random.default_rng([seed, t, *more, *clicks]).integers(0, 11)))[0]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 8))
def test_online_equals_a_plain_pass_for_each_budget(seed, count):
    truth = bars(*np.random.default_rng(seed).integers(1, 11, count).tolist())
    # what is shown depends on all frames but the first that were followed since the beginning, too
    fake = Scripted(count, lambda t, clicked: noise(seed, t, clicked, fake.steps))
    found = online(Truth.of(truth), fake, Rules(frames=4, clicks=2))
    for n in range(1, 5):
        stops, jf = one_plain_pass(truth, fake, Rules(frames=n, clicks=2))
        assert [i.frame for i in found.interactions[:n]] == stops
        assert found.jf[n - 1] == pytest.approx(jf, abs=1e-12)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_what_cannot_be_played_is_said(mode):
    truth = bars(8, 8)
    with pytest.raises(ValueError, match="the object is on none of 2 frames"):
        Truth.of(bars(0, 0))
    with pytest.raises(ValueError, match="the object is not visible on frame 0, its first"):
        MODES[mode](Truth(range(2), bars(0, 8).__getitem__), Scripted(2, lambda t, c: truth[t]), PAPER)
    with pytest.raises(ValueError, match="frame 1 is annotated and was not shown, nor were 0 more"):
        MODES[mode](Truth.of(truth), Scripted(1, lambda t, c: truth[t]), PAPER)
    with pytest.raises(ValueError, match="frame 1: the mask is 5x20, the true one is 20x20"):
        MODES[mode](Truth.of(truth), Scripted(2, lambda t, c: truth[t][:, : 5 if t else 20]), PAPER)


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"clicks": 0}, {"threshold": 1.5}])
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="must be at least 1|between 0 and 1"):
        Rules(**wrong)


# ------------------------------------------------------------------------------------------------ a model


PIXELS = 64
FRAMES = 7


@pytest.fixture(scope="module")
def model() -> SAM2:
    torch.manual_seed(0)
    variant = VARIANTS["test"]
    return SAM2(replace(variant, heads=replace(variant.heads, object_bias=3.0))).eval()


def moving() -> np.ndarray:
    masks = np.zeros((FRAMES, PIXELS, PIXELS), bool)
    for t in range(FRAMES):
        masks[t, 10 + 3 * t : 30 + 3 * t, 12:40] = True
    return masks


def predictor(model: SAM2, policy: str = "reference", **options: bool) -> SessionPredictor:
    pixels = np.random.default_rng(0).integers(0, 256, (FRAMES, PIXELS, PIXELS, 3), np.uint8)
    settings = SessionOptions(cached_features=FRAMES, **options)
    return SessionPredictor(VideoSession(model, open_frames(pixels, PIXELS), settings, policy))


@pytest.mark.parametrize(
    ("policy", "prompted"), [("reference", True), ("reference", False), ("samurai", True)]
)
def test_online_with_a_model_each_value_is_that_of_its_own_budget(model, policy, prompted):
    """Which holds only if nothing that is followed ahead is left behind in the state."""
    own = predictor(model, policy, add_all_frames_to_correct_as_cond=prompted)
    whole = online(Truth.of(moving()), own, Rules(frames=4))
    assert len(whole.interactions) == 4
    for n in range(1, 5):
        fresh = predictor(model, policy, add_all_frames_to_correct_as_cond=prompted)
        stops, jf = one_plain_pass(moving(), fresh, Rules(frames=n))
        assert stops == [i.frame for i in whole.interactions[:n]]
        assert whole.jf[n - 1] == pytest.approx(jf, abs=1e-12)


def test_an_object_is_played_alike_after_another_one(model):
    for mode in MODES.values():
        shared = predictor(model, add_all_frames_to_correct_as_cond=True)
        mode(Truth.of(moving()[:, ::-1].copy()), shared, Rules(frames=2))
        after = mode(Truth.of(moving()), shared, Rules(frames=3))
        alone = mode(Truth.of(moving()), predictor(model, add_all_frames_to_correct_as_cond=True), Rules(3))
        assert after.interactions == alone.interactions and after.jf.tolist() == alone.jf.tolist()


def test_offline_corrections_must_become_prompted_frames(model):
    def masks(prompted: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
        one = predictor(model, add_all_frames_to_correct_as_cond=prompted)
        one.click(0, Click(26, 20, True))
        first = [mask for _, mask in one.follow(0)]
        answer = one.click(4, Click(26, 32, True))
        second = [mask for _, mask in one.follow(0)]
        assert (second[4] == answer).all() == prompted
        return first, second

    first, second = masks(prompted=False)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    first, second = masks(prompted=True)
    assert any((a != b).any() for a, b in zip(first, second, strict=True))


def test_a_session_that_forgets_cannot_be_corrected(model):
    with pytest.raises(ValueError, match="open it with keep_past"):
        predictor(model, keep_past=False)
