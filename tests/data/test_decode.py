import dataclasses
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from data.decode import Masklet, decode_frames, decode_masklet, read_masks
from data.index import ShardIndex
from data.quarantine import SampleError
from tests.data.sav_folder import (
    SavFolder,
    moving_masks,
    number_in,
    numbered_frame,
    write_annotation,
    write_video,
)
from tests.data.shards import DAMAGES, numbered_videos, rewrite, to_shards


@pytest.fixture(scope="module", params=["proxy", "jpeg", "original"])
def videos(request, tmp_path_factory):
    """Two clips, one of them upright and of odd size, in each kind of media; the annotated masks."""
    root = tmp_path_factory.mktemp(request.param)
    folder = root / "sav"
    folder.mkdir()
    sav = SavFolder(folder).add("wide", frames=6)
    sav.masks["tall"] = moving_masks(6, 65, 49)
    write_video(folder / "tall.mp4", [numbered_frame(n, 65, 49) for n in range(21)], pix_fmt="yuv444p")
    write_annotation(folder / "tall_manual.json", sav.masks["tall"])
    return to_shards(folder, root / "out", request.param), sav.masks


@pytest.mark.parametrize("i", [0, 1])
def test_the_frames_asked_for_come_in_the_order_asked_for(videos, i):
    index, masks = videos
    wanted = [4, 0, 5, 5, 2]
    frames = decode_frames(index, i, wanted)
    assert frames.shape == (5, *masks[index[i].key].shape[2:], 3)
    assert [number_in(frame) for frame in frames] == [4 * k for k in wanted]


@pytest.mark.parametrize("i", [0, 1])
def test_the_masks_of_an_object_are_those_that_were_annotated(videos, i):
    index, masks = videos
    sample, table = index[i], read_masks(index, i)
    for position in (0, 1):
        masklet = decode_masklet(sample, table[position], position, [1, 3, 2])
        canvas = np.zeros((3, sample.height, sample.width), np.uint8)
        for k in range(3):
            masklet.paste(canvas[k], k, 1)
        np.testing.assert_array_equal(canvas, masks[sample.key][[1, 3, 2], position])
        np.testing.assert_array_equal(masklet.areas, canvas.sum((1, 2)))
        assert masklet.crop.size < canvas.size


def test_of_many_jpegs_only_the_range_that_is_needed_is_read(tmp_path, monkeypatch):
    numbered_videos(tmp_path / "sav", 1, frames=9)
    index = to_shards(tmp_path / "sav", tmp_path / "out", "jpeg")
    sizes = [size for _, size in index.meta(0).jpgs]
    lengths = []
    whole = ShardIndex.read

    def spy(self, i, member, start=0, length=None):
        raw = whole(self, i, member, start, length)
        lengths.append((member, len(raw)))
        return raw

    monkeypatch.setattr(ShardIndex, "read", spy)
    decode_frames(index, 0, [5, 3, 4])
    assert [n for member, n in lengths if member == "jpgs"] == [sum(sizes[3:6])]


def first_clip(index):
    """All of a clip, as a reader takes it."""
    table = read_masks(index, 0)
    for k, row in enumerate(table):
        decode_masklet(index[0], row, k, range(index[0].n_frames))
    return decode_frames(index, 0, range(index[0].n_frames))


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "empty masklets"])
def test_damage_is_named_with_shard_key_and_member(tmp_path, damage):
    change, member, reason = DAMAGES[damage]
    numbered_videos(tmp_path / "sav", 1)
    to_shards(tmp_path / "sav", tmp_path / "out")
    index = rewrite(tmp_path / "out", "v00", change)
    with pytest.raises(SampleError, match=rf'^000000\.tar, clip "v00", {member}: .*({reason})') as error:
        first_clip(index)
    assert (error.value.shard, error.value.key, error.value.member) == ("000000.tar", "v00", member)
    assert not any(word in str(error.value) for word in ("/proc", "workspace", "<none>", "Errno", ".cc"))


def test_a_shard_cut_off_after_it_was_indexed_is_named(tmp_path):
    numbered_videos(tmp_path / "sav", 1)
    index = to_shards(tmp_path / "sav", tmp_path / "out")
    shard = tmp_path / "out" / "000000.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(SampleError, match=r'clip "v00", masks\.json: .*has 2000 bytes, its index says'):
        read_masks(index, 0)
    shard.unlink()
    with pytest.raises(SampleError, match=r'clip "v00", masks\.json: .*cannot be opened'):
        read_masks(ShardIndex(index.root, index.columns), 0)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "cannot be decoded"),
        (b"GIF89a" + bytes(40), "cannot be decoded"),
        (None, "cannot be decoded"),
        ("large", "a picture is 40000x30000, the index says 32x64"),
    ],
    ids=["empty", "gif", "cut off", "another size"],
)
def test_a_bad_jpeg_is_named_before_memory_is_spent_on_it(tmp_path, monkeypatch, raw, reason):
    numbered_videos(tmp_path / "sav", 1)
    index = to_shards(tmp_path / "sav", tmp_path / "out", "jpeg")
    good = index.read(0, "jpgs")
    if raw == "large":
        file = io.BytesIO()
        Image.new("1", (1, 1)).save(file, "PNG")
        size = (30000).to_bytes(4, "big") + (40000).to_bytes(4, "big")
        header = file.getvalue()[:16] + size + file.getvalue()[24:29]
        raw = header + zlib.crc32(header[12:]).to_bytes(4, "big") + file.getvalue()[33:]
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr("data.decode._jpegs", lambda *_: [good[:400] if raw is None else raw])
    with pytest.raises(SampleError, match=rf'000000\.tar, clip "v00", jpgs: .*{reason}'):
        decode_frames(index, 0, [0])


def test_a_video_that_is_not_as_large_as_the_index_says_is_named(tmp_path):
    numbered_videos(tmp_path / "sav", 1)
    index = to_shards(tmp_path / "sav", tmp_path / "out")
    index.columns = dataclasses.replace(index.columns, shape=index.columns.shape + 2)
    with pytest.raises(SampleError, match="frames are 32x64, the index says 34x66"):
        decode_frames(index, 0, [0])


def test_an_object_that_is_absent_in_all_frames_has_an_empty_crop(tmp_path):
    numbered_videos(tmp_path / "sav", 1)
    index = to_shards(tmp_path / "sav", tmp_path / "out")
    masklet = decode_masklet(index[0], read_masks(index, 0)[1], 1, [0, 2])  # visible in odd frames only
    assert isinstance(masklet, Masklet)
    assert masklet.areas.tolist() == [0, 0]
