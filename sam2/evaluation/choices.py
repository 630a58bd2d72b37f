"""The model shows that mask of several which it believes in: how good is that one, and how good is the best?

The decoder gives three candidates on tracked frames and for a single click. Each is finished as the shown mask is and
held against the true one at the video's size, on the device, alone: before objects share pixels. Formulas:
docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
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
        judged = {i: offer for i, offer in several.items() if i in truth and truth[i].any()}
        if not judged:
            return {}
        session, rows = self._session, list(judged.values())
        low_res = torch.cat([offer.candidates for offer in rows]).to(session.device)
        # all objects at once, which saves rounds on a GPU; enlarged one by one, which saves memory
        finished = filled(low_res, session.options.fill_hole_area).split([len(o.candidates) for o in rows])
        counts = [
            overlaps(enlarged(part[None], session.frames.size)[0], offer, truth[i], frame)
            for (i, offer), part in zip(judged.items(), finished, strict=True)
        ]
        found = torch.cat(counts, dim=1).tolist()  # waits for the device once
        ends = np.cumsum([count.shape[1] for count in counts]).tolist()
        return {
            i: choice_of([row[start:end] for row in found])
            for i, start, end in zip(judged, [0, *ends], ends, strict=False)
        }


def overlaps(logits: Tensor, offer: Offer, truth: Bools, frame: int) -> Tensor:
    """Pixels that candidates share with the true mask, and that either has.

    Args:
        logits: of the candidates (M, H, W).
        offer: says which of them is shown.
        truth: (H, W), with a pixel at least.
        frame: whose they are, for the message.

    Returns:
        int64 (2, M + 1), the last column that of the shown one.

    Raises:
        ValueError: the sizes differ.
    """
    if logits.shape[1:] != truth.shape:
        found, expected = (f"{width}x{height}" for height, width in (truth.shape, logits.shape[1:]))
        raise ValueError(
            f"frame {frame}: the true mask is {found}, the video {expected}; nothing is resized here"
        )
    shown, there = logits > 0, torch.from_numpy(truth).to(logits.device)
    counts = torch.stack([both.flatten(1).sum(1) for both in (shown & there, shown | there)])
    chosen = offer.ious.argmax(0, keepdim=True) if offer.chosen is None else torch.tensor([offer.chosen])
    return torch.cat((counts, counts.index_select(1, chosen.to(logits.device))), dim=1)


def choice_of(counts: Sequence[Sequence[int]]) -> Choice:
    """The IoUs of what `overlaps` counted."""
    *ious, chosen = (both / either for both, either in zip(*counts, strict=True))
    return Choice(chosen, max(ious))


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
