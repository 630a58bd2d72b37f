"""Growth of memory with the length of a video."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from benchmarks.harness import tensor_bytes
from sam2.evaluation.benchmark_run import Follower
from sam2.evaluation.following import Start, follow
from sam2.evaluation.memory_growth import EVERY, LEAST, WARM_UP, MemoryLog, growth
from sam2.held_memory import held_bytes, resident_bytes
from sam2.model.memory_bank import MemoryPolicy, Place
from sam2.policies import Policy, find_policy
from sam2.policies.policy import Path
from sam2.types import Memory
from tests.sam2.tracked import reachable_bytes, square, tiny, video

FRAMES = WARM_UP + 2 * LEAST


@dataclass(frozen=True)
class Hoarder(Policy):
    """Forgets nothing."""

    def evict(self, path: Path, place: Place, rules: MemoryPolicy) -> Memory:
        return path.memory


def log_of(policy: Policy, objects: int = 1, frames: int = FRAMES, last: int = 0) -> MemoryLog:
    """Of a video whose last object comes on frame `last`."""
    model = tiny()
    session = replace(Follower(model), policy=policy).session(model.init_state(video(frames)).frames)
    starts = [Start(k, 0 if k else last, square(0)) for k in range(objects)]
    log = MemoryLog(last)
    for shown in follow(session, starts):
        log.note(shown.frame, session)
        if shown.frame == frames - 1:
            expected = [session.objects, session.tracker, session._features]
            assert held_bytes(*expected) == tensor_bytes(*expected) == reachable_bytes(expected)
    return log


@pytest.mark.parametrize("policy", ["reference", "bounded", "strided", "samurai"])
def test_a_bounded_memory_does_not_grow(policy):
    log = log_of(find_policy(policy))
    assert log.samples["frame"] == [*range(WARM_UP, FRAMES, EVERY)]
    numbers = growth([log.samples])
    assert numbers["state_growth_mb"] == 0 and numbers["growth_videos"] == 1
    assert numbers["device_growth_mb"] is None
    assert (numbers["process_growth_mb"] is None) == (resident_bytes() is None)
    assert min(log.samples["state"]) > 1000


@pytest.mark.parametrize("objects", [1, 2])
def test_a_policy_that_forgets_nothing_grows_by_what_it_remembers_of_a_frame(objects):
    log = log_of(Hoarder(), objects)
    model = tiny()
    heads, cells = model.variant.heads, (model.image_size // 16) ** 2
    entry = 4 * (heads.mem_dim * cells + heads.width + 1)  # map, pointer and object score in float32
    assert growth([log.samples])["state_growth_mb"] == pytest.approx(100 * objects * entry / 1e6)


def test_a_frame_that_stays_with_the_session_shows():
    model = tiny()
    session = Follower(model).session(model.init_state(video(FRAMES)).frames)
    session.leak, log = [], MemoryLog(0)
    for shown in follow(session, [Start(1, 0, square(0))]):
        session.leak.append(shown.logits)
        log.note(shown.frame, session)
    assert growth([log.samples])["state_growth_mb"] == pytest.approx(100 * 48 * 80 * 4 / 1e6)


def test_memory_of_objects_that_come_late_is_no_growth():
    late = log_of(find_policy("reference"), objects=2, last=10)
    assert late.samples["frame"][0] == 10 + WARM_UP
    assert growth([late.samples])["state_growth_mb"] == 0


def samples(frames: list[int], state: list[int], process: list[int | None] | None = None) -> dict:
    nothing: list[int | None] = [None] * len(frames)
    return {"frame": frames, "state": state, "process": process or nothing, "device": nothing}


def test_one_slope_is_fitted_over_all_videos_each_with_a_level_of_its_own():
    frames = [32, 36, 40, 44, 48]
    one = samples(frames, [5_000_000 + 20_000 * t for t in frames])
    two = samples(frames, [90_000_000 + 40_000 * t for t in frames])
    assert growth([one])["state_growth_mb"] == pytest.approx(2)
    assert growth([one, two])["state_growth_mb"] == pytest.approx(3)
    # by a general solver: columns are the frame and each video's level
    long = samples([*range(40, 140, 4)], np.random.default_rng(0).integers(0, 10**6, 25).tolist())
    table = np.zeros((30, 3))
    table[:, 0] = frames + long["frame"]
    table[:5, 1] = table[5:, 2] = 1
    slope = np.linalg.lstsq(table, np.array(one["state"] + long["state"], float))[0][0]
    assert growth([one, long])["state_growth_mb"] == pytest.approx(slope / 1e4)


def test_short_videos_say_nothing():
    short = samples([32, 36, 40], [1, 2, 3])
    empty = samples([], [])
    for videos in ([], [empty], [short, empty]):
        numbers = growth(videos)
        assert numbers.pop("growth_videos") == 0 and set(numbers.values()) == {None}
    enough = samples([32, 36, 40, 44], [7] * 4, [8] * 4)
    assert growth([enough, short]) == {
        "state_growth_mb": 0, "process_growth_mb": 0, "device_growth_mb": None, "growth_videos": 1,
    }  # fmt: skip


@pytest.mark.parametrize("hold", [lambda x: [x], lambda x: {"a": (x, x[:1])}, lambda x: {1: x.numpy()}])
def test_held_memory_counts_what_is_reachable_once(hold):
    whole = torch.zeros(4, 256)
    assert held_bytes(hold(whole)) == held_bytes(hold(whole), whole.view(-1)) == 4096
    assert held_bytes(torch.nn.Linear(8, 8)) == 0


@pytest.mark.skipif(resident_bytes() is None, reason="the system does not say what a process occupies")
def test_resident_memory_counts_what_is_written():
    before = resident_bytes()
    held = np.ones(64 << 20, np.uint8)
    assert resident_bytes() - before > 0.9 * len(held)
