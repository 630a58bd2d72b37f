"""Shards that a command writes, held against the same shards read through their index."""

import shlex
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from data.clip import DataError
from data.config import DataConfig, Stage
from data.index import ShardIndex
from data.module import ClipDataModule
from data.plan import Job
from data.quarantine import SampleError
from data.storage.place import StorageError, Url
from data.stream import StreamBatches, index_of_one
from tests.data.shards import DAMAGES, image_shards, numbered_videos, rewrite, to_shards
from tests.data.test_module import QUIET, Recorder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Nine videos in five shards, and five images."""
    root = tmp_path_factory.mktemp("shards")
    numbered_videos(root / "sav", 9)
    to_shards(root / "sav", root / "videos", shard_bytes=4_000)
    image_shards(root / "png", 5, root / "images")
    return root


def command(folder, last=4):
    return Url(f"pipe:cat {shlex.quote(str(folder))}/{{000000..{last:06d}}}.tar")


def batches(folder, rank=0, world=1, last=4, place=None, **settings):
    config = DataConfig(
        root=place or command(folder, last), **{"frames": 2, "batch": 2, "workers": 0, **settings}
    )
    return StreamBatches(config, 32, 1, rank, world)


def take(stream, count):
    return [delivery for delivery, _ in zip(stream, range(count), strict=False)]


def test_a_streamed_sample_gives_the_clip_that_the_index_gives(root):
    index, stream = ShardIndex.load(root / "videos"), batches(root / "videos")
    place = Url(f"pipe:cat {root}/videos/000002.tar")
    samples = list(batches(root, place=place).one_pass(0, 0, 1))
    assert len(samples) == 2
    for sample in samples:
        one = index_of_one("000002.tar", sample)
        number = next(i for i in range(9) if index[i].key == sample["__key__"])
        streamed = stream.reader(one).read(Job(0, 0, 77))
        indexed = stream.reader(index).read(Job(0, number, 77))
        assert streamed.source == indexed.source and streamed.object_ids == indexed.object_ids
        assert torch.equal(streamed.frames, indexed.frames) and torch.equal(streamed.masks, indexed.masks)
        assert streamed.seed == indexed.seed


@pytest.mark.parametrize("takers", [1, 2, 3, 5, 7])
def test_takers_share_every_sample_of_a_pass_whatever_their_number(root, takers):
    """With fewer shards than takers too; shards have two samples and one."""
    stream = batches(root / "videos")
    for key in range(3):
        counts = Counter(s["__key__"] for t in range(takers) for s in stream.one_pass(key, t, takers))
        assert counts == Counter({f"v{k:02d}": 1 for k in range(9)})


def test_the_stream_never_ends_and_every_pass_has_another_order(root):
    samples = batches(root / "videos").samples(0, 1)
    keys = [next(samples)[1]["__key__"] for _ in range(27)]
    passes = [keys[k : k + 9] for k in (0, 9, 18)]
    assert all(sorted(part) == sorted(passes[0]) for part in passes)
    assert passes[0] != passes[1] != passes[2]
    again = batches(root / "videos").samples(0, 1)
    assert keys == [next(again)[1]["__key__"] for _ in range(27)]


@pytest.mark.parametrize("workers", [0, 2])
def test_it_trains_with_a_fixed_number_of_steps(root, workers, caplog):
    config = DataConfig(root=command(root / "videos"), frames=2, batch=2, workers=workers)
    data, recorder = ClipDataModule(config, 32, 1), Recorder()
    Trainer(**QUIET, max_steps=9).fit(recorder, datamodule=data)
    assert [step for step, *_ in recorder.seen] == list(range(9))
    assert "samples may come again" not in caplog.text


def test_a_continued_run_says_that_its_place_is_approximate(root, caplog):
    config = DataConfig(root=command(root / "videos"), frames=2, batch=2, workers=0)
    data = ClipDataModule(config, 32, 1)
    state = data.state_dict()
    again = ClipDataModule(config, 32, 1)
    again.load_state_dict(state | {"consumed": 4})
    found = [batch for batch, _ in zip(again.train_dataloader(), range(2), strict=False)]
    assert [batch.step for batch in found] == [4, 5]
    assert "the run goes on with a new pass over it: samples may come again" in caplog.text
    other = ClipDataModule(config, 32, 2)
    with pytest.raises(DataError, match="other data: seed was 1, is 2"):
        other.load_state_dict(state)


def test_ranks_with_uneven_shares_make_as_many_batches(root):
    for rank in range(3):
        found = take(batches(root / "videos", rank, 3), 12)
        assert len(found) == 12 and all(d.batch is not None and len(d.batch.sources) == 2 for d in found)


def test_images_are_clips_of_one_frame(root):
    (found,) = take(batches(root / "images", last=0), 1)
    assert found.batch.frames.shape == (1, 2, 3, 32, 32)


def test_images_and_videos_in_one_stream_are_refused(root):
    place = Url(f"pipe:cat {root}/{{images,videos}}/000000.tar")
    failures = [delivery.failure for delivery in take(batches(root, place=place, batch=7), 1)]
    assert "holds images and videos" in failures[0]


def test_bad_samples_are_counted_and_others_come_instead(tmp_path):
    numbered_videos(tmp_path / "sav", 4)
    to_shards(tmp_path / "sav", tmp_path / "videos")
    rewrite(tmp_path / "videos", "v01", DAMAGES["truncated mp4"][0])
    found = take(batches(tmp_path / "videos", last=3), 4)
    bad = [bad for delivery in found for bad in delivery.bad]
    assert {(row.key, row.member) for row in bad} == {("v01", "mp4")}
    assert all(len(delivery.batch.sources) == 2 for delivery in found)
    for path in (tmp_path / "videos").glob("*.tar"):
        rewrite(tmp_path / "videos", f"v{int(path.stem):02d}", DAMAGES["truncated mp4"][0])
    assert "9 samples one after the other are bad" in take(batches(tmp_path / "videos", last=3), 1)[0].failure


def test_a_sample_without_its_members_is_bad(root):
    place = Url(f"pipe:cat {root}/videos/000000.tar")
    sample = next(s for s in batches(root, place=place).one_pass(0, 0, 1) if s["__key__"] == "v00")
    for member in ("meta.json", "masks.json", "mp4"):
        with pytest.raises(SampleError, match=rf'^0\.tar, clip "v00", meta\.json: member {member} missing'):
            index_of_one("0.tar", {k: v for k, v in sample.items() if k != member})


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("exit 3", "exit 3|ReadError"),
        ("cat FIRST; exit 3", "exit 3"),
        ("head -c 3000 FIRST", "cut off"),
        ("true", "ReadError"),
    ],
)
def test_a_command_that_fails_stops_the_run_and_names_itself(root, line, cause):
    line = line.replace("FIRST", str(root / "videos" / "000000.tar"))
    with pytest.raises(StorageError, match=rf"^pipe:{line}: failed, .*({cause}).*run the command by hand"):
        for _ in zip(batches(root, place=Url(f"pipe:{line}")).samples(0, 1), range(3), strict=False):
            pass


def test_an_empty_share_does_not_hang(root, tmp_path):
    code = "import tarfile,sys; tarfile.open(fileobj=sys.stdout.buffer, mode='w|').close()"
    place = Url(f"pipe:{sys.executable} -c {shlex.quote(code)}")
    assert "no sample in 8 passes; see that it writes some" in take(batches(root, place=place), 1)[0].failure
    crowd = batches(root / "videos", rank=16, world=40)
    assert "gave one of 40 processes no sample in 8 passes" in take(crowd, 1)[0].failure


def test_epochs_of_a_stream_are_refused(root):
    data = ClipDataModule(DataConfig(root=command(root / "videos")), 32, 1)
    with pytest.raises(
        DataError, match="has no known length; set trainer.max_steps instead of trainer.epochs"
    ):
        data.plan.steps_per_epoch(1)
    assert data.plan.fingerprint(2) != data.plan.fingerprint(1)


def test_a_stream_has_no_index(root, tmp_path):
    with pytest.raises(DataError, match="exclude needs an index"):
        DataConfig(root=command(root / "videos"), exclude=(tmp_path,))
    with pytest.raises(DataError, match="a command has no index"):
        ShardIndex.load(command(root / "videos"))


def test_a_stage_shortens_streamed_clips(root):
    found = take(batches(root / "videos", frames=4, curriculum=(Stage(2, 2),)), 4)
    assert [delivery.batch.frames.shape[0] for delivery in found] == [2, 2, 4, 4]
    assert np.isfinite(found[0].batch.frames.float().numpy()).all()
