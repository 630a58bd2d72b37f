"""The model shows that mask of several which it believes in: how good is that one, and how good is the best?

The decoder gives three candidates on tracked frames and for a single click. Each is finished as the shown mask is and
held against the true one at the video's size, on the device, alone: before objects share pixels. Formulas:
docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sam2.evaluation.boundary import Bools
from sam2.shown_masks import enlarged, filled
from sam2.tracker import Offer
from sam2.video_session import VideoSession

Numbers = dict[str, float | None]
TrueMasks = Callable[[int], Mapping[int, Bools]]  # by object (H, W), on a frame; those that are known


class Choice(NamedTuple):
    """True IoU, 0 to 1, of the candidate that is shown and of the one that fits best."""

    chosen: float
    best: float


class Choices:
    """Listens to a session and judges what it chose.

    Args:
        session: followed with `follow`; nobody else listens to it.
        truth: gives true masks of a frame.
    """

    def __init__(self, session: VideoSession, truth: TrueMasks) -> None:
        self._session, self._truth = session, truth
        self._offers: dict[Hashable, Offer] = {}
        session.on_offer = self._offers.__setitem__

    def judge(self, frame: int) -> dict[int, Choice]:
        """What was chosen since the last time, by object, where it is visible and there was a choice.

        Raises:
            ValueError: a true mask has not the size of the video.
        """
        offers = list(self._offers.items())
        self._offers.clear()
        several = {i: offer for i, offer in offers if isinstance(i, int) and len(offer.candidates) > 1}
        truth = self._truth(frame) if several else {}
        return {
            i: choice_of(self._shown(offer), offer, truth[i], frame)
            for i, offer in several.items()
            if i in truth and truth[i].any()
        }

    def _shown(self, offer: Offer) -> Tensor:
        """The candidates as they would be shown, logits (M, H, W)."""
        session = self._session
        finished = filled(offer.candidates.to(session.device), session.options.fill_hole_area)
        return enlarged(finished[None], session.frames.size)[0]


def choice_of(logits: Tensor, offer: Offer, truth: Bools, frame: int) -> Choice:
    """Hold candidates against the truth.

    Args:
        logits: (M, H, W).
        offer: says which of them is shown.
        truth: (H, W), with a pixel at least.
        frame: whose they are, for the message.

    Raises:
        ValueError: the sizes differ.
    """
    if logits.shape[1:] != truth.shape:
        found, expected = (f"{width}x{height}" for height, width in (truth.shape, logits.shape[1:]))
        raise ValueError(
            f"frame {frame}: the true mask is {found}, the video {expected}; nothing is resized here"
        )
    shown, there = logits > 0, torch.from_numpy(truth).to(logits.device)
    both, either = (part.flatten(1).sum(1) for part in (shown & there, shown | there))
    chosen = offer.ious.argmax() if offer.chosen is None else torch.tensor(offer.chosen, device=both.device)
    counts = torch.cat((torch.stack((both, either)), chosen.expand(2, 1)), dim=1).tolist()  # one copy
    ious = [b / e for b, e in zip(counts[0][:-1], counts[1][:-1], strict=True)]
    return Choice(ious[counts[0][-1]], max(ious))


def chosen_and_best(choices: Sequence[Choice]) -> Numbers:
    """Means over frames of objects.

    Returns:
        `chosen_iou` and `best_iou` in percent, `choice_gap`: the second less the first, None without a frame;
        `choices`: how many there are.
    """
    count = len(choices)
    if not count:
        return {"chosen_iou": None, "best_iou": None, "choice_gap": None, "choices": 0.0}
    chosen, best = (100 * sum(column) / count for column in zip(*choices, strict=True))
    gap = 100 * sum(one.best - one.chosen for one in choices) / count
    return {"chosen_iou": chosen, "best_iou": best, "choice_gap": gap, "choices": float(count)}
