"""The newest of what is remembered, however long ago: recall for policies that do not remember every frame.

The reference looks at fixed distances (the frame before, the one before that ...), and a frame that is not remembered
leaves its place empty. Here the newest remembered frames move up. Where every frame is remembered both are the same.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from itertools import islice

from sam2.model.memory_bank import MemoryPolicy, Place, Recall, closest_prompted, recall
from sam2.types import Entry, Memory


def recall_newest(memory: Memory, place: Place, rules: MemoryPolicy, left_out: Container[int] = ()) -> Recall:
    """What the frame at `place` looks at: prompted frames, and the newest remembered ones whatever their distance.

    The k-th newest has the time code of the frame k steps back; with `rules.stride` only the newest and multiples of
    the stride count. Pointers stay with the reference's rule, at true distances.

    Args:
        memory: of one object.
        place: of the frame.
        rules: the numbers of a step.
        left_out: tracked frames that are not looked at.
    """
    if left_out:
        memory = Memory(tuple(e for e in memory.entries if e.is_prompted or e.frame not in left_out))
    chosen = {entry.frame for entry in closest_prompted(memory, place.frame, rules.max_prompted)}
    found = recall(memory, place, rules)
    maps = [(entry, row) for entry, row in found.maps if entry.frame in chosen]
    recent = list(enumerate(newest(memory, place, rules.slots - 1, rules.stride)))
    maps += [(entry, row) for row, entry in reversed(recent) if entry.frame not in chosen]
    return found._replace(maps=maps)


def newest(memory: Memory, place: Place, count: int, stride: int = 1) -> list[Entry]:
    """At most `count` remembered frames on the side already seen, the newest first; see `recall_newest`."""
    seen = _seen(memory, place)
    return list(islice((e for k, e in enumerate(seen) if k == 0 or e.frame % stride == 0), max(count, 0)))


def keep_newest(
    memory: Memory, place: Place, rules: MemoryPolicy, also: Container[int] = (), pointers: int | None = None
) -> Memory:
    """What `recall_newest` can still find on frames after `place`, going forward.

    Frames within reach of pointers alone lose their map.

    Args:
        memory: of one object.
        place: of the latest frame.
        rules: the numbers of a step.
        also: tracked frames that stay whole.
        pointers: how far back pointers reach, if less far than `rules` say.
    """
    following = Place(place.frame + 1, place.frames)
    whole = {entry.frame for entry in newest(memory, following, rules.slots - 1, rules.stride)}
    oldest = following.frame - (rules.max_pointers if pointers is None else pointers) + 1
    kept = []
    for entry in memory.entries:
        if entry.is_prompted or entry.frame in whole or entry.frame in also:
            kept.append(entry)
        elif entry.frame >= oldest:
            kept.append(entry.without_map())
    return Memory(tuple(kept))


def _seen(memory: Memory, place: Place) -> Iterator[Entry]:
    """Remembered frames on the side already seen, the newest first."""
    if place.reverse:
        return (entry for entry in memory.entries if entry.frame > place.frame)
    return (entry for entry in reversed(memory.entries) if entry.frame < place.frame)
