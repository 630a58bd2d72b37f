"""Several accounts of what happened; the one that fits best over time is believed."""

from __future__ import annotations

import math

import pytest
import torch

from sam2.model.memory_bank import MemoryPolicy, Recall
from sam2.policies import REFERENCE
from sam2.policies.sam2long import SAM2Long
from tests.sam2.policies.script import Player, Says, edges, steady

OBJECT, WRONG, OTHER = (4, 4, 11, 11), (20, 4, 27, 11), (12, 20, 19, 27)


def forked(frame: int, recall: Recall) -> Says:
    """On frame 3 a wrong candidate looks a little better; who remembers it sees badly from then on."""
    if frame == 3:
        return Says([WRONG, OBJECT, OTHER], [0.85, 0.80, 0.1])
    if frame < 3 or (WRONG[0] not in edges(recall) and OTHER[0] not in edges(recall)):
        return Says([OBJECT, WRONG, OTHER], [0.9, 0.2, 0.1])
    return Says([WRONG, OTHER, OBJECT], [0.5, 0.3, 0.05])


def test_a_fork_is_kept_until_time_tells_and_the_wrong_account_is_pruned():
    assert Player(forked, REFERENCE).play(range(1, 8))[2:] == [WRONG[0]] * 5
    player = Player(forked, SAM2Long())
    assert player.play([1, 2, 3]) == [OBJECT[0], OBJECT[0], WRONG[0]]
    assert len(player.track.paths) == 3
    assert player.play(range(4, 12)) == [OBJECT[0]] * 8
    held = [edges_of(path) for path in player.track.paths]
    assert held[0] == {OBJECT[0]} and not any(WRONG[0] in edges for edges in held)


def edges_of(path) -> set[int]:
    return {int(e.pointer[0, 1]) for e in path.memory.entries if e.spatial.numel() and not e.is_prompted}


def test_scores_are_sums_of_log_ious_relative_to_the_best():
    player = Player(forked, SAM2Long(paths=2))
    player.play([1, 2, 3])
    scores = [path.state.score for path in player.track.paths]
    # each path forks at every frame: both accounts of frame 3 have seen 0.9 twice
    assert scores == pytest.approx([0.0, math.log(0.80 / 0.85)])
    player.step(4)
    best, second = (path.state.score for path in player.track.paths)
    assert best == 0 and second == pytest.approx(math.log(0.85 * 0.5) - math.log(0.80 * 0.9))


def doubtful(visible: float):
    def script(frame: int, recall: Recall) -> Says:
        if frame == 1:
            return Says([OBJECT, WRONG, OTHER], [0.9, 0.6, 0.1], 5.0)
        if WRONG[0] in edges(recall):
            return Says([WRONG, OTHER, OBJECT], [0.5, 0.1, 0.05], visible)
        return Says([OBJECT, WRONG, OTHER], [0.902, 0.901, 0.898], visible)

    return script


def test_on_uncertain_frames_unlike_guesses_are_preferred():
    certain, uncertain = Player(doubtful(5.0), SAM2Long()), Player(doubtful(1.5), SAM2Long())
    certain.play([1, 2]), uncertain.play([1, 2])
    assert [p.state.iou for p in certain.track.paths] == pytest.approx([0.902, 0.901, 0.898])
    # the others of the best path's guesses are alike in the second decimal; the second account survives
    assert [p.state.iou for p in uncertain.track.paths] == pytest.approx([0.902, 0.5, 0.1])


def test_where_the_object_is_hidden_a_path_does_not_fork():
    player = Player(lambda t, r: Says([OBJECT, WRONG, OTHER], [0.9, 0.8, 0.7], visible=-3.0), SAM2Long())
    player.play(range(1, 5))
    assert len(player.track.paths) == 1 and player.remembered == [0]


def test_frames_seen_badly_are_not_remembered_by_that_path():
    player = Player(lambda t, r: Says([OBJECT], [0.25 if t % 2 else 0.9]), SAM2Long())
    player.play(range(1, 9))
    assert player.remembered == [0, 2, 4, 6, 8]


def test_recent_maps_are_weighted_by_the_rank_of_their_object_score():
    visible = {1: 1.0, 2: 5.0, 3: 3.0}
    player = Player(lambda t, r: Says([OBJECT], [0.9], visible.get(t, 4.0)), SAM2Long(paths=1))
    player.play(range(1, 5))
    [found] = player.model.looked_at[4]
    weights = {entry.frame: float(entry.spatial.mean()) / max(entry.frame, 1) for entry, _ in found.maps}
    assert weights == pytest.approx({0: 0.0, 1: 0.95, 2: 1.05, 3: 1.0})
    held = player.track.best.memory.get(2)
    assert held is not None and torch.equal(held.spatial, torch.full_like(held.spatial, 2.0)), (
        "only what is looked at"
    )


def test_a_person_ends_all_doubt():
    player = Player(forked, SAM2Long())
    player.play([1, 2, 3])
    player.prompt(4, OTHER)
    assert len(player.track.paths) == 1 and player.track.best.state.score == 0


def test_after_a_jump_in_time_one_account_goes_on():
    player = Player(forked, SAM2Long(), is_stream=False)
    player.play([1, 2, 3])
    assert len(player.track.paths) == 3
    player.step(9)
    assert len(player.model.looked_at[9]) == 3, "they were asked before it was known"
    assert len({id(p.memory.get(3)) for p in player.track.paths}) == 1


def test_an_iou_of_zero_does_not_rule_a_path_out_for_ever():
    player = Player(lambda t, r: Says([OBJECT], [0.0 if t == 2 else 0.9]), SAM2Long())
    player.play(range(1, 4))
    assert math.isfinite(player.track.best.state.score)


def test_accounts_share_what_they_have_in_common():
    """Entries of paths that have died do not live on in the batches that they were made in."""
    rules = MemoryPolicy(slots=4, max_pointers=6)
    one, three = (Player(steady, SAM2Long(paths=n), rules=rules) for n in (1, 3))
    one.play(range(1, 40)), three.play(range(1, 40))
    entries = {id(e.spatial) for path in three.track.paths for e in path.memory.entries if e.spatial.numel()}
    assert len(entries) <= len(one.remembered) + 3, "they differ in the latest frame or two"
    assert three.bytes < 1.8 * one.bytes


def test_the_memory_of_an_endless_stream_stays_the_same():
    player = Player(steady, SAM2Long(), rules=MemoryPolicy(slots=4, max_pointers=6))
    player.play(range(1, 60))
    early = player.bytes
    player.play(range(60, 600))
    assert player.bytes == early and len(player.track.paths) == 3
