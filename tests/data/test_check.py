"""Every kind of damage is found and named; sound shards give no finding."""

import io
import json
import os
import tarfile
from dataclasses import asdict

import numpy as np
import pytest

from data.checking.check import check
from data.encode import EncodeOptions
from data.index import ShardIndex
from data.shard import parse_meta, sha256
from data.sources import load_source
from data.write import ConvertOptions, convert
from tests.data.sav_folder import encode_rle, numbered_frame, write_video


def to_shards(sav, out, media="proxy"):
    options = ConvertOptions(EncodeOptions(media=media, preset="ultrafast"), shard_bytes=1)
    convert(load_source("sav", sav.root), out, options)
    return out


@pytest.fixture
def shards(sav, tmp_path):
    sav.add("a", frames=4).add("b", frames=3)
    return to_shards(sav, tmp_path / "out")


@pytest.mark.parametrize("media", ["proxy", "jpeg", "original"])
def test_sound_shards_give_no_finding(sav, tmp_path, media):
    sav.add("a", frames=10).add("b", frames=3)
    done = []
    out = to_shards(sav, tmp_path / "out", media)
    assert check(out, workers=2, progress=lambda *counts: done.append(counts)) == []
    assert done[-1][0] == done[-1][1] == sum(path.stat().st_size for path in out.glob("*.tar"))
    assert [count for count, _ in done] == sorted(count for count, _ in done)


def rewrite(shard, change, reindex=True):
    """Write the one sample of a shard again after `change(members)`; keeps meta's hashes true."""
    with tarfile.open(shard) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}
    key = next(iter(members)).partition(".")[0]
    found = {name.partition(".")[2]: raw for name, raw in members.items()}
    change(found)
    meta = json.loads(found["meta.json"])
    meta["sha256"] = {name: sha256(found[name]) for name in meta["sha256"] if name in found}
    found["meta.json"] = json.dumps(meta).encode()
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, raw in found.items():
            info = tarfile.TarInfo(f"{key}.{name}")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    if reindex and {"masks.json", meta["media"]} <= found.keys():
        ShardIndex.build(shard.parent).save()


def with_meta(**changes):
    def change(members):
        members["meta.json"] = json.dumps(json.loads(members["meta.json"]) | changes).encode()

    return change


def with_mask(counts):
    def change(members):
        found = json.loads(members["masks.json"])
        found["counts"][0][1] = counts
        members["masks.json"] = json.dumps(found).encode()

    return change


def with_media(raw):
    return lambda members: members.update(mp4=raw(members["mp4"]))


def other_video(tmp_path, height=32, frames=3):
    write_video(tmp_path / "other.mp4", [numbered_frame(n, height, 64) for n in range(frames)], g="8", bf="0")
    return (tmp_path / "other.mp4").read_bytes()


SMALLER = encode_rle(np.ones((8, 8), bool))["counts"]
EMPTY = encode_rle(np.zeros((32, 64), bool))["counts"]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda members: members.pop("mp4"), "member", "member mp4 is missing"),
        (lambda members: members.pop("masks.json"), "member", "member masks.json is missing"),
        (with_mask(SMALLER), "masks", "object 0, frame 1: not a COCO RLE of a 32x64 mask"),
        (with_mask("zz"), "masks", "object 0, frame 1: not a COCO RLE"),
        (with_mask(EMPTY), "masks", "object 0, frame 1: 0 pixels, meta.json says visible=1"),
        (with_mask(""), "masks", "object 0, frame 1: 0 pixels"),
        (with_mask(5), "masks", "object 0: expected 3 strings"),
        (lambda members: members.update({"masks.json": b"{"}), "masks", "not the JSON of masks"),
        (
            lambda members: members.update({"masks.json": b'{"size":[8,8],"counts":[]}'}),
            "masks",
            "masks are of size",
        ),
        (with_meta(visible=["111", "111"]), "masks", "object 1, frame 0: 0 pixels, meta.json says visible=1"),
        (with_meta(object_ids=[0]), "meta", "object_types and visible must have one entry"),
        (with_meta(key="c"), "meta", "belongs to clip 'c'"),
        (with_meta(keyframes=[0, 1]), "media", "keyframes are [0], meta.json says [0, 1]"),
        (with_meta(media_height=34), "media", "frame 0 is 32x64, meta.json says 34x64"),
        (with_media(lambda raw: raw[:500]), "media", "mp4: is cut off: has 500 bytes, needs"),
        (with_media(lambda raw: b""), "media", "mp4: is empty (0 bytes)"),
        (
            with_media(lambda raw: bytes(range(99))),
            "media",
            "mp4: cannot be decoded after 0 frames (Invalid data",
        ),
    ],
)
def test_damage_is_named_with_shard_and_clip(shards, change, code, message):
    rewrite(shards / "000001.tar", change, reindex=code != "meta")
    found = [f for f in check(shards) if f.severity == "error"]
    assert [(f.code, f.where) for f in found] == [(code, '000001.tar, clip "b"')]
    assert message in found[0].message and found[0].remedy
    json.dumps([asdict(f) for f in found])


@pytest.mark.parametrize(
    ("height", "frames", "message"), [(32, 5, "has 5 frames"), (48, 3, "frame 0 is 48x64")]
)
def test_a_video_of_another_clip_is_noticed(shards, tmp_path, height, frames, message):
    raw = other_video(tmp_path, height, frames)
    rewrite(shards / "000000.tar", with_media(lambda _: raw))
    (found,) = check(shards)
    assert found.code == "media" and message in found.message
    assert check(shards, decode=False) == []


def test_a_flipped_byte_is_noticed_without_decoding(shards):
    path = shards / "000000.tar"
    offset, size = ShardIndex.load(shards)[0].members["mp4"]
    raw = bytearray(path.read_bytes())
    raw[offset + size - 5] ^= 0xFF
    path.write_bytes(raw)
    (found,) = check(shards, decode=False)
    assert (found.code, found.where) == ("sha256", '000000.tar, clip "a"')
    assert found.message.startswith("mp4 has sha256")


def test_a_cut_tar_a_stale_index_and_a_repeated_key_are_noticed(shards):
    rewrite(shards / "000001.tar", with_meta(license="other"), reindex=False)
    (found,) = check(shards)
    assert found.code == "index" and "sam2 data index" in found.remedy
    ShardIndex.build(shards).save()
    assert check(shards) == []
    (shards / "000002.tar").write_bytes((shards / "000001.tar").read_bytes())
    (found,) = check(shards)
    assert found.code == "duplicate-key" and "first in 000001.tar" in found.message
    os.truncate(shards / "000002.tar", 700)
    (found,) = check(shards)
    assert (found.code, found.where) == ("tar", "000002.tar")
    (shards / "000002.tar").unlink()
    (shards / "index.npz").unlink()
    (found,) = check(shards)
    assert found.code == "index" and "missing" in found.message


def test_objects_that_are_never_visible_are_a_warning(shards):
    def hide(*objects):
        def change(members):
            masks, meta = json.loads(members["masks.json"]), json.loads(members["meta.json"])
            for o in objects:
                count = meta["n_frames"]
                masks["counts"][o], meta["visible"][o] = [""] * count, "0" * count
            members.update({"masks.json": json.dumps(masks).encode(), "meta.json": json.dumps(meta).encode()})

        return change

    rewrite(shards / "000000.tar", hide(1))
    rewrite(shards / "000001.tar", hide(0, 1))
    found = check(shards)
    assert [(f.severity, f.code) for f in found] == [
        ("warning", "never-visible"),
        ("warning", "nothing-visible"),
    ]
    assert "object 1 is visible in no frame" in found[0].message


def test_an_extra_member_is_a_warning(shards):
    rewrite(shards / "000000.tar", lambda members: members.update(txt=b"hello"))
    (found,) = check(shards)
    assert (found.severity, found.code) == ("warning", "extra-member")


def test_clips_that_conversion_left_out_and_an_unfinished_conversion_are_reported(sav, tmp_path):
    sav.add("a", frames=3).add("b", frames=3)
    (sav.root / "b.mp4").write_bytes(b"")
    out = to_shards(sav, tmp_path / "out")
    (found,) = check(out)
    assert (found.severity, found.code) == ("warning", "left-out") and "b.mp4" in found.message
    record = json.loads((out / "convert.json").read_text())
    del record["report"]
    (out / "convert.json").write_text(json.dumps(record))
    (found,) = check(out)
    assert (found.severity, found.code) == ("error", "unfinished")
    (out / "convert.json").write_text("[]")
    assert [f.code for f in check(out)] == ["record"]


def test_a_folder_without_shards_is_an_error(tmp_path):
    (found,) = check(tmp_path)
    assert (found.severity, found.code) == ("error", "no-shards") and "sam2 data convert" in found.remedy


def test_bad_jpegs_are_named(sav, tmp_path):
    sav.add("a", frames=3)
    out = to_shards(sav, tmp_path / "out", "jpeg")

    def break_second(members):
        meta = parse_meta(members["meta.json"], "here")
        raw = bytearray(members["jpgs"])
        offset, size = meta.jpgs[1]
        raw[offset : offset + size] = bytes(size)
        members["jpgs"] = bytes(raw)

    rewrite(out / "000000.tar", break_second)
    (found,) = check(out)
    assert found.code == "media" and "jpgs: JPEG 1 cannot be decoded" in found.message
    table = [list(span) for span in ShardIndex.load(out).meta(0).jpgs]
    table[0][1] = 10**9
    rewrite(out / "000000.tar", with_meta(jpgs=table))
    (found,) = check(out)
    assert found.code == "media" and "JPEG 0 lies at 0+1000000000, the member has" in found.message
