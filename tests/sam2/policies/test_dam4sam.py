"""A frame on which a distractor was told from the object is remembered as long as it is needed."""

from __future__ import annotations

import pytest
import torch

from sam2.model.memory_bank import MemoryPolicy, Recall
from sam2.policies import REFERENCE
from sam2.policies.dam4sam import DAM4SAM, largest_component
from tests.sam2.policies.script import Box, Player, Says

OBJECT: Box = (4, 4, 11, 11)
DISTRACTOR: Box = (20, 20, 27, 27)
ALONE = Says([OBJECT, (4, 4, 11, 12)], [0.9, 0.6])
BESIDE = Says([OBJECT, DISTRACTOR], [0.9, 0.6])


def crowded(frame: int, recall: Recall) -> Says:
    """The distractor shows up on frame 8 and again on frame 60; who does not remember both then, follows it."""
    if frame == 60:
        knows = 8 in {entry.frame for entry, _ in recall.maps}
        return BESIDE if knows else Says([DISTRACTOR, OBJECT], [0.8, 0.7])
    return BESIDE if frame == 8 else ALONE


def test_the_distractor_is_kept_apart_by_the_frame_that_showed_both():
    assert Player(crowded, REFERENCE).play(range(1, 61))[-1] == DISTRACTOR[0]
    player = Player(crowded, DAM4SAM())
    assert player.play(range(1, 61)) == [OBJECT[0]] * 60
    # the prompted frame and the anchor carry no time; the newest frame and two multiples of five do
    assert player.looked_at(60) == [(0, 6), (8, 6), (50, 2), (55, 1), (59, 0)]


@pytest.mark.parametrize(
    ("says", "is_anchor"),
    [
        (BESIDE, True),
        (ALONE, False),
        (Says([OBJECT, DISTRACTOR], [0.79, 0.6]), False),  # predicted IoU not above 0.8
        (Says([(4, 4, 11, 14), DISTRACTOR], [0.9, 0.6]), False),  # 38 % larger than usual
        (Says([(4, 4, 11, 12), DISTRACTOR], [0.9, 0.6]), True),  # 12 %
        (Says([OBJECT, DISTRACTOR], [0.9, 0.6], visible=-1.0), False),
        (Says([OBJECT, (4, 4, 13, 13)], [0.9, 0.6]), True),  # box share 64 / 100
        (Says([OBJECT, (4, 4, 12, 13)], [0.9, 0.6]), False),  # 64 / 90
    ],
)
def test_an_anchor_needs_a_reliable_mask_and_a_candidate_elsewhere(says, is_anchor):
    player = Player(lambda t, r: says if t == 8 else ALONE, DAM4SAM())
    player.play(range(1, 9))
    assert player.track.best.state.anchors == ((8,) if is_anchor else ())


def test_specks_of_noise_are_no_distractor():
    """Of a candidate counts its largest component beside the mask: a far speck does not widen the box."""
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, 2:5, 2:6] = masks[0, 12, 12] = True
    masks[1, 7:9, 7:9] = True
    kept = largest_component(masks)
    assert kept[0].sum() == 12 and kept[0, 12, 12] == 0 and torch.equal(kept[1], masks[1])
    assert not largest_component(torch.zeros(1, 4, 4, dtype=torch.bool)).any()


def test_anchors_are_five_frames_apart_and_the_oldest_gives_way():
    player = Player(lambda t, r: BESIDE, DAM4SAM())
    player.play(range(1, 31))
    # the first frame has nothing to compare its area with
    assert player.track.best.state.anchors == (17, 22, 27)
    assert player.looked_at(30)[:4] == [(0, 6), (17, 6), (22, 6), (27, 6)]


def test_frames_without_the_object_are_not_remembered():
    player = Player(lambda t, r: Says(ALONE.boxes, ALONE.ious, -3.0 if t > 12 else 5.0), DAM4SAM())
    player.play(range(1, 40))
    assert player.looked_at(39) == [(0, 6), (5, 2), (10, 1), (12, 0)]


def test_the_memory_of_an_endless_stream_stays_the_same():
    player = Player(lambda t, r: BESIDE, DAM4SAM(), rules=MemoryPolicy(slots=7, max_pointers=6))
    player.play(range(1, 60))
    early = player.bytes
    player.play(range(60, 610))
    assert player.bytes == early
    assert len(player.track.best.state.areas) == 10


def test_few_slots_leave_fewer_recent_frames():
    player = Player(lambda t, r: ALONE, DAM4SAM(), rules=MemoryPolicy(slots=2, max_pointers=6))
    player.play(range(1, 30))
    assert player.looked_at(29) == [(0, 1), (28, 0)]
