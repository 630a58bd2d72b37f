import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from data.augment import AugmentConfig
from data.config import Stage
from data.plan import Job, Plan, PlannedDataset
from data.quarantine import SampleError
from data.read import ClipReader, MicroBatches
from data.sample import SamplingConfig
from tests.data.shards import (
    DAMAGES,
    frame_told_by,
    image_shards,
    numbered_videos,
    rewrite,
    self_naming_video,
    to_shards,
)

STILL = AugmentConfig(*(0.0,) * 14)
MOVED = AugmentConfig(0.5, 0.5, 0.5, 1.0, 25.0, 20.0, *(0.0,) * 8)


def reader(index, frames=3, size=48, sampling=None, augment=None, max_objects=3):
    return ClipReader(
        index, frames, max_objects, size, sampling or SamplingConfig(), augment or AugmentConfig()
    )


def batches(index, batch=2, rank=0, world=1, seed=3, **more):
    plan = Plan((PlannedDataset("videos", len(index), index.fingerprint, batch),), seed)
    return MicroBatches(plan, (reader(index, **more),), rank, world)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    numbered_videos(root / "sav", 5)
    return to_shards(root / "sav", root / "out")


@pytest.mark.parametrize("media", ["proxy", "jpeg", "original"])
def test_frame_and_mask_of_a_clip_belong_together_and_are_the_ones_named(tmp_path, media):
    self_naming_video(tmp_path / "sav")
    index = to_shards(tmp_path / "sav", tmp_path / "out", media)
    clips = reader(index, frames=4, size=96, sampling=SamplingConfig(1, 3, 0.5), augment=MOVED)
    seen = set()
    for seed in range(20):
        clip = clips.read(Job(0, 0, seed))
        told = [frame_told_by(clip.frames[t], clip.masks[t, 0]) for t in range(4)]
        assert [picture for picture, _ in told] == [mask for _, mask in told]
        first, last = map(int, re.search(r"frames (\d+) to (\d+)", clip.source).groups())
        assert [k for k, _ in told] == np.linspace(first, last, 4).tolist()
        seen.add((last - first) // 3)
    assert len(seen) >= 5  # strides and directions


def test_a_clip_has_the_shapes_it_promises(videos):
    clip = reader(videos).read(Job(0, 0, 1))
    assert clip.frames.shape == (3, 3, 48, 48) and clip.frames.dtype == torch.uint8
    assert clip.masks.shape == (3, len(clip.object_ids), 48, 48) and clip.masks.dtype == torch.bool
    assert clip.source.startswith('000000.tar, clip "v00", frames ')


def test_images_are_clips_of_one_frame(tmp_path):
    index = image_shards(tmp_path / "png", 2, tmp_path / "out")
    clip = reader(index, frames=1, size=40, augment=STILL, max_objects=64).read(Job(0, 1, 0))
    assert clip.frames.shape == (1, 3, 40, 40) and clip.object_ids == (1, 2)
    assert clip.source == '000000.tar, clip "i01", frame 0'
    assert int(clip.masks[0, 0].sum()) == 110
    assert torch.equal(clip.masks[:, 0], ~clip.masks[:, 1])


def test_a_curriculum_shortens_the_clips_of_the_first_steps(videos):
    grown = replace(batches(videos), stages=(Stage(2, 1), Stage(4, 2)))
    assert [len(grown[step].batch.frames) for step in range(6)] == [1, 1, 2, 2, 3, 3]
    longer = replace(batches(videos), stages=(Stage(9, 8),))
    assert len(longer[0].batch.frames) == 3


def test_the_same_step_gives_the_same_batch_whatever_the_number_of_threads(videos):
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append([batches(videos, size=80)[step].batch for step in range(3)])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.frames, other.frames) and torch.equal(one.masks, other.masks)
        assert torch.equal(one.object_seeds, other.object_seeds) and one.sources == other.sources


def test_another_seed_rank_or_step_gives_another_batch(videos):
    plain = batches(videos)[0].batch
    for other in (batches(videos, seed=4)[0], batches(videos, rank=1, world=2)[0], batches(videos)[1]):
        assert other.batch.object_seeds.tolist() != plain.object_seeds.tolist()


def test_a_reader_survives_pickling(videos):
    source = batches(videos)
    first = source[0].batch
    again = pickle.loads(pickle.dumps(source))[0].batch
    assert torch.equal(first.frames, again.frames)


def test_objects_that_are_too_small_are_not_chosen(videos):
    # the walking square has 48 of 2048 pixels; the other object is a little smaller
    sizes = {k: int(videos[0].visible[k].sum()) for k in (0, 1)}
    assert sizes == {0: 6, 1: 3}
    config = SamplingConfig(min_area=46 / 2048)
    ids = {reader(videos, sampling=config).read(Job(0, 0, seed)).object_ids for seed in range(9)}
    assert ids == {(0,)}
    with pytest.raises(SampleError, match=r'clip "v00", masks\.json: no object is visible'):
        reader(videos, sampling=SamplingConfig(min_area=0.5)).read(Job(0, 0, 0))


def test_too_few_frames_are_named(videos):
    with pytest.raises(SampleError, match=r'000001\.tar, clip "v01", mp4: has 6 annotated frames.*needs 7'):
        reader(videos, frames=7).read(Job(0, 1, 0))


@pytest.mark.usefixtures("within_ten_seconds")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_sample_is_reported_and_replaced(tmp_path, damage):
    change, member, reason = DAMAGES[damage]
    numbered_videos(tmp_path / "sav", 4)
    to_shards(tmp_path / "sav", tmp_path / "out")
    index = rewrite(tmp_path / "out", "v02", change)
    deliveries = [batches(index, batch=4)[step] for step in range(2)]
    for delivery in deliveries:  # an epoch each
        (bad,) = delivery.bad
        assert (bad.shard, bad.key, bad.member, bad.index) == ("000002.tar", "v02", member, 2)
        assert re.search(reason, bad.error)
        assert delivery.batch.skipped == 1
        assert delivery.batch.frames.shape[1] == 4
        assert not any("v02" in source for source in delivery.batch.sources)


@pytest.mark.usefixtures("within_ten_seconds")
def test_a_shard_that_is_cut_off_while_training_runs_is_reported_and_replaced(tmp_path):
    numbered_videos(tmp_path / "sav", 3)
    index = to_shards(tmp_path / "sav", tmp_path / "out")
    shard = tmp_path / "out" / "000001.tar"
    shard.write_bytes(shard.read_bytes()[:1500])
    delivery = batches(index, batch=3)[0]
    assert [bad.key for bad in delivery.bad] == ["v01"]
    assert len(delivery.batch.sources) == 3


@pytest.mark.usefixtures("within_ten_seconds")
def test_when_everything_is_bad_the_reason_comes_back(tmp_path):
    numbered_videos(tmp_path / "sav", 3)
    index = to_shards(tmp_path / "sav", tmp_path / "out")
    for shard in (tmp_path / "out").glob("*.tar"):
        shard.unlink()
    delivery = batches(index, batch=1)[0]
    assert delivery.batch is None and len(delivery.bad) == 3
    assert "3 samples one after the other are bad" in delivery.failure
    assert "restore the shard" in delivery.failure


def test_replacements_are_the_same_for_every_rank_layout(tmp_path):
    numbered_videos(tmp_path / "sav", 5)
    to_shards(tmp_path / "sav", tmp_path / "out")
    index = rewrite(tmp_path / "out", "v03", DAMAGES["empty mp4"][0])

    def sources(world):
        ranks = [batches(index, 4 // world, rank, world) for rank in range(world)]
        return [
            source
            for step in range(5)
            for dealt in zip(*(rank[step].batch.sources for rank in ranks), strict=True)
            for source in dealt
        ]

    assert sources(1) == sources(2) == sources(4)


def test_a_mistake_in_the_code_is_not_taken_for_bad_data(videos):
    broken = replace(reader(videos), size="large")
    source = replace(batches(videos), readers=(broken,))
    with pytest.raises(TypeError):
        source[0]


def test_data_sets_with_clips_of_two_lengths_never_share_a_batch(videos):
    plan = Plan((PlannedDataset("a", 5, "", 1), PlannedDataset("b", 5, "", 1)), 0)
    source = MicroBatches(plan, (reader(videos, frames=2), reader(videos, frames=4)), 0, 1)
    lengths = {plan.dataset(step): source[step].batch.frames.shape[0] for step in range(12)}
    assert lengths == {0: 2, 1: 4}


def test_batches_can_be_put_into_page_locked_memory(videos, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    delivery = pin_memory(batches(videos)[0])  # as DataLoader does it
    assert len(pinned) == 3 and torch.equal(delivery.batch.frames, pinned[0])
    assert pin_memory(replace(delivery, batch=None)).batch is None
