"""Copies of a slow folder on the node's own disk, made before a run begins."""

import json
import logging
import multiprocessing
import os

import numpy as np
import pytest
import torch

from data.config import DataConfig
from data.held_out import HeldOut
from data.index import ShardIndex
from data.module import ClipDataModule
from data.quarantine import open_index
from data.storage.access import Access
from tests.data.shards import numbered_videos, to_shards

fork = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Six videos, one in each shard."""
    root = tmp_path_factory.mktemp("shards")
    numbered_videos(root / "sav", 6)
    to_shards(root / "sav", root / "videos")
    return root / "videos"


@pytest.fixture
def access(tmp_path):
    return Access(tmp_path / "cache", stage=True)


def copies(folder):
    return sorted(path for path in folder.iterdir() if path.suffix == ".tar")


def take(root, count=4, **settings):
    data = ClipDataModule(DataConfig(root=root, frames=2, workers=0, **settings), 32, 1)
    return [batch for batch, _ in zip(data.train_dataloader(), range(count), strict=False)]


def test_a_staged_data_set_is_read_from_its_copies_and_gives_the_same_batches(root, tmp_path, caplog):
    expected = take(root)
    with caplog.at_level(logging.INFO):
        found = take(root, stage=True, cache_dir=tmp_path)
    assert f"6 shards of {root} in {tmp_path}" in caplog.text
    for one, other in zip(expected, found, strict=True):
        assert one.sources == other.sources and torch.equal(one.frames, other.frames)


def test_the_original_is_not_read_any_more(root, tmp_path, access):
    place = tmp_path / "slow"
    place.mkdir()
    for path in root.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    index = open_index(place, 0.01, access)
    assert len(copies(access.cache_dir)) == 6
    for path in place.glob("*.tar"):
        path.unlink()
    local = ShardIndex.load(root)
    assert all(index.read(i, "mp4") == local.read(i, "mp4") for i in range(6))


def test_too_little_room_falls_back_to_the_original_and_says_so(root, tmp_path, monkeypatch, caplog):
    expected = take(root)
    found = take(root, stage=True, cache_dir=tmp_path / "a", cache_gb=30e-6)
    assert (
        f"data.stage: {root} stays where it is, as there is no room for it in {tmp_path / 'a'}" in caplog.text
    )
    assert "data.cache_gb=3e-05 is less than the 6.14e-05 GB needed" in caplog.text
    assert torch.equal(found[3].frames, expected[3].frames) and not copies(tmp_path / "a")
    caplog.clear()
    disk = os.statvfs(tmp_path)
    free = os.statvfs_result((disk.f_bsize, 512, disk.f_blocks, 40, 40, *tuple(disk)[5:]))
    monkeypatch.setattr("data.storage.shard_cache.os.statvfs", lambda _: free)
    found = take(root, stage=True, cache_dir=tmp_path / "b")
    assert "6.14e-05 GB needed, 2.05e-05 GB free" in caplog.text
    assert torch.equal(found[3].frames, expected[3].frames) and not copies(tmp_path / "b")


def test_a_disk_that_fills_while_copying_falls_back_too(root, access, monkeypatch, caplog):
    real = os.pwrite

    def full(fd, data, at):
        if len(copies(access.cache_dir)) == 3:
            raise OSError(28, "No space left on device")
        return real(fd, data, at)

    monkeypatch.setattr("data.storage.origin.os.pwrite", full)
    index = open_index(root, 0.01, access)
    assert index.store is None and index.read(5, "mp4")
    assert "stays where it is" in caplog.text and "no room for" in caplog.text
    assert not list(access.cache_dir.glob("*.part"))


def test_processes_of_one_node_share_the_work(root, access):
    def one(path):
        index = open_index(root, 0.01, access)
        written = sum(path.stat().st_uid >= 0 for path in copies(access.cache_dir))
        path.write_text(json.dumps([index.store is not None, written]))

    outs = [access.cache_dir.parent / f"{k}.json" for k in range(2)]
    processes = [fork.Process(target=one, args=(out,)) for out in outs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [json.loads(out.read_text()) for out in outs] == [[True, 6], [True, 6]]


def test_a_second_run_finds_the_copies_of_the_first(root, access, monkeypatch):
    open_index(root, 0.01, access)
    monkeypatch.setattr("data.storage.copied_shards.copy_file", None)
    index = open_index(root, 0.01, access)
    assert index.store is not None and index.read(0, "mp4")


def test_a_lost_shard_costs_its_samples_as_without_staging(root, tmp_path, access, caplog):
    place = tmp_path / "slow"
    place.mkdir()
    for path in root.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    (place / "000003.tar").unlink()
    index = open_index(place, 0.01, access)
    assert "1 of 6 samples will be replaced" in caplog.text
    assert "000003.tar: No such file or directory; restore the shard" in caplog.text
    assert len(copies(access.cache_dir)) == 5 and index.read(2, "mp4")


def test_held_out_videos_are_staged_as_well(root, access):
    staged, plain = HeldOut.open(root, 32, access), HeldOut.open(root, 32)
    assert len(copies(access.cache_dir)) == 6
    assert torch.equal(staged[1].frames, plain[1].frames)
    assert np.array_equal(staged[1].truth, plain[1].truth)
