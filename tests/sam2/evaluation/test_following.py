"""Objects followed from prompts that are made of their true masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2.evaluation.benchmark_run import Follower
from sam2.evaluation.clicks import next_click
from sam2.evaluation.following import Start, box_around, follow, mask_of, point_at
from sam2.evaluation.label_maps import label_map
from sam2.model.memory_bank import Place
from sam2.model.pixels import normalise
from sam2.model.sam2 import SAM2
from sam2.types import Memory, Prompt
from sam2.variants import VARIANTS
from sam2.video_frames import open_frames

SIDE = 64


@pytest.fixture(scope="module")
def follower() -> Follower:
    torch.manual_seed(0)
    variant = VARIANTS["test"]
    return Follower(SAM2(replace(variant, heads=replace(variant.heads, object_bias=3.0))).eval())


def clip(frames: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, SIDE, SIDE, 3), np.uint8)


def square(number: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[15 * number : 15 * number + 20, 5:40] = True
    return mask


def run(follower: Follower, pixels: np.ndarray, starts: list[Start], prompt: str = "mask") -> list:
    return list(follow(follower.session(open_frames(pixels, SIDE)), starts, prompt))


def test_a_bounded_memory_gives_what_an_endless_one_gives(follower, monkeypatch):
    monkeypatch.setattr("sam2.evaluation.benchmark_run.FILL_HOLE_AREA", 0)
    pixels, starts, model = clip(), [Start(k + 1, 0, square(k)) for k in range(3)], follower.model
    # all at once as below, because what is remembered is rounded
    bounded, memory = run(replace(follower, max_rows=3), pixels, starts, "box"), Memory()
    corners = torch.tensor([box_around(start.mask) for start in starts]).float().unflatten(1, (2, 2))
    boxes = Prompt(corners, torch.tensor([[2, 3]] * 3))
    with torch.no_grad():
        for t, frame in enumerate(torch.from_numpy(pixels).permute(0, 3, 1, 2)):
            seen = model.observe(normalise(frame[None])).expand(3)
            prompt = boxes if t == 0 else None
            output, memory = model.step(seen, memory, Place(t, len(pixels)), model.policy, prompt)
            enlarged = torch.nn.functional.interpolate(output.low_res, (SIDE, SIDE), mode="bilinear")
            # what the objects share is computed once here and for each of them there
            torch.testing.assert_close(bounded[t].logits, enlarged, rtol=1e-5, atol=2e-5)
    assert len(memory) == 9


def test_objects_together_or_one_by_one_are_the_same(follower):
    starts = [Start(k + 1, 2 * k, square(k)) for k in range(3)]
    together = run(follower, clip(), starts)
    assert [shown.frame for shown in together] == list(range(9))
    for start in starts:
        alone = run(follower, clip(), [start])
        assert [shown.frame for shown in alone] == list(range(start.frame, 9))
        for shown in alone:
            both = together[shown.frame]
            mine = both.logits[both.object_ids.index(start.object_id)]
            torch.testing.assert_close(mine, shown.logits[0], rtol=1e-4, atol=1e-4)


def test_an_object_is_not_there_before_it_is_pointed_at(follower):
    shown = run(follower, clip(), [Start(7, 1, square(0)), Start(3, 4, square(1))])
    assert [(s.frame, s.object_ids) for s in shown] == [(t, [7]) for t in (1, 2, 3)] + [
        (t, [7, 3]) for t in range(4, 9)
    ]


def test_the_first_frame_gives_back_the_masks(follower):
    one, two = square(0), np.roll(square(0), 25, axis=0)
    first = run(follower, clip(1), [Start(4, 0, one), Start(9, 0, two)])[0]
    ids = label_map(first.logits[:, 0], [4, 9])
    overlap = ((ids == 4) & one).sum() + ((ids == 9) & two).sum()
    assert overlap / (((ids == 4) | one).sum() + ((ids == 9) | two).sum()) > 0.95


@pytest.mark.parametrize("prompt", ["click1", "click3", "click5"])
def test_each_click_corrects_the_answer_to_the_one_before(follower, prompt):
    frames, start, asked = open_frames(clip(1), SIDE), Start(1, 0, square(1)), []
    session = follower.session(frames)
    answer_to, shown = session.add_points_or_box, [np.zeros((SIDE, SIDE), bool)]

    def listening(frame, object_id, points=None, labels=None, box=None, **options):
        asked.append((*points[0], labels[0], options["clear_old"]))
        found = answer_to(frame, object_id, points, labels, box, **options)
        shown.append(mask_of(found, object_id))
        return found

    session.add_points_or_box = listening
    point_at(session, start, prompt)
    assert len(asked) == int(prompt[-1])
    for k, (x, y, label, clear) in enumerate(asked):
        assert (x, y, bool(label)) == next_click(start.mask, shown[k]) and clear == (k == 0)
    assert len(session.objects[1].prompts[0].points[0]) == len(asked)


def test_a_box_has_the_corners_of_the_mask(follower):
    assert box_around(square(1)) == [5, 15, 39, 34]
    dot = np.zeros((SIDE, SIDE), bool)
    dot[30, 20] = True
    assert box_around(dot) == [20, 30, 21, 31]
    by_hand = follower.session(open_frames(clip(1), SIDE))
    expected = by_hand.add_points_or_box(0, 1, box=[5, 15, 39, 34])
    found = point_at(follower.session(open_frames(clip(1), SIDE)), Start(1, 0, square(1)), "box")
    assert torch.equal(found.logits, expected.logits)


def test_prompts_that_cannot_be_made_are_named(follower):
    empty = Start(2, 0, np.zeros((SIDE, SIDE), bool))
    with pytest.raises(ValueError, match="object 2 has an empty mask on frame 0"):
        run(follower, clip(2), [empty])
    with pytest.raises(ValueError, match="no prompt 'clik1'; choose one of mask, box, click1"):
        run(follower, clip(2), [Start(2, 0, square(0))], "clik1")
    with pytest.raises(ValueError, match="object 5 starts on frame 2; the video has 2"):
        run(follower, clip(2), [Start(2, 0, square(0)), Start(5, 2, square(0))])


def test_no_object_no_frame(follower):
    assert run(follower, clip(2), []) == []
