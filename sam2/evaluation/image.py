"""How well objects of still images are found by clicks and by boxes, at the images' own size.

The person who clicks is that of `clicks.py`: first in the object's middle, then where the answer is most wrong.
Measures: mean IoU after some clicks and for a box (SAM, arXiv 2304.02643), and the number of clicks until an IoU is
reached (NoC, as the evaluators of interactive segmentation since RITM, arXiv 2102.06583, count it: the budget where it
never is).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sam2.evaluation.boundary import Bools
from sam2.evaluation.clicks import Click, next_click
from sam2.evaluation.following import box_around
from sam2.evaluation.kinds import AFTER, TARGETS
from sam2.sam2_image_predictor import SAM2ImagePredictor

BUDGET = 20


class Segmenter(Protocol):
    """What finds one object at a time in one image."""

    def begin(self) -> None:
        """Another object: forget all clicks."""
        ...

    def click(self, click: Click) -> Bools:
        """The object's mask (H, W) after one more click."""
        ...

    def candidates(self) -> Sequence[Bools]:
        """All masks (H, W) that the answer to the last click was chosen from, itself among them."""
        ...

    def box(self, corners: Sequence[int]) -> Bools:
        """The mask (H, W) of the object in a box x1, y1, x2, y2."""
        ...


class ImageSegmenter:
    """A predictor with its image set.

    The first click is answered by the candidate with the highest predicted IoU; each later one goes in with all before
    it and the last answer's low-resolution logits, and is answered by the single mask. So is a box.
    """

    def __init__(self, predictor: SAM2ImagePredictor) -> None:
        self._predictor = predictor
        self.begin()

    def begin(self) -> None:
        """Another object: forget all clicks."""
        self._clicks: list[Click] = []
        self._rough: NDArray[np.float32] | None = None
        self._offered: list[Bools] = []

    def click(self, click: Click) -> Bools:
        """The object's mask (H, W) after one more click."""
        self._clicks.append(click)
        masks, ious, rough = self._predictor.predict(
            [[c.x, c.y] for c in self._clicks],
            [int(c.is_positive) for c in self._clicks],
            mask_input=self._rough,
            multimask_output=len(self._clicks) == 1,
        )
        best = int(ious.argmax())
        self._rough = rough[best : best + 1]
        self._offered = list(masks > 0)
        return self._offered[best]

    def candidates(self) -> Sequence[Bools]:
        """Three masks (H, W) after the first click, one after later ones."""
        return self._offered

    def box(self, corners: Sequence[int]) -> Bools:
        """The mask (H, W) of the object in a box."""
        mask: Bools = self._predictor.predict(box=list(corners), multimask_output=False)[0][0] > 0
        return mask


@dataclass(frozen=True)
class Found:
    """How one object was found.

    Attributes:
        clicks: as they were made.
        ious: after each of them.
        box: the IoU of the answer to its box.
        best: the highest IoU of the candidates for the first click's answer.
    """

    clicks: tuple[Click, ...]
    ious: tuple[float, ...]
    box: float
    best: float

    def after(self, count: int) -> float:
        """The IoU after so many clicks; it stays where nothing was left to click at."""
        return self.ious[min(count, len(self.ious)) - 1]

    def needed(self, percent: int) -> int | None:
        """How many clicks it took to reach an IoU; None: it was not reached."""
        return next((n for n, iou in enumerate(self.ious, 1) if iou >= percent / 100), None)


def find(truth: Bools, segmenter: Segmenter, budget: int = BUDGET) -> Found:
    """Click until nothing is left to report: all targets are reached, nothing is wrong, or the budget is used up.

    Args:
        truth: the object's mask (H, W), with a pixel at least.
        segmenter: with the image set.
        budget: clicks, at most.

    Raises:
        ValueError: the mask is empty, the answers have another size, or the budget is too small to report.
    """
    if not truth.any():
        raise ValueError("the object's mask is empty")
    if budget < max(AFTER):
        raise ValueError(f"a budget of {budget} clicks; it must be at least {max(AFTER)}")
    segmenter.begin()
    clicks: list[Click] = []
    ious: list[float] = []
    answer, best = np.zeros_like(truth), 0.0
    while len(clicks) < budget and (len(clicks) < max(AFTER) or max(ious) < max(TARGETS) / 100):
        click = next_click(truth, answer)
        if click is None:
            break
        answer = segmenter.click(click)
        clicks.append(click)
        ious.append(iou_of(truth, answer))
        if len(clicks) == 1:
            best = max(iou_of(truth, mask) for mask in segmenter.candidates())
    return Found(tuple(clicks), tuple(ious), iou_of(truth, segmenter.box(box_around(truth))), best)


def iou_of(truth: Bools, answer: Bools) -> float:
    """Intersection over union of two masks of one size, the first of which is not empty."""
    if truth.shape != answer.shape:
        raise ValueError(
            f"the answer is {answer.shape}, the true mask {truth.shape}; nothing is resized here"
        )
    return float((truth & answer).sum() / (truth | answer).sum())


def numbers_of(found: Found, budget: int) -> dict[str, float]:
    """What is reported of an object; IoU and failures in percent, clicks as they are."""
    counts = {f"NoC@{target}": found.needed(target) for target in TARGETS}
    return {
        **{f"IoU@{n}": 100 * found.after(n) for n in AFTER},
        "IoU@box": 100 * found.box,
        "IoU_best@1": 100 * found.best,
        "gap@1": 100 * (found.best - found.after(1)),
        **{name: budget if count is None else count for name, count in counts.items()},
        **{f"failed@{target}": 100 * int(found.needed(target) is None) for target in TARGETS},
    }
