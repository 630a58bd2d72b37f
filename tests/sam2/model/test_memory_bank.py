"""Which frames are recalled: the rule spelled out frame by frame."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam2.model.memory_bank import MemoryPolicy, Place, closest_prompted, forget, recall
from sam2.types import Entry, Memory

EMPTY = torch.empty(0)


def _memory(prompted=(), tracked=()):
    entries = [Entry(t, True, EMPTY, EMPTY, EMPTY) for t in prompted]
    entries += [Entry(t, False, EMPTY, EMPTY, EMPTY) for t in tracked]
    return Memory(tuple(sorted(entries, key=lambda e: e.frame)))


def _frames(pairs):
    return [(entry.frame, number) for entry, number in pairs]


def test_prompted_frames_come_first_then_six_recent_ones_oldest_first():
    found = recall(_memory([0], range(1, 20)), Place(20, 30), MemoryPolicy())
    assert _frames(found.maps) == [(0, 6), (14, 5), (15, 4), (16, 3), (17, 2), (18, 1), (19, 0)]


def test_pointers_reach_back_fifteen_frames_with_their_distance():
    found = recall(_memory([0], range(1, 40)), Place(40, 60), MemoryPolicy())
    assert _frames(found.pointers) == [(0, 40), *((40 - back, back) for back in range(1, 16))]
    assert found.reach == 16


def test_a_short_video_shortens_the_reach_of_pointers():
    found = recall(_memory([0], range(1, 7)), Place(7, 8), MemoryPolicy())
    assert found.reach == 8
    assert _frames(found.pointers)[1:] == [(7 - back, back) for back in range(1, 7)]


def test_reverse_mirrors_the_rule_and_the_sign():
    found = recall(_memory([10], range(3, 10)), Place(2, 12, reverse=True), MemoryPolicy())
    assert _frames(found.maps) == [(10, 6), (8, 5), (7, 4), (6, 3), (5, 2), (4, 1), (3, 0)]
    assert _frames(found.pointers)[0] == (10, 8)


def test_future_prompted_frames_lend_maps_but_pointers_only_when_allowed():
    memory = _memory([0, 9], [3])
    lenient = recall(memory, Place(4, 12), MemoryPolicy())
    strict = recall(memory, Place(4, 12), MemoryPolicy(pointers_past_only=True))
    assert _frames(lenient.pointers) == [(0, 4), (9, -5), (3, 1)]
    assert _frames(strict.pointers) == [(0, 4), (3, 1)]
    assert _frames(strict.maps) == _frames(lenient.maps) == [(0, 6), (9, 6), (3, 0)]


@pytest.mark.parametrize(("frame", "expected"), [(20, [6, 9, 12, 15, 18, 19]), (21, [6, 9, 12, 15, 18, 20])])
def test_stride_keeps_the_previous_frame_and_multiples_before_it(frame, expected):
    found = recall(_memory([0], range(1, frame)), Place(frame, 40), MemoryPolicy(stride=3))
    assert [t for t, _ in _frames(found.maps)][1:] == expected


def test_prompted_frames_left_out_count_as_ordinary_ones():
    memory = _memory([0, 5, 6, 30])
    found = recall(memory, Place(7, 40), MemoryPolicy(max_prompted=2))
    assert _frames(found.maps) == [(6, 6), (30, 6), (5, 1)]


@given(st.sets(st.integers(0, 40), min_size=1), st.integers(0, 40), st.integers(2, 6))
def test_closest_prompted_holds_the_neighbours_and_nothing_nearer_is_left_out(frames, now, limit):
    chosen = {e.frame for e in closest_prompted(_memory(frames), now, limit)}
    left = frames - chosen
    assert len(chosen) == min(limit, len(frames))
    before, after = [t for t in frames if t < now], [t for t in frames if t >= now]
    assert not before or max(before) in chosen
    assert not after or min(after) in chosen
    extra = chosen - {max(before, default=None), min(after, default=None)}
    if left and extra:
        assert max(abs(t - now) for t in extra) <= min(abs(t - now) for t in left)


def test_impossible_policies_are_refused():
    with pytest.raises(ValueError, match="max_prompted"):
        MemoryPolicy(max_prompted=1)
    with pytest.raises(ValueError, match="slots"):
        MemoryPolicy(slots=0)


@given(st.integers(1, 7), st.integers(1, 4), st.integers(1, 16), st.integers(1, 60))
def test_what_is_forgotten_would_never_have_been_recalled(slots, stride, pointers, now):
    policy = MemoryPolicy(slots=slots, stride=stride, max_pointers=pointers)
    memory = _memory([0], range(1, now))
    kept = forget(memory, now, policy)
    for frame in range(now, now + 20):
        found, expected = (recall(m, Place(frame, 100), policy) for m in (kept, memory))
        assert found.maps == expected.maps, "the very entries"
        assert _frames(found.pointers) == _frames(expected.pointers) and found.reach == expected.reach
        assert all(
            a.pointer is b.pointer for (a, _), (b, _) in zip(found.pointers, expected.pointers, strict=True)
        )
    assert len(kept) <= 2 + max((slots - 1) * stride + 1, pointers)


def test_a_map_that_is_too_old_to_be_looked_at_is_given_up():
    entries = [
        Entry(t, t == 0, torch.ones(2, 3, 4, 4), torch.ones(2, 5), torch.ones(2, 1)) for t in range(20)
    ]
    kept = forget(Memory(tuple(entries)), 20, MemoryPolicy(slots=4, max_pointers=8))
    assert [(e.frame, e.spatial.untyped_storage().nbytes() > 0) for e in kept.entries] == [
        (0, True), *((t, t >= 16) for t in range(12, 20)),
    ]  # fmt: skip
    assert kept.entries[1].pick(slice(1, 2)).pointer.shape == (1, 5)
