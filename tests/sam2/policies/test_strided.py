"""Recent memories are spread out, and what lies between them is not kept."""

from __future__ import annotations

from sam2.model.memory_bank import MemoryPolicy
from sam2.policies.strided import Strided
from tests.sam2.policies.script import Player, steady


def test_the_frame_before_and_then_every_fourth_is_looked_at():
    player = Player(steady, Strided(stride=4))
    player.play(range(1, 31))
    assert player.looked_at(30) == [(0, 6), (12, 5), (16, 4), (20, 3), (24, 2), (28, 1), (29, 0)]


def test_between_them_only_pointers_are_kept():
    player = Player(steady, Strided(stride=10), rules=MemoryPolicy(slots=4, max_pointers=6))
    player.play(range(1, 46))
    assert player.remembered == [0, 30, 40, 44, 45]
    assert [e.frame for e in player.track.best.memory.entries] == [0, 30, 40, 41, 42, 43, 44, 45]
