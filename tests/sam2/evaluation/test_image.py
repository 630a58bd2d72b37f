"""Objects of still images, found by clicks and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from sam2.build_sam import build_sam2
from sam2.evaluation.clicks import Click, next_click
from sam2.evaluation.image import Found, ImageSegmenter, find, numbers_of
from sam2.evaluation.kinds import image_means
from sam2.evaluation.scores import ObjectNumbers
from sam2.evaluation.uncertainty import sums_of, uncertainty
from sam2.sam2_image_predictor import SAM2ImagePredictor

SIDE = 24


def bar(rows: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[2 : 2 + rows, 3:19] = True
    return mask


class Scripted:
    """Answers click n with the nth mask and any further one with the last; the first is chosen among `others`, too."""

    def __init__(
        self, answers: Sequence[np.ndarray], box: np.ndarray, others: Sequence[np.ndarray] = ()
    ) -> None:
        self.answers, self.answer_to_box, self.others = answers, box, others
        self.clicks: list[Click] = []
        self.boxes: list[list[int]] = []

    def begin(self) -> None:
        self.clicks = []

    def click(self, click: Click) -> np.ndarray:
        self.clicks.append(click)
        return self.answers[min(len(self.clicks), len(self.answers)) - 1]

    def candidates(self) -> list[np.ndarray]:
        assert len(self.clicks) == 1  # later answers are given without a choice
        return [*self.others, self.answers[0]]

    def box(self, corners: Sequence[int]) -> np.ndarray:
        self.boxes.append(list(corners))
        return self.answer_to_box


def test_numbers_are_those_counted_by_hand():
    truth = bar(20)
    fake = Scripted(
        [bar(n) for n in (10, 8, 14, 16, 17, 15, 18)], bar(12), [bar(1), bar(13)]
    )  # IoU: rows / 20
    found = find(truth, fake)
    assert found.ious == (0.5, 0.4, 0.7, 0.8, 0.85, 0.75, 0.9) and found.box == 0.6
    assert fake.boxes == [[3, 2, 18, 21]]
    assert numbers_of(found, 20) == pytest.approx({
        "IoU@1": 50, "IoU@3": 70, "IoU@5": 85, "IoU@box": 60,
        "IoU_best@1": 65, "gap@1": 15,
        "NoC@85": 5, "NoC@90": 7, "failed@85": 0, "failed@90": 0,
    })  # fmt: skip


def test_there_is_no_gap_where_the_best_is_chosen():
    for others in ([], [bar(3), bar(0)], [bar(10)]):
        numbers = numbers_of(find(bar(20), Scripted([bar(10), bar(20)], bar(20), others)), 20)
        assert numbers["IoU_best@1"] == numbers["IoU@1"] == 50 and numbers["gap@1"] == 0


def test_each_click_is_made_on_the_answer_before():
    truth, answers = bar(20), [bar(n) for n in (10, 22, 15, 3, 20)]
    found = find(truth, Scripted(answers, truth))
    shown = [np.zeros_like(truth), *answers]
    assert found.clicks == tuple(next_click(truth, answer) for answer in shown[:5])
    assert found.ious[-1] == 1 and numbers_of(found, 20)["NoC@90"] == 2


def test_what_is_never_reached_costs_the_budget_and_is_a_failure():
    fake = Scripted([bar(17)], bar(20))
    found = find(bar(20), fake)
    assert len(found.clicks) == 20
    numbers = numbers_of(found, 20)
    assert (numbers["NoC@85"], numbers["failed@85"], numbers["NoC@90"], numbers["failed@90"]) == (
        1,
        0,
        20,
        100,
    )
    assert numbers["IoU@5"] == 85 and numbers["IoU@box"] == 100


def test_clicking_ends_when_nothing_is_wrong_or_nothing_is_left_to_report():
    perfect = find(bar(20), Scripted([bar(20)], bar(20)))
    assert len(perfect.clicks) == 1 and perfect.after(5) == 1
    good = find(bar(20), Scripted([bar(19)], bar(20)))
    assert len(good.clicks) == 5 and good.needed(90) == 1
    late = find(bar(20), Scripted([bar(n) for n in (2, 2, 2, 2, 2, 2, 19)], bar(20)))
    assert len(late.clicks) == 7


def test_what_cannot_be_found_is_said():
    with pytest.raises(ValueError, match="mask is empty"):
        find(bar(0), Scripted([bar(1)], bar(1)))
    with pytest.raises(ValueError, match="nothing is resized here"):
        find(bar(5), Scripted([bar(5)[:10]], bar(5)))
    with pytest.raises(ValueError, match="must be at least 5"):
        find(bar(5), Scripted([bar(5)], bar(5)), budget=4)


def test_totals_are_means_over_objects_and_intervals_over_images():
    one, two = (Found((), (a,) * 5, b, c) for a, b, c in ((0.8, 0.5, 0.86), (0.9, 1.0, 0.9)))
    rows = [numbers_of(found, 20) for found in (one, two, two)]
    few = [ObjectNumbers(image, k, rows[k]) for k, image in enumerate("bab")]
    totals = {mean.name: sums_of(mean, few).mean for mean in image_means(20)}
    assert totals["mIoU@1"] == pytest.approx((80 + 90 + 90) / 3)
    assert totals["mIoU@box"] == pytest.approx((50 + 100 + 100) / 3)
    assert totals["mIoU_best@1"] == pytest.approx((86 + 90 + 90) / 3)
    assert totals["gap@1"] == pytest.approx(6 / 3)
    assert totals["NoC@85"] == pytest.approx((20 + 1 + 1) / 3)
    assert totals["failed@85"] == pytest.approx(100 / 3)
    assert set(uncertainty(few, image_means(20), totals, unit="images").intervals.values()) == {None}
    many = [ObjectNumbers(f"{k % 7}", k, row) for k, row in enumerate(rows * 8)]
    found = uncertainty(many, image_means(20), totals, unit="images")
    assert "over 7 images" in found.remark
    for name, value in totals.items():
        low, high = found.intervals[name]
        assert low < value < high, name
    assert 1 <= found.intervals["NoC@85"][0]


@pytest.fixture(scope="module")
def predictor() -> SAM2ImagePredictor:
    torch.manual_seed(0)
    predictor = SAM2ImagePredictor(build_sam2("test", device="cpu"))
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8))
    return predictor


def test_clicks_and_boxes_are_asked_as_a_user_of_the_predictor_would(predictor):
    own = ImageSegmenter(predictor)
    own.click(Click(1, 1, True))
    own.begin()  # what was clicked before is forgotten
    first = own.click(Click(20, 12, True))
    masks, ious, rough = predictor.predict([[20, 12]], [1], multimask_output=True)
    best = int(ious.argmax())
    assert len(masks) == 3 and first.shape == (40, 56) and (first == (masks[best] > 0)).all()
    assert (np.array(own.candidates()) == (masks > 0)).all()
    second = own.click(Click(50, 30, False))
    masks, _, _ = predictor.predict(
        [[20, 12], [50, 30]], [1, 0], mask_input=rough[best][None], multimask_output=False
    )
    assert len(masks) == 1 and (second == (masks[0] > 0)).all()
    boxed = own.box([5, 6, 30, 25])
    assert (boxed == (predictor.predict(box=[5, 6, 30, 25], multimask_output=False)[0][0] > 0)).all()
