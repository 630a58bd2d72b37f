"""The byte-offset index, held against tarfile and against damaged files."""

import io
import json
import os
import pickle
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from data.clip import DataError
from data.index import INDEX_NAME, ShardIndex
from data.shard import SampleMeta


def example(key, **changes):
    meta = SampleMeta(
        key=key,
        media="mp4",
        is_proxy=False,
        height=5,
        width=7,
        media_height=6,
        media_width=8,
        fps=24.0,
        media_frames=9,
        frame_index=(0, 4, 8),
        source_frames=(0, 4, 8),
        object_ids=(3, 11),
        object_types=("manual", "auto"),
        visible=("110", "001"),
        sha256={},
    )
    return replace(meta, **changes)


def write_tar(path, samples):
    """`samples`: (meta, {extra members}); written with tarfile alone."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples:
            for name, raw in members.items():
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(raw)
                tar.addfile(info, io.BytesIO(raw))


def members_of(meta, payload=b"pixels"):
    return {"meta.json": meta.to_json(), "masks.json": b"{}", meta.media: payload}


@pytest.fixture
def shards(tmp_path):
    image = example(
        "img", media="jpg", media_frames=1, frame_index=(0,), source_frames=(0,), fps=0, is_proxy=True
    )
    image = replace(image, visible=("1", "0"))
    none = example("empty-1", object_ids=(), object_types=(), visible=())
    write_tar(
        tmp_path / "000000.tar", [("a", members_of(example("a"))), ("img", members_of(image, b"\xff\xd8"))]
    )
    write_tar(tmp_path / "000001.tar", [("empty-1", members_of(none, b"x" * 1000))])
    return tmp_path


def test_every_member_reads_back_as_tarfile_reads_it(shards):
    ShardIndex.build(shards).save()
    index = ShardIndex.load(shards)
    assert len(index) == 3
    for i in range(3):
        sample = index[i]
        with tarfile.open(shards / sample.shard) as tar:
            for member in sample.members:
                expected = tar.extractfile(f"{sample.key}.{member}").read()
                assert index.read(i, member) == expected
                assert index.read(i, member, 1, 1) == expected[1:2]


def test_samples_say_what_their_meta_says(shards):
    index = ShardIndex.build(shards)
    first, image, none = index[0], index[1], index[-1]
    assert (first.key, first.kind, first.media, first.is_proxy) == ("a", "video", "mp4", False)
    assert (first.height, first.width, first.media_height, first.media_width, first.fps) == (5, 7, 6, 8, 24.0)
    assert first.object_ids == (3, 11)
    assert first.frame_index.tolist() == [0, 4, 8]
    assert first.visible.tolist() == [[True, True, False], [False, False, True]]
    assert (image.kind, image.n_frames, image.visible.tolist()) == ("image", 1, [[True], [False]])
    assert none.visible.shape == (0, 3)
    assert index.n_frames.tolist() == [3, 1, 3]
    assert index.n_objects.tolist() == [2, 2, 0]
    assert index.is_image.tolist() == [False, True, False]
    assert index.meta(0) == example("a")
    with pytest.raises(IndexError):
        index[3]


def test_index_file_has_the_same_bytes_each_time_and_the_fingerprint_follows_the_content(shards):
    first = ShardIndex.build(shards)
    raw = first.save().read_bytes()
    assert ShardIndex.build(shards).save().read_bytes() == raw
    assert ShardIndex.load(shards).fingerprint == first.fingerprint
    write_tar(shards / "000001.tar", [("empty-2", members_of(example("empty-2"), b"x" * 1000))])
    assert ShardIndex.build(shards).fingerprint != first.fingerprint


def test_a_worker_opens_its_own_files(shards):
    index = ShardIndex.build(shards)
    assert index.read(0, "mp4") == b"pixels"
    mine = index._files[0].fd
    copy = pickle.loads(pickle.dumps(index))
    assert copy.read(0, "mp4") == b"pixels" and copy._files[0].fd != mine
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        inherited = index._files[0]
        same = index.read(0, "mp4") == b"pixels" and index._files[0] is not inherited
        os.write(writer, b"1" if same else b"0")
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 1) == b"1"
    os.close(reader)
    os.close(writer)
    assert index.read(0, "mp4") == b"pixels" and index._files[0].fd == mine


def test_ranges_outside_a_member_and_unknown_members_are_refused(shards):
    index = ShardIndex.build(shards)
    with pytest.raises(DataError, match=r'000000\.tar, clip "a".*bytes 4\+3 leave member mp4 of 6 bytes'):
        index.read(0, "mp4", 4, 3)
    with pytest.raises(DataError, match=r"no member 'jpgs'; it has meta\.json, masks\.json, mp4"):
        index.read(0, "jpgs")


def test_a_missing_index_says_how_to_make_one(shards, tmp_path):
    with pytest.raises(DataError, match="sam2 data index"):
        ShardIndex.load(shards)
    (shards / "convert.json").write_text("{}")
    with pytest.raises(DataError, match="interrupted, run the same `sam2 data convert` again; else make it"):
        ShardIndex.load(shards)
    with pytest.raises(DataError, match="no such folder.*sam2 data convert"):
        ShardIndex.load(tmp_path / "nothing")


@pytest.mark.usefixtures("within_ten_seconds")
@pytest.mark.parametrize("fault", ["grown", "gone", "added"])
def test_shards_that_changed_since_the_index_are_noticed(shards, fault):
    ShardIndex.build(shards).save()
    if fault == "grown":
        with (shards / "000001.tar").open("ab") as file:
            file.write(bytes(512))
    elif fault == "gone":
        (shards / "000001.tar").unlink()
    else:
        (shards / "000001.tar").rename(shards / "000002.tar")
    with pytest.raises(
        DataError, match=r"00000[12]\.tar has (no|\d+) bytes, the index says (none|\d+).*sam2 data index"
    ):
        ShardIndex.load(shards)


def test_a_shard_that_shrinks_after_loading_is_noticed_at_the_read(shards):
    index = ShardIndex.build(shards)
    os.truncate(shards / "000001.tar", 700)
    with pytest.raises(DataError, match=r"000001\.tar: has 700 bytes, its index says \d+"):
        index.read(2, "mp4")


def rewrite(path, **changes):
    """The index file with some columns replaced."""
    stored = dict(np.load(path))
    np.savez(path, **(stored | changes))


@pytest.mark.parametrize("fault", ["truncated", "garbage", "pickle", "other value", "compressed"])
def test_a_damaged_index_is_refused(shards, fault):
    path = ShardIndex.build(shards).save()
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:300])
    elif fault == "garbage":
        path.write_bytes(b"\x00" * 300)
    elif fault == "pickle":
        rewrite(path, content=np.array([{}], dtype=object))
    elif fault == "other value":
        rewrite(path, fps=np.array([1.0, 2.0, 3.0]))
    else:
        np.savez_compressed(path, **dict(np.load(path)))
    with pytest.raises(DataError, match=rf"{INDEX_NAME}: .*sam2 data index"):
        ShardIndex.load(shards)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("offsets", -1),
        ("sizes", 1 << 40),
        ("sizes", np.iinfo(np.int64).max),
        ("shard", 7),
        ("media", 9),
        ("frame_end", -5),
        ("shape", 0),
        ("frame_index", 99),
        ("shard_names", "../evil.tar"),
        ("key_bytes", 0),
    ],
)
def test_an_index_with_a_valid_fingerprint_but_hostile_numbers_is_refused(shards, column, value):
    index = ShardIndex.build(shards)
    path = index.save()
    values = getattr(index.columns, column).copy()
    values = values.astype("<U20") if column == "shard_names" else values
    values[0] = value
    columns = replace(index.columns, **{column: values})
    rewrite(path, fingerprint=np.array(columns.fingerprint()), **{column: values})
    with pytest.raises(DataError, match="sam2 data index"):
        ShardIndex.load(shards)


def test_a_header_that_claims_terabytes_allocates_nothing(shards):
    path = ShardIndex.build(shards).save()
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["fps.npy"] = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in parts.items():
            archive.writestr(name, raw)
    with pytest.raises(DataError, match="not a readable index"):
        ShardIndex.load(shards)


def broken(fault, meta):
    fields = json.loads(meta.to_json())
    fields.update(fault)
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"schema_version": 99}, "schema version 99, expected 1"),
        ({"height": "5"}, "'height' is not an integer from 1"),
        ({"height": True}, "'height' is not an integer"),
        ({"width": 10**9}, "'width' is not an integer from 1"),
        ({"fps": None}, "'fps' is not a number"),
        ({"frame_index": [0, 4, 9]}, "frame_index must rise and stay below media_frames=9"),
        ({"frame_index": [4, 0, 8]}, "frame_index must rise"),
        ({"is_proxy": True}, "a proxy must hold exactly the annotated frames"),
        ({"source_frames": [0]}, "1 source_frames for 3"),
        ({"object_ids": [3, 3]}, "an object id appears twice"),
        ({"visible": ["110"]}, "one entry for each of 2 objects"),
        ({"visible": ["110", "0x1"]}, "3 characters 0 or 1"),
        ({"media": "exe"}, "media 'exe' is not one of"),
        ({"media": "jpgs"}, "0 entries in jpgs for 9 media frames"),
        ({"key": "../a"}, "key '../a' does not match"),
    ],
)
def test_a_wrong_meta_names_shard_clip_and_field(tmp_path, fault, message):
    meta = example("cat_07")
    members = members_of(meta) | {"meta.json": broken(fault, meta)}
    write_tar(tmp_path / "000000.tar", [("cat_07", members)])
    with pytest.raises(DataError, match=r'000000\.tar, clip "cat_07": .*' + message):
        ShardIndex.build(tmp_path)


def test_a_missing_member_a_repeated_key_and_a_strange_name_are_named(tmp_path):
    path = tmp_path / "000000.tar"
    whole = members_of(example("a"))
    write_tar(path, [("a", {k: v for k, v in whole.items() if k != "mp4"})])
    with pytest.raises(DataError, match=r'000000\.tar, clip "a": member mp4 missing'):
        ShardIndex.build(tmp_path)
    write_tar(path, [("a", {"mp4": b""})])
    with pytest.raises(DataError, match=r'000000\.tar, clip "a": member meta\.json missing'):
        ShardIndex.build(tmp_path)
    write_tar(path, [("a", whole), ("b", members_of(example("b"))), ("a", whole)])
    with pytest.raises(DataError, match=r'clip "a": this key appeared before'):
        ShardIndex.build(tmp_path)
    write_tar(path, [("../a", whole)])
    with pytest.raises(DataError, match="is not named KEY.MEMBER"):
        ShardIndex.build(tmp_path)


@pytest.mark.usefixtures("within_ten_seconds")
@pytest.mark.parametrize("keep", [0, 100, 600, 1800, 2600, 3000, 3584])
def test_a_tar_cut_anywhere_is_refused(tmp_path, keep):
    path = tmp_path / "000000.tar"
    write_tar(path, [("a", members_of(example("a"), b"x" * 600))])
    os.truncate(path, keep)
    with pytest.raises(DataError, match=r"000000\.tar"):
        ShardIndex.build(tmp_path)


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path):
    path = tmp_path / "000000.tar"
    write_tar(path, [("a", members_of(example("a"))), ("b", members_of(example("b")))])
    raw = bytearray(path.read_bytes())
    at = raw.index(b"b.meta.json")
    raw[at : at + 8] = b"\xff" * 8
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"000000\.tar: the tar is cut off or damaged"):
        ShardIndex.build(tmp_path)


def test_links_in_a_tar_are_refused(tmp_path):
    with tarfile.open(tmp_path / "000000.tar", "w") as tar:
        info = tarfile.TarInfo("a.meta.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DataError, match="is not a plain file"):
        ShardIndex.build(tmp_path)
