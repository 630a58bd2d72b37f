"""Padding for compiled models: one shape from the first tracked frame on, and the same answers."""

from __future__ import annotations

import pytest
import torch

from sam2.model.fixed_shapes import FixedShapes
from sam2.model.memory_bank import INFERENCE, Place
from sam2.model.pixels import normalise
from sam2.model.sam2 import SAM2
from sam2.tracker import Track, Tracker
from sam2.types import MaskPrompt, Output, Prompt
from sam2.variants import resolve

FRAMES = 12


@pytest.fixture
def model() -> SAM2:
    torch.manual_seed(3)
    return SAM2(resolve("test"), policy=INFERENCE).eval()


def click(count: int) -> Prompt:
    xy = torch.rand(1, count, 2, generator=torch.Generator().manual_seed(count)) * 64
    return Prompt(xy, torch.ones(1, count, dtype=torch.long))


def frames() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (FRAMES, 3, 64, 64), dtype=torch.uint8, generator=generator)


@torch.inference_mode()
def follow(model: SAM2, objects: int, clicks: tuple[int, ...]) -> list[Output]:
    """Every object comes one frame later than the one before; clicks of these numbers are asked on the last frame."""
    tracker, tracks, shown = Tracker(model), [], []
    for t, frame in enumerate(frames()):
        features, place = model.observe(normalise(frame[None])), Place(t, FRAMES)
        found = tracker.advance(features, tracks, place) if tracks else []
        shown += [answer for answer, _ in found]
        tracks = [track for _, track in found]
        if t < objects:
            mask = torch.zeros(1, 1, 64, 64)
            mask[..., 8 * t : 8 * t + 24, 10:40] = 1
            answer = tracker.ask(features, tracker.begin(), place, MaskPrompt(mask), first=True)
            tracks += tracker.commit(features, [tracker.begin()], [answer], place, [True])
    last: Track = tracks[0]
    for count in clicks:
        shown.append(tracker.ask(features, last, place, click(count), first=False))
    return shown


def test_padded_answers_equal_unpadded_ones(model):
    exact = follow(model, 3, (1, 2, 5))
    model.shapes = FixedShapes(points=2)
    padded = follow(model, 3, (1, 2, 5))
    assert len(padded) == len(exact) > 30
    for a, b in zip(padded, exact, strict=True):
        torch.testing.assert_close(a.low_res, b.low_res, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(a.ious, b.ious, rtol=1e-4, atol=1e-5)


def test_nothing_compiles_again_after_warm_up_however_the_bank_fills_and_clicks_come(model):
    torch._dynamo.reset()
    model.compile_for_tracking(FixedShapes(points=4), backend="eager")
    follow(model, 1, (1,))
    with torch.compiler.set_stance("fail_on_recompile"):
        follow(model, 1, (1, 2, 3, 4))


def test_without_padding_a_filling_bank_does_compile_again(model):
    torch._dynamo.reset()
    model.compile_for_tracking(backend="eager")
    model.shapes = None
    with torch.inference_mode():
        seen = model.observe(normalise(frames()[:1]))
    with pytest.raises(RuntimeError, match="ecompil"), torch.compiler.set_stance("fail_on_recompile"):
        follow(model, 1, ())
    assert seen.s16.shape == (1, 32, 4, 4)


@pytest.mark.parametrize("count, rows", [(1, 2), (2, 2), (3, 4), (5, 8)])
def test_batches_grow_by_doubling(count, rows):
    batch = FixedShapes(objects=2).rows(count)
    assert batch[:count] == [*range(count)]
    assert len(batch) == rows
    assert set(batch[count:]) <= {count - 1}
