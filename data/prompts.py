"""Simulated interaction: which frames a user prompts, with what, and where the correction clicks fall.

Two kinds of randomness, neither from a global generator. The *plan* (kind of prompt, which frames) is a function of
(seed, step) and so the same on every rank, which keeps the ranks' graphs alike. The *places* are functions of each
object's own seed, and so the same for any number of ranks and workers.
Source: SAM 2 (arXiv 2408.00714) and its released training recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class PromptPolicy:
    """How a user behaves; the defaults are the released fine-tuning recipe's.

    Attributes:
        point_start: probability that a clip starts from clicks or boxes rather than from masks.
        box_start: among those, the probability of a box on each prompted frame.
        first_frames: at most this many frames are prompted at the start; the first frame always is.
        corrected_frames: at most this many frames get correction clicks (clips that start from masks: none).
        vary: draw both numbers from 1 up to the maximum instead of always taking it.
        clicks: correction clicks on each corrected frame.
        truth_clicks: probability that a correction falls on the object as if nothing had been predicted.
        box_noise: corners move by up to this fraction of the side,
        box_noise_px: and by at most this many pixels.
    """

    point_start: float = 0.5
    box_start: float = 0.5
    first_frames: int = 2
    corrected_frames: int = 2
    vary: bool = True
    clicks: int = 7
    truth_clicks: float = 0.1
    box_noise: float = 0.1
    box_noise_px: float = 20.0

    def __post_init__(self) -> None:
        for name in ("point_start", "box_start", "truth_clicks"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"prompts.{name} is a probability, got {getattr(self, name)}")
        if self.first_frames < 1 or self.corrected_frames < 0 or self.clicks < 0:
            raise ValueError(
                "prompts.first_frames must be at least 1, corrected_frames and clicks at least 0"
            )


@dataclass(frozen=True)
class PromptPlan:
    """What the user does in one clip of `frames` frames.

    `first` are the frames prompted before anything is tracked; `boxes` those among them that get a box;
    `corrected` the frames with `clicks` correction clicks each.
    """

    frames: int
    from_masks: bool
    first: tuple[int, ...]
    boxes: frozenset[int] = frozenset()
    corrected: frozenset[int] = frozenset()
    clicks: int = 0

    @property
    def order(self) -> tuple[int, ...]:
        """The frames as they are visited: prompted first, then the rest in time."""
        return (*self.first, *(t for t in range(self.frames) if t not in self.first))


def draw_plan(policy: PromptPolicy, seed: int, step: int, frames: int) -> PromptPlan:
    """The plan of micro-batch `step`: equal on all ranks, whatever their clips hold.

    A clip of one frame (an image) always starts from clicks or a box and is corrected there. Of several frames, at
    least one is left to track: a clip with nothing but given masks would have nothing to learn from.
    """
    rng = np.random.default_rng((seed, step, 0x9A0))
    from_masks = rng.random() >= policy.point_start and frames > 1
    most = min(policy.first_frames, max(1, frames - 1))
    prompted = int(rng.integers(1, most + 1)) if policy.vary else most
    first = (0, *sorted(rng.choice(np.arange(1, frames), prompted - 1, replace=False).tolist()))
    if from_masks:
        return PromptPlan(frames, True, first)
    boxes = frozenset(t for t in first if rng.random() < policy.box_start)
    most = min(policy.corrected_frames, frames)
    wanted = int(rng.integers(min(prompted, most), most + 1)) if policy.vary else most
    others = [t for t in range(frames) if t not in first]
    extra = rng.choice(others, wanted - prompted, replace=False).tolist() if wanted > prompted else []
    corrected = frozenset((*first[:wanted], *extra)) if policy.clicks else frozenset()
    return PromptPlan(frames, False, first, boxes, corrected, policy.clicks)


@dataclass
class SimulatedUser:
    """Gives clicks and boxes for the objects of one batch, on the device of their masks.

    `masks` (T, O, S, S) bool is the truth; `object_seeds` (O,) make every place a function of the object alone.
    """

    plan: PromptPlan
    policy: PromptPolicy
    masks: Tensor
    object_seeds: Tensor
    _draws: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = (self.plan.frames, 1 + self.plan.clicks, 4)
        draws = [np.random.default_rng(seed).random(shape) for seed in self.object_seeds.tolist()]
        self._draws = torch.from_numpy(np.stack(draws)).to(self.masks.device, non_blocking=True)

    def start(self, frame: int) -> tuple[Tensor, Tensor]:
        """First prompts of all objects on `frame`: points (O, P, 2) in pixels x, y and labels (O, P)."""
        draws = self._draws[:, frame, 0]
        if frame not in self.plan.boxes:
            points, labels = pick_pixel(self.masks[frame], draws[:, 0])
            return points[:, None], labels[:, None]
        return noisy_box(self.masks[frame], draws, self.policy)

    def correct(self, frame: int, click: int, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """Correction `click` of all objects: points (O, 1, 2), labels (O, 1); `predicted` (O, S, S) bool."""
        truth = self.masks[frame]
        draws = self._draws[:, frame, 1 + click]
        blind = (draws[:, 1] < self.policy.truth_clicks)[:, None, None]
        errors = truth ^ (predicted & ~blind)
        points, labels = pick_pixel(truth, draws[:, 0], errors)
        return points[:, None], labels[:, None]


def pick_pixel(truth: Tensor, draw: Tensor, errors: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A click on each object: uniform over the wrong pixels, else over the background.

    Args:
        truth: (O, H, W) bool.
        draw: (O,) float64 in [0, 1), one number an object.
        errors: (O, H, W) bool, pixels in need of correction; by default the object itself.

    Returns:
        Points (O, 2) as x, y and labels (O,): 1 where the pixel belongs to the object. An absent object therefore
        never gets a positive click.
    """
    errors = truth if errors is None else errors
    background = ~truth
    nothing_wrong = ~errors.flatten(1).any(1)[:, None, None]
    region = torch.where(nothing_wrong, background, errors)
    region = torch.where(region.flatten(1).any(1)[:, None, None], region, truth)
    counts = region.flatten(1).cumsum(1, dtype=torch.int32)
    nth = (draw * counts[:, -1]).to(torch.int32) + 1
    index = torch.searchsorted(counts, nth[:, None])
    labels = truth.flatten(1).gather(1, index)[:, 0].long()
    width = truth.shape[-1]
    points = torch.cat((index % width, torch.div(index, width, rounding_mode="floor")), dim=1)
    return points.float(), labels


def noisy_box(truth: Tensor, draws: Tensor, policy: PromptPolicy) -> tuple[Tensor, Tensor]:
    """A box around each object with moved corners: points (O, 2, 2), labels (O, 2) of 2 and 3.

    `draws` (O, 4) in [0, 1). An absent object has no box: it gets a click on the background and a padding point.
    """
    height, width = truth.shape[-2:]
    box = torch.stack((*_extent(truth.any(1)), *_extent(truth.any(2))), dim=1)[:, [0, 2, 1, 3]].double()
    side = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    reach = (policy.box_noise * side).clamp(max=policy.box_noise_px)
    box = (box + (2 * draws - 1) * reach).clamp(min=0)
    box = torch.stack((box[:, 0::2].clamp(max=width - 1), box[:, 1::2].clamp(max=height - 1)), dim=-1)
    absent = ~truth.flatten(1).any(1)
    click, _ = pick_pixel(truth, draws[:, 0])
    instead = torch.stack((click, torch.zeros_like(click)), dim=1)
    points = torch.where(absent[:, None, None], instead, box.float())
    place = torch.arange(2, device=box.device)
    return points, torch.where(absent[:, None], -place, place + 2)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and last true position along the last axis, (O,) each; meaningless where nothing is true."""
    size = occupied.shape[-1]
    place = torch.arange(size, device=occupied.device)
    return torch.where(occupied, place, size).amin(1), torch.where(occupied, place, -1).amax(1)
