"""The caps hold, however often a person corrects."""

from __future__ import annotations

import pytest

from sam2.model.memory_bank import MemoryPolicy
from sam2.policies import REFERENCE
from sam2.policies.bounded import Bounded
from tests.sam2.policies.script import Player, steady

BOX = (4, 4, 11, 11)


def corrected(player: Player, until: int, every: int) -> Player:
    for frame in range(1, until):
        if frame % every == 0:
            player.prompt(frame, BOX)
        else:
            player.step(frame)
    return player


def test_the_first_prompted_frame_and_the_latest_ones_stay():
    player = corrected(Player(steady, Bounded(max_prompted=3, max_pointers=4)), 103, 10)
    player.step(103)
    assert player.looked_at(103)[:3] == [(0, 6), (90, 6), (100, 6)]
    assert [e.frame for e in player.track.best.memory.entries if e.is_prompted] == [0, 90, 100]


def test_offline_the_nearest_prompted_frames_count_on_both_sides():
    player = Player(steady, Bounded(max_prompted=3), is_stream=False)
    for frame in (10, 20, 30, 40):
        player.prompt(frame, BOX)
    player.step(21)
    assert [frame for frame, row in player.looked_at(21) if row == 6] == [0, 20, 30]


def test_pointers_reach_as_far_as_the_cap_and_keep_their_distances():
    player = Player(steady, Bounded(max_pointers=3))
    player.play(range(1, 41))
    [found] = player.model.looked_at[40]
    assert [(e.frame, back) for e, back in found.pointers] == [(0, 40), (39, 1), (38, 2), (37, 3)]
    assert found.reach == 16, "the model's own: it says how distances are coded"


def test_memory_does_not_grow_by_corrections():
    rules = MemoryPolicy(slots=4, max_pointers=6)
    bounded = Player(steady, Bounded(max_prompted=2, max_pointers=2), rules=rules)
    early = corrected(bounded, 60, 7).bytes
    for frame in range(60, 60 + 7 * 70):  # as far from the latest correction
        bounded.prompt(frame, BOX) if frame % 7 == 0 else bounded.step(frame)
    assert bounded.bytes == early
    reference = corrected(Player(steady, REFERENCE, rules=rules), 60, 7)
    assert reference.bytes > 1.5 * early


@pytest.mark.parametrize("max_pointers", [1, 3, 100])
def test_no_map_is_kept_beyond_the_slots(max_pointers):
    player = Player(steady, Bounded(max_pointers=max_pointers))
    player.play(range(1, 60))
    assert player.remembered == [
        0,
        *range(53, 60),
    ]  # the frame shown is forgotten only when the next one comes
