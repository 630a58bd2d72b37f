"""Shards behind an address: a real HTTP server and a real S3-compatible one on loopback, which fail at times."""

import errno
import json
import logging
import multiprocessing
import os
import pickle
import sys
import time

import numpy as np
import pytest
import torch

from data.clip import DataError
from data.config import DataConfig, DatasetConfig
from data.decode import decode_frames, read_masks
from data.held_out import HeldOut
from data.index import INDEX_NAME, ShardIndex
from data.module import ClipDataModule
from data.order import Blocks
from data.quarantine import SampleError
from data.storage.access import Access, default_cache_dir
from data.storage.place import StorageError, Url, join, shown
from data.storage.remote import Remote
from tests.data.servers import FileServer
from tests.data.shards import numbered_videos, to_shards

fork = multiprocessing.get_context("fork")  # as the workers of a DataLoader


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eight videos in four shards."""
    root = tmp_path_factory.mktemp("shards")
    numbered_videos(root / "sav", 8)
    index = to_shards(root / "sav", root / "videos", shard_bytes=4_000)
    assert len(index.columns.shard_names) == 4
    return root / "videos"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(root):
    with FileServer(root).running() as server:
        yield server


@pytest.fixture
def access(tmp_path):
    return Access(tmp_path / "cache", pause_s=0.01, timeout_s=1.0, attempts=4)


def same_bytes(one, other):
    return all(
        one.read(i, member) == other.read(i, member) for i in range(len(one)) for member in one[i].members
    )


def copies(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".tar")


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("remote", ["download", "range"])
def test_every_byte_is_that_of_the_folder(root, access, has_ranges, remote, monkeypatch):
    monkeypatch.setattr("data.storage.remote.CHUNK", 4096)
    with FileServer(root, has_ranges).running() as server:
        index = ShardIndex.load(server.url, Access(**{**vars(access), "remote": remote}))
        local = ShardIndex.load(root)
        assert index.fingerprint == local.fingerprint
        assert same_bytes(index, local)
        for i in (0, 5):
            assert np.array_equal(decode_frames(index, i, [0, 3]), decode_frames(local, i, [0, 3]))
            assert read_masks(index, i) == read_masks(local, i)
        is_copied = remote == "download" or not has_ranges
        assert len(copies(access.cache_dir)) == (4 if is_copied else 0)


def test_a_shard_is_asked_for_once_and_not_before_a_sample_of_it_is_wanted(server, access):
    index = ShardIndex.load(server.url, access)
    assert not [name for _, name, _ in server.requests if name.endswith(".tar")]
    for _ in range(3):
        index.read(0, "mp4")
        index.read(2, "meta.json")
    assert [server.gets(f"00000{k}.tar") for k in range(4)] == [1, 1, 0, 0]
    again = ShardIndex.load(server.url, access)
    assert again.read(1, "mp4") and server.gets("000000.tar") == 1 and server.gets(INDEX_NAME) == 1


def test_ranges_read_no_more_than_is_wanted(server, access, root):
    index = ShardIndex.load(server.url, Access(**{**vars(access), "remote": "range"}))
    index.read(3, "mp4")
    asked = [span for method, name, span in server.requests if (method, name) == ("GET", index[3].shard)]
    ranges = {(int(first), int(last) + 1) for first, last in asked}
    spans = index[3].members
    assert ranges == {(o, o + n) for o, n in (spans["meta.json"], spans["mp4"])}


def test_batches_are_those_of_the_folder_whatever_the_workers(root, server, tmp_path):
    def take(place, workers, **more):
        config = DataConfig(
            root=place, frames=2, batch=2, workers=workers, cache_dir=tmp_path / f"c{len(more)}", **more
        )
        return [
            batch
            for batch, _ in zip(ClipDataModule(config, 32, 1).train_dataloader(), range(6), strict=False)
        ]

    expected = take(root, 0)
    for workers, more in ((0, {"remote": "range"}), (2, {}), (1, {"remote": "download", "stage": True})):
        for one, other in zip(expected, take(Url(server.url), workers, **more), strict=True):
            assert one.sources == other.sources
            assert torch.equal(one.frames, other.frames) and torch.equal(one.masks, other.masks)
            assert torch.equal(one.object_seeds, other.object_seeds)


@pytest.mark.parametrize("fault", [503, 429, "cut", "short", "slow", "stall"])
@pytest.mark.parametrize("has_ranges", [True, False])
def test_faults_that_pass_are_survived(root, access, fault, has_ranges, monkeypatch, caplog):
    monkeypatch.setattr("data.storage.remote.CHUNK", 6000)
    with FileServer(root, has_ranges, stall_s=1.5).running() as server:
        # Without ranges, two requests tell that.
        server.faults["000001.tar"] = ([] if has_ranges else [None, None]) + [fault] * (
            1 if fault == "stall" else 2
        )
        index = ShardIndex.load(server.url, access)
        assert same_bytes(index, ShardIndex.load(root))
        assert index.store.origin.retries == {"slow": 0, "stall": 1}.get(fault, 2)
    warned = [r.getMessage() for r in caplog.records if "attempt" in r.getMessage()]
    assert len(warned) == index.store.origin.retries
    assert all("000001.tar: attempt" in text and "of 4 failed" in text for text in warned)


@pytest.mark.parametrize("remote", ["download", "range"])
def test_exhausted_attempts_name_address_number_cause_and_remedy(server, access, remote):
    index = ShardIndex.load(server.url, Access(**{**vars(access), "remote": remote}))
    server.always["000000.tar"] = 503
    with pytest.raises(
        StorageError,
        match=rf"^{server.url}/000000\.tar: could not be read in 4 attempts; the last: .*503.*; see that the server "
        r"can be reached from here.*data\.attempts",
    ):
        decode_frames(index, 0, [0])
    assert server.gets("000000.tar") == 4
    assert not copies(access.cache_dir)
    assert index.read(2, "mp4")


def test_a_server_that_is_not_there_stops_the_run_and_blames_no_sample(root, tmp_path, access):
    with FileServer(root).running() as server:
        index = ShardIndex.load(server.url, access)
    with pytest.raises(StorageError, match="in 4 attempts"):
        read_masks(index, 0)
    with pytest.raises(StorageError, match=rf"{INDEX_NAME}: could not be read in 4 attempts"):
        ShardIndex.load(server.url, access)


def test_credentials_are_asked_for_once_and_never_shown(server, access):
    index = ShardIndex.load(server.url.replace("http://", "http://me:secret@") + "?sig=hidden", access)
    assert index.read(0, "mp4")
    server.always["000001.tar"] = 403
    with pytest.raises(StorageError, match=r"000001\.tar: refused with status 403 .*credentials") as error:
        index.read(2, "mp4")
    assert server.gets("000001.tar") == 1
    assert "secret" not in str(error.value) and "hidden" not in str(error.value)


def damage(server, index):
    """Where "corrupt" strikes: in the video of v05."""
    offset, size = index[5].members["mp4"]
    assert index[5].shard == "000002.tar"
    server.corrupt_at["000002.tar"] = offset + size // 2


@pytest.mark.parametrize("remote", ["download", "range"])
def test_a_byte_that_was_damaged_on_the_way_is_fetched_again(root, server, access, remote, caplog):
    index = ShardIndex.load(server.url, Access(**{**vars(access), "remote": remote}))
    damage(server, index)
    i, member = 5, "mp4"
    server.faults["000002.tar"] = ["corrupt"] * (1 if remote == "download" else 2)
    assert index.read(i, member) == ShardIndex.load(root).read(i, member)
    assert "does not have its sha256 after it was read once" in caplog.text


@pytest.mark.parametrize("remote", ["download", "range"])
def test_a_byte_that_is_damaged_at_the_source_costs_one_sample(root, server, access, remote):
    server.always["000002.tar"] = "corrupt"
    index = ShardIndex.load(server.url, Access(**{**vars(access), "remote": remote}))
    damage(server, index)
    local, bad = ShardIndex.load(root), []
    for i in range(8):
        try:
            same = np.array_equal(decode_frames(index, i, [1]), decode_frames(local, i, [1]))
            assert same and read_masks(index, i) == read_masks(local, i)
        except SampleError as error:
            bad.append(error)
    (error,) = bad
    assert error.shard == "000002.tar" and error.key == "v05" and error.member == "mp4"
    assert str(error) == (
        '000002.tar, clip "v05", mp4: is damaged: does not have its sha256 after it was read twice; restore the shard'
    )


def test_each_part_of_a_sample_is_checked(root, tmp_path, access):
    place = tmp_path / "copy"
    place.mkdir()
    index = ShardIndex.load(root)
    for name in (INDEX_NAME, "000000.tar", "000001.tar", "000002.tar", "000003.tar"):
        (place / name).write_bytes((root / name).read_bytes())
    for i, member in ((0, "meta.json"), (2, "masks.json"), (4, "mp4")):
        with (place / index[i].shard).open("r+b") as file:
            file.seek(index[i].members[member][0] + 40)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
    with FileServer(place).running() as server:
        remote = ShardIndex.load(server.url, access)
        for i, member in ((0, "meta.json"), (2, "masks.json"), (4, "mp4")):
            with pytest.raises(DataError, match=rf'"v0{i}", {member}: is damaged'):
                remote.read(i, member)
            assert remote.read(i + 1, member) == index.read(i + 1, member)


def test_damage_is_listed_and_the_run_goes_on(root, server, tmp_path):
    damage(server, ShardIndex.load(root))
    server.always["000002.tar"] = "corrupt"
    config = DataConfig(root=Url(server.url), frames=2, batch=2, workers=1, cache_dir=tmp_path / "cache")
    data = ClipDataModule(config, 32, 1, tmp_path / "run")
    batches = [batch for batch, _ in zip(data.train_dataloader(), range(8), strict=False)]
    assert sum(batch.skipped for batch in batches) == 2  # two epochs
    (row,) = [
        json.loads(line) for line in (tmp_path / "run" / "quarantine-rank0.jsonl").read_text().splitlines()
    ]
    assert (row["dataset"], row["key"], row["member"]) == (server.url, "v05", "mp4")


@pytest.mark.parametrize("remote", ["download", "range"])
def test_a_shard_that_is_gone_or_of_another_size_is_a_bad_sample(root, tmp_path, access, remote):
    place = tmp_path / "copy"
    place.mkdir()
    for name in (INDEX_NAME, "000000.tar", "000001.tar", "000002.tar"):
        (place / name).write_bytes((root / name).read_bytes())
    os.truncate(place / "000000.tar", 700)
    with FileServer(place).running() as server:
        index = ShardIndex.load(server.url, Access(**{**vars(access), "remote": remote}))
        with pytest.raises(SampleError, match=r"000000\.tar: has \d+ bytes, its index says \d+"):
            read_masks(index, 0)
        with pytest.raises(SampleError, match=r"000003\.tar: there is no such file; restore it"):
            read_masks(index, 7)
        assert read_masks(index, 2)


def test_an_index_that_was_damaged_on_the_way_is_fetched_again(root, server, access):
    server.faults[INDEX_NAME] = ["corrupt"]
    assert ShardIndex.load(server.url, access).fingerprint == ShardIndex.load(root).fingerprint
    assert server.gets(INDEX_NAME) == 2
    server.always[INDEX_NAME] = "corrupt"
    other = Access(access.cache_dir / "other")
    with pytest.raises(DataError, match=rf"^{server.url}/{INDEX_NAME}: .*make it again"):
        ShardIndex.load(server.url, other)


def test_without_an_index_the_message_says_what_is_missing(tmp_path, access):
    with FileServer(tmp_path).running() as server:
        with pytest.raises(DataError, match=rf"^{server.url}/{INDEX_NAME}: there is no such file"):
            ShardIndex.load(server.url, access)


def test_an_index_of_an_earlier_version_still_finds_damage_by_the_hashes_in_meta(root, tmp_path, access):
    place = tmp_path / "old"
    place.mkdir()
    for path in root.glob("*.tar"):
        (place / path.name).write_bytes(path.read_bytes())
    stored = dict(np.load(root / INDEX_NAME))
    assert stored.pop("meta_sha256").shape == (8, 32)
    np.savez(place / INDEX_NAME, **stored)
    assert ShardIndex.load(place).fingerprint == ShardIndex.load(root).fingerprint
    with FileServer(place).running() as server:
        server.always["000002.tar"] = "corrupt"
        index = ShardIndex.load(server.url, access)
        damage(server, index)
        assert same_bytes(index.__class__(root, index.columns), ShardIndex.load(root))
        with pytest.raises(DataError, match='"v05", mp4: is damaged'):
            index.read(5, "mp4")


def test_a_new_conversion_at_the_same_address_is_read_and_not_the_old_copy(tmp_path, access):
    place = tmp_path / "shards"
    with FileServer(place).running() as server:
        numbered_videos(tmp_path / "one", 2)
        first = to_shards(tmp_path / "one", place)
        assert same_bytes(ShardIndex.load(server.url, access), first)
        for path in place.iterdir():
            path.unlink()
        numbered_videos(tmp_path / "two", 2, frames=8)
        second = to_shards(tmp_path / "two", place)
        assert second.fingerprint != first.fingerprint
        assert same_bytes(ShardIndex.load(server.url, access), second)


def test_equal_names_in_two_places_stay_apart(tmp_path, access):
    """Though the server gives everything the same tag, and indexes have the same size."""
    numbered_videos(tmp_path / "sav", 2)
    local = {
        media: to_shards(tmp_path / "sav", tmp_path / "all" / media, media) for media in ("proxy", "jpeg")
    }
    sizes = {(tmp_path / "all" / media / INDEX_NAME).stat().st_size for media in local}
    assert len(sizes) == 1
    with FileServer(tmp_path / "all").running() as server:
        server.tag = "same"
        indexes = {media: ShardIndex.load(f"{server.url}/{media}/", access) for media in local}
        for media, index in indexes.items():
            assert same_bytes(index, local[media])
    assert len(copies(access.cache_dir)) == 4


def read_all(url, access):
    index = ShardIndex.load(url, access)
    total = sum(len(index.read(i, "mp4")) for i in range(len(index)))
    os._exit(0 if total == index.columns.sizes[:, 2].sum() else 1)


def test_processes_of_one_node_copy_a_shard_once(server, access):
    for name in ("000000.tar", "000001.tar"):
        server.always[name] = "slow"
    processes = [fork.Process(target=read_all, args=(server.url, access)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [server.gets(f"00000{k}.tar") for k in range(4)] == [1, 1, 1, 1]
    assert server.gets(INDEX_NAME) == 1


def test_what_was_killed_while_copying_has_no_name_and_is_copied_anew(root, access):
    with FileServer(root, stall_s=30).running() as server:
        server.faults["000000.tar"] = ["stall"]
        process = fork.Process(target=read_all, args=(server.url, Access(access.cache_dir)))
        process.start()
        end = time.monotonic() + 30
        while not server.gets("000000.tar"):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert not copies(access.cache_dir) and list(access.cache_dir.glob("*.tar.part"))
        process.kill()
        process.join()
        assert not copies(access.cache_dir)
        index = ShardIndex.load(server.url, access)
        assert same_bytes(index, ShardIndex.load(root))
        assert not list(access.cache_dir.glob("*.part"))


def test_copies_stay_within_their_budget_and_the_least_used_goes(root, server, access):
    sizes = ShardIndex.load(root).columns.shard_sizes
    small = Access(
        **{**vars(access), "cache_gb": (2.5 * sizes.max()) / 1e9 + (root / INDEX_NAME).stat().st_size / 1e9}
    )
    index = ShardIndex.load(server.url, small)

    def total():
        return sum(path.stat().st_size for path in access.cache_dir.iterdir())

    for i in (0, 2, 0, 4, 0, 6, 0):  # shard 0 is always among the last two
        assert index.read(i, "mp4")
        assert total() <= small.cache_gb * 1e9
    assert [server.gets(f"00000{k}.tar") for k in range(4)] == [1, 1, 1, 1]
    index.read(2, "mp4")
    assert server.gets("000001.tar") == 2


def test_what_another_process_has_open_is_not_evicted(root, server, access, caplog):
    sizes = ShardIndex.load(root).columns.shard_sizes
    small = Access(**{**vars(access), "cache_gb": 1.2 * sizes.max() / 1e9})
    index = ShardIndex.load(server.url, small)
    index.read(0, "mp4")
    other = ShardIndex.load(server.url, small)
    other.read(2, "mp4")
    assert len(copies(access.cache_dir)) == 2 and "all of it is in use" in caplog.text
    index.read(1, "mp4")
    assert server.gets("000000.tar") == 1
    index.read(4, "mp4")  # lets go of shard 0
    assert len(copies(access.cache_dir)) == 2 and server.gets("000000.tar") == 1
    with pytest.raises(DataError, match=r"data\.cache_gb=.* is less than the largest shard"):
        ShardIndex.load(server.url, Access(**{**vars(access), "cache_gb": 1e-6}))


def test_a_full_disk_is_said_with_the_remedy(server, access, monkeypatch):
    index = ShardIndex.load(server.url, access)
    monkeypatch.setattr("data.storage.shard_cache.ShardCache._free", lambda *_: -(10**9))
    with pytest.raises(StorageError, match=r"cache: no room for .* GB.*data\.cache_dir"):
        index.read(0, "mp4")
    assert not list(access.cache_dir.glob("*.part"))


def test_a_file_system_without_locks_is_said_with_the_remedy(server, access, monkeypatch):
    def flock(fd, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("data.storage.shard_cache.fcntl.flock", flock)
    with pytest.raises(StorageError, match=r"cache: its file system has no locks .*data\.cache_dir"):
        ShardIndex.load(server.url, access)


def test_the_next_window_of_shards_is_copied_ahead(server, tmp_path):
    config = DataConfig(
        root=Url(server.url), frames=2, workers=0, shuffle="shards", shuffle_window=1, cache_dir=tmp_path
    )
    data = ClipDataModule(config, 32, 1)
    batches = iter(data.train_dataloader())
    next(batches)
    now, following = data.plan.shards_ahead(0, 1)
    end = time.monotonic() + 10
    while len(copies(tmp_path)) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.1)
    assert {k for k in range(4) if server.gets(f"00000{k}.tar")} == {now, following}
    assert next(batches).sources[0].startswith(f"00000{now}.tar")
    assert next(batches).sources[0].startswith(f"00000{following}.tar")


def test_windows_follow_each_other_over_the_end_of_an_epoch():
    config = DataConfig(root="x", shuffle="shards")
    assert config.access == Access()
    blocks = Blocks((2, 1, 3, 2, 1), 2)
    order = list(dict.fromkeys(_shard_of(blocks, blocks.sample(k, 5)) for k in range(9)))
    assert set(blocks.ahead(0, 5, 6)[:2]) == set(order[:2]) and set(blocks.ahead(0, 5, 6)[2:]) == set(
        order[2:4]
    )
    following = {_shard_of(blocks, blocks.sample(k, 6)) for k in range(2)}
    last = blocks.ahead(8, 5, 6)
    assert last[0] == order[4] and following <= set(last)


def _shard_of(blocks, sample):
    return int(np.searchsorted(np.cumsum(blocks.shard_sizes), sample, side="right"))


def test_a_budget_below_two_windows_does_not_make_copying_ahead_evict_what_is_read(root, server, access):
    sizes = ShardIndex.load(root).columns.shard_sizes
    small = Access(**{**vars(access), "cache_gb": 2.9 * sizes.max() / 1e9})
    index = ShardIndex.load(server.url, small)
    index.ahead((0, 1, 2, 3))
    index.store._thread.join(10)
    assert len(copies(access.cache_dir)) == 2
    assert [server.gets(f"00000{k}.tar") for k in range(4)] == [1, 1, 0, 0]


def test_mixing_more_than_the_cache_holds_is_warned_of(server, tmp_path, caplog):
    config = DataConfig(root=Url(server.url), frames=2, workers=0, cache_dir=tmp_path, cache_gb=40e-6)
    ClipDataModule(config, 32, 1).train_dataloader()
    assert "copied again and again; set data.shuffle=shards, data.remote=range" in caplog.text


@pytest.mark.parametrize("is_warm", [True, False])
def test_a_run_goes_on_from_its_checkpoint_with_a_warm_or_a_cold_cache(server, tmp_path, is_warm):
    def module(cache):
        return ClipDataModule(
            DataConfig(root=Url(server.url), frames=2, batch=2, workers=1, cache_dir=tmp_path / cache), 32, 1
        )

    def take(data, count):
        return [batch for batch, _ in zip(data.train_dataloader(), range(count), strict=False)]

    whole = take(module("a"), 6)
    state = {"consumed": 3, "plan": module("a").plan.describe(1)}
    again = module("a" if is_warm else "b")
    again.load_state_dict(state)
    before = sum(server.gets(f"00000{k}.tar") for k in range(4))
    for one, other in zip(whole[3:], take(again, 3), strict=True):
        assert one.sources == other.sources and torch.equal(one.frames, other.frames)
    after = sum(server.gets(f"00000{k}.tar") for k in range(4))
    assert (after == before) == is_warm


def test_held_out_videos_may_be_read_in_ranges(root, server, access):
    ranged = Access(**{**vars(access), "remote": "range"})
    remote, local = HeldOut.open(server.url, 32, ranged), HeldOut.open(root, 32)
    assert [video.key for video in remote] == [video.key for video in local]
    assert torch.equal(remote[2].frames, local[2].frames) and np.array_equal(remote[2].truth, local[2].truth)
    assert not copies(access.cache_dir)


def test_an_index_travels_to_other_processes_without_its_connections(server, access):
    for remote in ("download", "range"):
        index = ShardIndex.load(server.url, Access(**{**vars(access), "remote": remote}))
        expected = index.read(0, "mp4")
        assert pickle.loads(pickle.dumps(index)).read(0, "mp4") == expected


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("ftp://host/shards", r"^ftp://host/shards: not an address of shards; they begin with s3://, gs://"),
        ("s3://", "not an address of shards"),
    ],
)
def test_other_addresses_are_refused_when_settings_are_read(place, message):
    with pytest.raises(DataError, match=message):
        DataConfig(root=Url(place))
    with pytest.raises(DataError, match=message):
        ShardIndex.load(place)


def test_a_missing_package_is_named_with_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    remote = Remote("gs://bucket/shards")
    with pytest.raises(
        DataError,
        match=r"^gs://bucket/shards: gs:// needs fsspec and gcsfs: pip install 'sam2-train\[remote\]'",
    ):
        remote.facts(INDEX_NAME)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(DataError, match="cache_gb is 0"):
        DataConfig(root="x", cache_gb=0)
    with pytest.raises(DataError, match="attempts is 0"):
        DataConfig(root="x", attempts=0)
    with pytest.raises(DataError, match="remote is 'stream'; choose download or range"):
        DataConfig(root="x", remote="stream")
    with pytest.raises(DataError, match="a command cannot be one of several data sets"):
        DataConfig(datasets=(DatasetConfig("pipe:cat x"),))


def test_addresses_are_joined_and_shown():
    assert join("s3://b/d/", "0.tar") == "s3://b/d/0.tar"
    assert join("https://h/d?sig=1", "a b#.tar") == "https://h/d/a%20b%23.tar?sig=1"
    assert shown("https://u:p@h:1/d?sig=1") == "https://h:1/d" and shown("/a@b?c") == "/a@b?c"


def test_the_usual_cache_is_on_the_disk_of_the_job(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_TMPDIR", "/local/job")
    assert str(default_cache_dir()) == "/local/job/sam2-train/shards"
    monkeypatch.delenv("SLURM_TMPDIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "sam2-train" / "shards"


@pytest.fixture(scope="module")
def bucket(root):
    """The shards in a bucket of an S3-compatible server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def s3(bucket, root, monkeypatch):
    import boto3

    for name, value in (
        ("AWS_ENDPOINT_URL", bucket),
        ("AWS_ACCESS_KEY_ID", "me"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="data")
    for path in root.iterdir():
        if path.suffix in (".tar", ".npz"):
            client.put_object(Bucket="data", Key=f"my/shards/{path.name}", Body=path.read_bytes())
    return client


@pytest.mark.parametrize("remote", ["download", "range"])
def test_a_bucket_is_read_as_the_folder_is(root, s3, access, remote):
    index = ShardIndex.load("s3://data/my/shards", Access(**{**vars(access), "remote": remote}))
    assert same_bytes(index, ShardIndex.load(root))
    with pytest.raises(DataError, match=r"^s3://data/nothing/index\.npz: there is no such file"):
        ShardIndex.load("s3://data/nothing", access)


def test_a_bucket_trains_with_workers(root, s3, tmp_path):
    def take(place):
        config = DataConfig(root=place, frames=2, batch=2, workers=2, cache_dir=tmp_path)
        return [b for b, _ in zip(ClipDataModule(config, 32, 1).train_dataloader(), range(4), strict=False)]

    for one, other in zip(take(root), take(Url("s3://data/my/shards")), strict=True):
        assert one.sources == other.sources and torch.equal(one.frames, other.frames)
