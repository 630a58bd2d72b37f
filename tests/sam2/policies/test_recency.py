"""The newest remembered frames, however long ago."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from sam2.model.memory_bank import MemoryPolicy, Place, recall
from sam2.policies.recency import keep_newest, newest, recall_newest
from sam2.types import Entry, Memory

RULES = MemoryPolicy(slots=4, max_pointers=6)


def memory(tracked, prompted=()) -> Memory:
    def entry(frame: int, is_prompted: bool) -> Entry:
        return Entry(frame, is_prompted, torch.ones(1, 1, 2, 2), torch.ones(1, 2), torch.ones(1, 1))

    frames = {**{t: False for t in tracked}, **{t: True for t in prompted}}
    return Memory(tuple(entry(t, kind) for t, kind in sorted(frames.items())))


def seen(pairs):
    return [(entry.frame, number) for entry, number in pairs]


def test_frames_that_are_not_remembered_give_way_to_older_ones():
    found = recall_newest(memory([1, 2, 5], [0]), Place(20, 100), RULES)
    assert seen(found.maps) == [(0, 3), (1, 2), (2, 1), (5, 0)]


def test_going_backwards_the_newest_is_the_nearest_ahead():
    found = recall_newest(memory([12, 15, 18, 19], [20]), Place(10, 100, reverse=True), RULES)
    assert seen(found.maps) == [(20, 3), (18, 2), (15, 1), (12, 0)]


def test_frames_left_out_are_not_looked_at_in_any_way():
    found = recall_newest(memory(range(1, 9), [0]), Place(9, 100), RULES, left_out={8, 6})
    assert seen(found.maps) == [(0, 3), (4, 2), (5, 1), (7, 0)]
    assert [frame for frame, _ in seen(found.pointers)] == [0, 7, 5, 4]


def test_with_a_stride_only_multiples_count_beside_the_newest():
    assert [e.frame for e in newest(memory(range(1, 20)), Place(20, 100), 4, stride=5)] == [19, 15, 10, 5]


rules_of_all_kinds = st.builds(
    MemoryPolicy,
    slots=st.integers(1, 5),
    stride=st.integers(1, 4),
    max_prompted=st.sampled_from([-1, 2, 3]),
    max_pointers=st.integers(1, 8),
    pointers_past_only=st.booleans(),
)


@given(st.integers(1, 25), st.sets(st.integers(0, 24)), rules_of_all_kinds, st.booleans())
def test_where_every_frame_is_remembered_it_is_the_references_recall(count, prompted, rules, reverse):
    frames = range(count)
    held = memory(frames, {0, *(t for t in prompted if t < count)})
    place = Place(-1, count, reverse=True) if reverse else Place(count, count)
    assert _plain(recall_newest(held, place, rules)) == _plain(recall(held, place, rules))


@given(
    st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), rules_of_all_kinds, st.sets(st.integers(0, 60))
)
def test_nothing_is_forgotten_that_a_later_frame_looks_at(tracked, prompted, rules, later):
    whole = small = memory(tracked, prompted)
    for frame in range(31, 61):
        small = keep_newest(small, Place(frame - 1, 100), rules)
        expected = recall_newest(whole, Place(frame, 100), rules)
        actual = recall_newest(small, Place(frame, 100), rules)
        assert _plain(actual) == _plain(expected)
        assert all(entry.spatial.numel() for entry, _ in actual.maps)
        if frame in later:
            whole, small = (Memory((*m.entries, memory([frame]).entries[0])) for m in (whole, small))


def test_what_is_kept_for_its_pointer_alone_frees_its_map():
    held = memory(range(1, 12), [0])
    kept = keep_newest(held, Place(11, 100), RULES)
    assert [e.frame for e in kept.entries if e.spatial.numel()] == [0, 9, 10, 11]
    assert [e.frame for e in kept.entries if not e.spatial.numel()] == [7, 8]
    assert all(e.spatial.untyped_storage().nbytes() == 0 for e in kept.entries if not e.spatial.numel())


def test_frames_asked_for_stay_whole():
    kept = keep_newest(memory(range(1, 12), [0]), Place(11, 100), replace(RULES, max_pointers=1), also={3})
    assert [e.frame for e in kept.entries] == [0, 3, 9, 10, 11]


def _plain(found):
    return seen(found.maps), seen(found.pointers), found.reach
