"""Conversion: what comes out of the shards is what went in."""

import gc
import io
import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest
import webdataset
from PIL import Image
from pycocotools import mask as coco

from data.clip import AnnotatedVideo, DataError, ImageFiles, Pictures, SourceClip
from data.decode import decode_frames
from data.encode import EncodeOptions
from data.index import ShardIndex
from data.shard import KEY, as_key
from data.sources import load_source
from data.split import parse_split, refuse_empty
from data.write import ConvertOptions, convert
from tests.data.sav_folder import encode_rle, number_in, numbered_frame, write_annotation, write_video

FAST = EncodeOptions(preset="ultrafast")


def to_shards(folder, out, media="proxy", **options):
    encode = EncodeOptions(media=media, preset="ultrafast")
    return convert(load_source("sav", folder.root), out, ConvertOptions(encode, **options))


def pictures(raw):
    with av.open(io.BytesIO(raw)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves the tars it has read open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_reads_the_shards(sav, tmp_path):
    sav.add("Dog_1").add("cat-2", frames=3)
    report = to_shards(sav, tmp_path / "out", shard_bytes=1)
    assert (report.clips, report.shards, report.annotated_frames, report.skipped) == (2, 2, 12, ())
    url = str(tmp_path / "out" / "{000000..000001}.tar")
    samples = list(webdataset.WebDataset(url, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["dog_1", "cat-2"]
    for sample in samples:
        assert {name for name in sample if "__" not in name} == {"meta.json", "masks.json", "mp4"}
    assert json.loads(samples[0]["meta.json"])["license"] == "CC BY 4.0"
    gc.collect()


def test_masks_survive_bit_for_bit(sav, tmp_path):
    sav.add("a").add("b", frames=4, height=40, width=48)
    to_shards(sav, tmp_path / "out")
    index = ShardIndex.load(tmp_path / "out")
    for i in range(2):
        sample, expected = index[i], sav.masks[index[i].key]
        stored = json.loads(index.read(i, "masks.json"))
        assert stored["size"] == [sample.height, sample.width]
        for o, row in enumerate(stored["counts"]):
            for k, counts in enumerate(row):
                if counts:
                    found = coco.decode({"size": stored["size"], "counts": counts.encode()})
                    assert np.array_equal(found, expected[k, o])
                assert bool(counts) == expected[k, o].any() == sample.visible[o, k]


@pytest.mark.parametrize("media", ["proxy", "jpeg", "original"])
def test_annotated_frame_k_is_source_frame_4k(sav, tmp_path, media):
    sav.add("a", frames=20)
    to_shards(sav, tmp_path / "out", media)
    index = ShardIndex.load(tmp_path / "out")
    sample, meta = index[0], index.meta(0)
    raw = index.read(0, sample.media)
    if media == "jpeg":
        assert sample.media == "jpgs"
        found = [np.asarray(Image.open(io.BytesIO(index.read(0, "jpgs", *span)))) for span in meta.jpgs]
    else:
        found = pictures(raw)
        assert len(found) == sample.media_frames == (20 if media == "proxy" else 77)
        found = [found[k] for k in sample.frame_index]
    assert [number_in(frame) for frame in found] == [4 * k for k in range(20)] == list(meta.source_frames)
    for k, frame in enumerate(found):
        assert np.abs(frame.astype(int) - numbered_frame(4 * k, 32, 64)).mean() < 3
    if media == "original":
        assert raw == (sav.root / "a.mp4").read_bytes()
        assert (sample.is_proxy, sample.fps, meta.keyframes) == (False, 24, (0,))
    else:
        assert (sample.is_proxy, sample.fps, meta.ann_stride) == (True, 6, 4)


def test_the_proxy_has_a_keyframe_every_eight_frames_and_no_b_frames(sav, tmp_path):
    sav.add("a", frames=20)
    to_shards(sav, tmp_path / "out")
    index = ShardIndex.load(tmp_path / "out")
    with av.open(io.BytesIO(index.read(0, "mp4"))) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        assert stream.codec_context.has_b_frames == 0
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == 6
        assert [p.pts for p in packets] == sorted(p.pts for p in packets)
    keyframes = tuple(k for k, packet in enumerate(packets) if packet.is_keyframe)
    assert keyframes == (0, 8, 16) == index.meta(0).keyframes


def test_odd_sizes_are_padded_and_the_picture_stays_in_the_corner(sav, tmp_path):
    height, width = 33, 65
    masks = np.ones((3, 1, height, width), bool)
    frames = [numbered_frame(n, height, width) for n in range(9)]
    write_video(sav.root / "odd.mp4", frames, pix_fmt="yuv444p")
    write_annotation(sav.root / "odd_manual.json", masks)
    to_shards(sav, tmp_path / "out")
    index = ShardIndex.load(tmp_path / "out")
    sample = index[0]
    assert (sample.height, sample.width, sample.media_height, sample.media_width) == (33, 65, 34, 66)
    for k, frame in enumerate(pictures(index.read(0, "mp4"))):
        assert frame.shape == (34, 66, 3)
        assert np.abs(frame[:33, :65].astype(int) - frames[4 * k]).mean() < 4


@pytest.mark.parametrize("media", ["proxy", "jpeg"])
@pytest.mark.parametrize("turn", [90, -90, 180])
def test_a_rotation_flag_is_applied_to_the_pictures(sav, tmp_path, turn, media):
    upright = np.zeros((64, 32, 3) if turn % 180 else (32, 64, 3), np.uint8)
    upright[:16, :16] = 255
    stored = np.ascontiguousarray(np.rot90(upright, -turn // 90))  # the flag turns counterclockwise
    write_video(sav.root / "a.mp4", [stored] * 5, rotation=turn)
    write_annotation(sav.root / "a_manual.json", np.ones((2, 1, *upright.shape[:2]), bool))
    to_shards(sav, tmp_path / "out", media)
    index = ShardIndex.load(tmp_path / "out")
    if media == "proxy":
        found = pictures(index.read(0, "mp4"))[1]
    else:
        found = np.asarray(Image.open(io.BytesIO(index.read(0, "jpgs", *index.meta(0).jpgs[1]))))
    assert np.abs(found.astype(int) - upright).mean() < 8


def test_same_input_same_bytes_with_any_number_of_workers(sav, tmp_path):
    for number in range(5):
        sav.add(f"clip_{number}", frames=4)
    to_shards(sav, tmp_path / "one", shard_bytes=4000)
    to_shards(sav, tmp_path / "two", shard_bytes=4000, workers=3)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) > 3
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in set(names) - {"convert.json"}:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


class Stop(Exception):
    pass


def test_an_interrupted_conversion_goes_on_and_ends_with_the_same_bytes(sav, tmp_path):
    for number in range(5):
        sav.add(f"clip_{number}", frames=3)
    options = ConvertOptions(FAST, shard_bytes=1)
    source = load_source("sav", sav.root)

    def stop(done, total):
        assert total == 5
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        convert(source, tmp_path / "out", options, stop)
    first = tmp_path / "out" / "000000.tar"
    before = first.stat().st_mtime_ns
    assert not list((tmp_path / "out").glob(".*.tmp"))
    report = convert(source, tmp_path / "out", options)
    assert first.stat().st_mtime_ns == before
    assert report == convert(source, tmp_path / "whole", options)
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("within_ten_seconds")
@pytest.mark.parametrize("media", ["proxy", "jpeg", "original"])
def test_a_bad_video_is_left_out_and_named_and_the_rest_is_converted(sav, tmp_path, media):
    for name in ("cut", "empty", "garbage", "good", "short", "size"):
        sav.add(name, frames=5)
    root = sav.root
    (root / "cut.mp4").write_bytes((root / "cut.mp4").read_bytes()[:900])
    (root / "empty.mp4").write_bytes(b"")
    (root / "garbage.mp4").write_bytes(bytes(range(256)) * 40)
    write_video(root / "short.mp4", [numbered_frame(n, 32, 64) for n in range(16)])
    write_video(root / "size.mp4", [numbered_frame(n, 48, 64) for n in range(17)])
    report = to_shards(sav, tmp_path / "out", media)
    assert report.clips == 1
    for name, reason in {
        "cut": "cut.mp4: is cut off: has 900 bytes, needs",
        "empty": "empty.mp4: is empty (0 bytes)",
        "garbage": "garbage.mp4: is damaged or not a video (Invalid data",
        "short": "has 16 frames, the last annotated frame is number 16",
        "size": "frames are 48x64, masks are 32x64",
    }.items():
        (line,) = [line for line in report.skipped if f"{name}.mp4" in line]
        assert reason in line
    assert json.loads((tmp_path / "out" / "convert.json").read_text())["report"]["skipped"] == list(
        report.skipped
    )


@pytest.mark.parametrize("media", ["proxy", "jpeg", "original"])
def test_noise_inside_a_video_is_noticed(sav, tmp_path, media):
    sav.add("good", frames=5).add("noise", frames=5)
    path = sav.root / "noise.mp4"
    raw = bytearray(path.read_bytes())
    start = raw.index(b"mdat")
    end = start + int.from_bytes(raw[start - 4 : start], "big") - 4
    raw[end - 120 : end - 20] = np.random.default_rng(0).bytes(100)
    path.write_bytes(raw)
    report = to_shards(sav, tmp_path / "out", media)
    assert report.clips == 1
    assert "noise.mp4" in report.skipped[0] and "damaged" in report.skipped[0]


def test_metadata_in_another_alphabet_is_no_obstacle(sav, tmp_path):
    sav.add("a", frames=3)
    path = sav.root / "a.mp4"
    raw = path.read_bytes()
    assert b"Lavf" in raw
    path.write_bytes(raw.replace(b"Lavf", b"\xac\xd3\xff\xfe"))
    assert to_shards(sav, tmp_path / "out").clips == 1


@dataclass
class Given:
    """A source of clips that are at hand; `found` is no option of it."""

    root: Path

    def clips(self):
        return self.found


def given(root, *videos):
    source = Given(root)
    source.found = [SourceClip(video.key, lambda video=video: video) for video in videos]
    return source


@pytest.fixture
def image(tmp_path):
    """In a folder of its own, where shards are not written."""
    tmp_path = tmp_path / "png"
    tmp_path.mkdir()
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[5:, 10:] = (200, 30, 90)
    mask = picture[..., 0] > 0
    Image.fromarray(picture).save(tmp_path / "a.png")
    return AnnotatedVideo(
        key="a",
        media=ImageFiles((tmp_path / "a.png",)),
        height=20,
        width=30,
        fps=0,
        frame_index=(0,),
        object_ids=(7,),
        masks=((encode_rle(mask)["counts"],),),
        meta={},
    )


def test_images_become_one_jpeg_each_and_jpegs_stay_as_they_are(image, tmp_path):
    png = image.media.path.parent
    Image.open(image.media.path).save(png / "b.jpg", quality=80)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(image.media.path).save(png / "c.jpg", exif=turned)
    others = [replace(image, key=key, media=ImageFiles((png / f"{key}.jpg",))) for key in "bc"]
    convert(given(tmp_path / "png", image, *others), tmp_path / "out")
    index = ShardIndex.load(tmp_path / "out")
    assert [index[i].kind for i in range(3)] == ["image"] * 3
    assert (index[0].media, index[0].fps, index[0].n_frames, index[0].object_ids) == ("jpg", 0, 1, (7,))
    assert index.read(1, "jpg") == (png / "b.jpg").read_bytes()
    found = np.asarray(Image.open(io.BytesIO(index.read(0, "jpg"))))
    assert np.abs(found.astype(int) - np.asarray(Image.open(image.media.path))).mean() < 4
    assert Image.open(io.BytesIO(index.read(2, "jpg"))).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "A.b"}, "a key must match"),
        ({"masks": ()}, "0 rows of masks for 1 objects"),
        ({"masks": (("", ""),)}, "object 7 has 2 masks for 1 annotated frames"),
        ({"masks": (("zz",),)}, "object 7, annotated frame 0: not a COCO RLE"),
        ({"height": 21}, r"annotated frame 0: not a COCO RLE of a 21x30 mask"),
        ({"masks": (("",),), "height": 21}, "frames are 20x30, masks are 21x30"),
        ({"frame_index": ()}, "annotated frames must be rising"),
        ({"media": ImageFiles((Path("nowhere.png"),))}, r'nowhere\.png, clip "a": no such file'),
    ],
)
def test_a_wrong_clip_is_named(image, tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        convert(given(tmp_path / "png", replace(image, **changes)), tmp_path / "out")


def test_two_clips_with_one_key_are_named(image, tmp_path):
    report = convert(given(tmp_path / "png", image, image), tmp_path / "out")
    assert report.clips == 1
    assert 'another clip is called "a" too' in report.skipped[0]


def walk(folder):
    """Keys of the samples of a folder of shards."""
    index = ShardIndex.load(folder)
    return {index[i].key for i in range(len(index))}


def test_a_split_puts_every_clip_and_every_group_on_one_side_and_new_clips_move_none(image, tmp_path):
    names = [f"k{n}" for n in range(60)]
    clips = [
        SourceClip(name, lambda name=name: replace(image, key=name), f"g{n // 3}")
        for n, name in enumerate(names)
    ]

    def parts(clips, out):
        source = Given(tmp_path / "png")
        source.found = list(clips)
        for part in parse_split("video-hash:0.7"):
            convert(source, out / part.name, ConvertOptions(part=part))
        return walk(out / "train"), walk(out / "val")

    train, val = parts(clips, tmp_path / "all")
    assert train | val == set(names) and not train & val
    for n in range(0, 60, 3):
        assert {names[n], names[n + 1], names[n + 2]} <= (train if names[n] in train else val)
    fewer = parts(clips[:30], tmp_path / "fewer")
    assert fewer[0] <= train and fewer[1] <= val


def test_the_share_of_a_split_is_what_was_asked_for():
    train, val = parse_split("video-hash:0.8")
    clips = [SourceClip(f"clip-{n}", list) for n in range(5000)]
    kept = sum(train.holds(clip) for clip in clips)
    assert abs(kept / 5000 - 0.8) < 0.02  # 3.5 standard deviations
    assert all(train.holds(clip) != val.holds(clip) for clip in clips)


def test_a_share_that_leaves_a_part_empty_is_refused_and_one_that_does_not_is_named():
    clips = [SourceClip(f"clip-{n}", list) for n in range(3)]
    with pytest.raises(DataError, match='puts none of 3 clips into "train"; give another share') as caught:
        refuse_empty(parse_split("video-hash:0.001"), clips, "here")
    refuse_empty(parse_split(re.search(r"such as (video-hash:\S+),", str(caught.value))[1]), clips, "here")
    together = [SourceClip(f"clip-{n}", list, "one patient") for n in range(3)]
    with pytest.raises(DataError, match="they stay together, or convert two folders"):
        refuse_empty(parse_split("video-hash:0.5"), together, "here")
    refuse_empty(parse_split("video-hash:0.5"), [], "here")


@pytest.mark.parametrize("text", ["video-hash:1", "video-hash:0", "0.9", "hash:0.9", "video-hash:.9x"])
def test_a_split_that_is_none_is_refused(text):
    with pytest.raises(DataError, match="expected video-hash:SHARE"):
        parse_split(text)


@pytest.mark.parametrize("media", ["proxy", "jpeg"])
def test_shrunk_pictures_keep_their_masks_and_show_the_same(sav, tmp_path, media):
    sav.add("a", frames=5, height=90, width=160)
    encode = EncodeOptions(media=media, size=64, preset="ultrafast", crf=10)
    convert(load_source("sav", sav.root), tmp_path / "out", ConvertOptions(encode))
    index = ShardIndex.load(tmp_path / "out")
    sample = index[0]
    assert (sample.height, sample.width, sample.media_height, sample.media_width) == (90, 160, 36, 64)
    assert json.loads(index.read(0, "masks.json"))["size"] == [90, 160]
    frames = decode_frames(index, 0, range(5))
    assert frames.shape == (5, 36, 64, 3) and [number_in(frame) for frame in frames] == [0, 4, 8, 12, 16]
    whole = np.asarray(
        Image.fromarray(numbered_frame(16, 90, 160)).resize((64, 36), Image.Resampling.LANCZOS)
    )
    assert np.abs(frames[4].astype(int) - whole).mean() < 4


def test_a_picture_that_is_small_enough_keeps_its_size(image, tmp_path):
    convert(given(tmp_path / "png", image), tmp_path / "out", ConvertOptions(EncodeOptions(size=30)))
    assert (ShardIndex.load(tmp_path / "out")[0].media_width, 30) == (30, 30)
    with pytest.raises(ValueError, match="original files are stored as they are"):
        EncodeOptions(media="original", size=512)


def test_names_that_a_key_cannot_hold_stay_apart():
    names = ["Ein Video.v2", "\u732b", "\u72ac", "x" * 300, "x" * 301, "a/b"]
    keys = [as_key(name) for name in names]
    assert keys[0] == "ein_video_v2" and keys[5] == "a_b" and len(set(keys)) == 6
    assert all(KEY.fullmatch(key) for key in keys)


def test_pictures_that_a_source_computes(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "volume").write_bytes(b"x")
    slices = np.arange(3, dtype=np.uint8)[:, None, None] * 50 + np.zeros((3, 8, 10), np.uint8)
    media = Pictures(tmp_path / "in" / "volume", (tmp_path / "in" / "volume",), lambda: iter(slices))
    rle = encode_rle(np.eye(8, 10) > 0)["counts"]
    video = AnnotatedVideo("v", media, 8, 10, 1.0, (0, 1, 2), (5,), ((rle, "", rle),), {"license": "mine"})
    report = convert(
        given(tmp_path / "in", video), tmp_path / "out", ConvertOptions(EncodeOptions(media="jpeg"))
    )
    assert (report.clips, report.images, report.licenses) == (1, 0, ("mine",))
    frames = decode_frames(ShardIndex.load(tmp_path / "out"), 0, range(3))
    assert np.abs(frames[..., 1].astype(int) - slices).max() <= 2
    with pytest.raises(DataError, match="its pictures are computed; convert with --media proxy or jpeg"):
        convert(
            given(tmp_path / "in", video), tmp_path / "o2", ConvertOptions(EncodeOptions(media="original"))
        )


def test_a_full_disk_keeps_finished_shards_and_the_same_command_goes_on(sav, tmp_path):
    """The system's limit on the size of a file stands for the disk: the same failed write, another number."""
    for name in "abc":
        sav.add(name, frames=6, **({"height": 320, "width": 320} if name == "b" else {}))
    encode = EncodeOptions(media="jpeg")
    options = ConvertOptions(encode, shard_bytes=1)
    convert(load_source("sav", sav.root), tmp_path / "whole", options)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "whole").glob("*.tar"))]
    limit = (sizes[0] + sizes[1]) // 2
    assert sizes[0] < limit < sizes[1]
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from data.clip import DataError\n"
        "from data.encode import EncodeOptions\n"
        "from data.sources import load_source\n"
        "from data.write import ConvertOptions, convert\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "options = ConvertOptions(EncodeOptions(media='jpeg'), shard_bytes=1)\n"
        "try:\n"
        "    convert(load_source('sav', sys.argv[1]), sys.argv[2], options)\n"
        "except DataError as error:\n"
        "    sys.exit(str(error))\n"
    )
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", code, str(sav.root), str(out)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "finished shards are kept, make room" in done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["000000.tar", "convert.json"]
    convert(load_source("sav", sav.root), out, options)
    for path in sorted((tmp_path / "whole").glob("*.tar")):
        assert (out / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("width", [6, 16, 24, 48, 72, 10, 74])
def test_videos_of_any_width_can_be_read_again(sav, tmp_path, width):
    """decord fails on some widths; the proxy is made wider, and the picture stays in its corner."""
    sav.add("a", frames=3, height=40, width=width)
    to_shards(sav, tmp_path / "out")
    index = ShardIndex.load(tmp_path / "out")
    frames = decode_frames(index, 0, range(3))
    assert frames.shape == (3, 40, width, 3)
    assert width < 32 or [number_in(frame) for frame in frames] == [0, 4, 8]
    if width in (16, 24, 48, 72):
        with pytest.raises(DataError, match=f"videos {width} pixels wide cannot be read again"):
            to_shards(sav, tmp_path / "original", "original")
