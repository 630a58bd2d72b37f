"""A ghost is not remembered, so it cannot teach later frames."""

from __future__ import annotations

import pytest

from sam2.model.memory_bank import Recall
from sam2.policies import REFERENCE
from sam2.policies.confidence_gated import ConfidenceGated
from tests.sam2.policies.script import Player, Says, edges, steady

OBJECT, GHOST = (4, 4, 11, 11), (20, 4, 27, 11)


def haunted(frame: int, recall: Recall) -> Says:
    """The object hides on frames 5 to 12, where something else is seen, faintly; who remembers it keeps seeing it."""
    if 5 <= frame <= 12:
        return Says([GHOST, OBJECT], [0.4, 0.1], visible=1.0)
    if frame > 12 and GHOST[0] in edges(recall):
        return Says([GHOST, OBJECT], [0.9, 0.2])
    return Says([OBJECT, GHOST], [0.9, 0.3])


def test_a_ghost_is_rejected():
    after = range(13, 30)
    reference, gated = Player(haunted, REFERENCE), Player(haunted, ConfidenceGated())
    reference.play(range(1, 13)), gated.play(range(1, 13))
    assert set(reference.play(after)) == {GHOST[0]}
    assert set(gated.play(after)) == {OBJECT[0]}


def test_the_last_good_frames_are_looked_at_however_long_they_are_ago():
    player = Player(lambda t, r: haunted(min(t, 12), r), ConfidenceGated())
    player.play(range(1, 500))
    assert player.looked_at(499) == [(0, 6), (1, 3), (2, 2), (3, 1), (4, 0)]
    assert player.remembered == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("visible", "iou", "kept"), [(1.0, 0.6, True), (-1.0, 0.9, False), (1.0, 0.5, False)]
)
def test_both_scores_must_be_above_their_thresholds(visible, iou, kept):
    player = Player(lambda t, r: Says([OBJECT, GHOST], [iou, 0.1], visible), ConfidenceGated())
    player.step(1)
    assert player.remembered == ([0, 1] if kept else [0])


def test_what_a_person_answers_is_remembered_whatever_its_scores():
    player = Player(lambda t, r: Says([OBJECT, GHOST], [0.1, 0.0], -5.0), ConfidenceGated())
    player.play(range(1, 6))
    player.prompt(6, OBJECT)
    assert player.remembered == [0, 6]


def test_of_good_frames_no_more_are_kept_than_can_be_looked_at():
    player = Player(steady, ConfidenceGated())
    player.play(range(1, 60))
    assert player.remembered == [0, *range(53, 60)]
