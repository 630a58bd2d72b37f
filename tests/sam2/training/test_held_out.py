"""Held-out videos: scores, baselines, and the division among ranks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from data.held_out import HeldOutVideo
from sam2.evaluation.jf import Scores
from sam2.model.sam2 import SAM2
from sam2.policies import Policy
from sam2.training.held_out import draw, gather, predict, score_baselines, score_video
from sam2.variants import VARIANTS


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    variant = VARIANTS["test"]
    return SAM2(replace(variant, heads=replace(variant.heads, object_bias=3.0)))


def _video(height=48, width=80, frames=5):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (frames, 3, 64, 64), dtype=torch.uint8, generator=generator)
    truth = np.zeros((frames, height, width), np.uint8)
    for t in range(frames):
        truth[t, 5:30, 5 + t : 30 + t] = 1
        truth[t, 20:45, 40 : 60 + t] = 2
    return HeldOutVideo("v", pixels, truth, (7, 3))


def test_a_prediction_has_the_videos_own_size_and_starts_with_the_prompt(model):
    video = _video()
    maps = list(predict(model, video, max_objects=1))
    assert len(maps) == 5 and maps[0].shape == (48, 80)
    overlap = (maps[0] == video.truth[0]).mean()
    assert overlap > 0.97


def test_scores_are_those_of_the_drawn_masks_by_object_id(model):
    video = _video()
    scores, track = score_video(model, video, 16), draw(model, video, 16)
    assert list(scores) == [7, 3] and track.object_ids == (7, 3)
    for o, object_id in enumerate(track.object_ids):
        gt, pred = track.gt[:, o], track.pred[:, o]
        iou = (gt & pred).sum((1, 2)) / (gt | pred).sum((1, 2))
        np.testing.assert_allclose(scores[object_id].j, iou, rtol=1e-12)
    assert track.frames.shape == (5, 48, 80, 3)


def test_videos_are_tracked_under_the_policy_that_is_given(model):
    video, seen = _video(), []

    class Forgetful(Policy):
        def admit(self, path, answer, place):
            seen.append(place.frame)
            return False

    score_video(model, video, 16, Forgetful())
    draw(model, video, 16, Forgetful())
    assert seen == 2 * [1, 1, 2, 2, 3, 3, 4, 4]


def test_tracking_leaves_the_mode_of_every_part_of_the_model_as_it_was(model):
    model.train()
    model.image_encoder.trunk.eval()
    before = [module.training for module in model.modules()]
    assert set(before) == {True, False}
    score_video(model, _video(), 16)
    assert [module.training for module in model.modules()] == before


def test_copying_the_first_mask_is_perfect_where_nothing_moves():
    video = _video()
    still = replace(video, truth=np.repeat(video.truth[:1], 5, axis=0))
    scores = score_baselines([still])["copy first mask"]["v"]
    assert all((s.j == 1).all() and (s.f == 1).all() for s in scores.values())


def _one(value: float) -> dict[int, Scores]:
    return {1: Scores(np.array([value]), np.array([value]))}


def _rank(rank: int, world: int, port: int, queue: mp.SimpleQueue) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    names = ["a", "b", "c"][rank::world]
    merged = gather({name: _one(ord(name)) for name in names})
    try:
        gather({"same": _one(0.0)})
        refused = "no"
    except RuntimeError as error:
        refused = str(error)
    queue.put((rank, {name: float(s[1].j[0]) for name, s in merged.items()}, refused))
    dist.barrier()
    dist.destroy_process_group()


def test_ranks_share_the_videos_and_none_is_counted_twice_or_lost(free_port):
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    mp.spawn(_rank, (2, free_port, queue), nprocs=2, join=True)
    for _ in range(2):
        _, merged, refused = queue.get()
        assert merged == {"a": 97.0, "b": 98.0, "c": 99.0}
        assert "same was scored by two ranks" in refused


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
