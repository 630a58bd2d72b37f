"""Old memories, and those that look unlike the object now, are left out."""

from __future__ import annotations

import math

import pytest

from sam2.model.memory_bank import MemoryPolicy, Recall
from sam2.policies.pruned import Pruned
from tests.sam2.policies.script import Player, Says

BOX = (4, 4, 11, 11)


def turning(degrees_a_frame: float):
    """An object whose pointer turns."""

    def script(frame: int, recall: Recall) -> Says:
        angle = math.radians(degrees_a_frame * frame)
        return Says([BOX, BOX], [0.9, 0.5], look=(math.cos(angle), math.sin(angle)))

    return script


def frames(player: Player, frame: int) -> list[int]:
    return [t for t, row in player.looked_at(frame) if row < 6]


@pytest.mark.parametrize(
    ("degrees_a_frame", "expected"), [(-10, [16, 17, 18, 19]), (10, [11, 12, 16, 17, 18, 19])]
)
def test_frames_unlike_the_newest_and_the_prompted_one_are_not_looked_at(degrees_a_frame, expected):
    """The prompted frame's pointer, which is (frame, left edge), stands at 90 degrees, the newest at 190."""
    player = Player(turning(degrees_a_frame), Pruned(min_similarity=math.cos(math.radians(35)), max_age=100))
    player.play(range(1, 21))
    assert frames(player, 20) == expected


def test_a_memory_becomes_relevant_again_when_the_look_returns():
    def there_and_back(frame: int, recall: Recall) -> Says:
        return turning(1)(0 if frame < 10 or frame >= 20 else -90, recall)

    player = Player(there_and_back, Pruned(min_similarity=0.5, max_age=16))
    player.play(range(1, 23))
    assert frames(player, 19) == [13, 14, 15, 16, 17, 18]
    assert frames(player, 22) == [6, 7, 8, 9, 20, 21], "frames 10 to 19 looked otherwise"


def test_old_frames_are_dropped_with_map_and_pointer():
    player = Player(turning(0), Pruned(min_similarity=-1, max_age=3))
    player.play(range(1, 31))
    assert frames(player, 30) == [27, 28, 29]
    [found] = player.model.looked_at[30]
    assert [e.frame for e, _ in found.pointers] == [0, 29, 28, 27]
    assert [e.frame for e in player.track.best.memory.entries] == [0, 27, 28, 29, 30]


def test_the_newest_frame_counts_even_if_it_is_like_nothing_before():
    player = Player(turning(90), Pruned(min_similarity=0.9, max_age=2))
    player.play(range(1, 10))
    assert 8 in frames(player, 9)


def test_the_memory_of_an_endless_stream_stays_the_same():
    player = Player(turning(5), Pruned(), rules=MemoryPolicy(slots=4, max_pointers=6))
    player.play(range(1, 60))
    early = player.bytes
    player.play(range(60, 600))
    assert player.bytes == early
