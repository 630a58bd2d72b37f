"""Frames of a video from everything that may hold one: exact, bounded, and clear about what is wrong."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import weakref
import zlib

import av
import decord
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import sam2.video_files
from sam2.video_files import VideoFile
from sam2.video_frames import FramesError, open_frames, to_model_frame
from tests import golden
from tests.sam2.numbered_videos import HEIGHT, WIDTH, copy_packets, number_in, picture, write_video

SIZE = 64

# What a walk from the first frame hides and a jump shows: B-frames, open groups of pictures (x265's default),
# keyframes that are none (intra refresh), containers without times (AVI, raw streams), frames of 10 bits, odd sizes.
KINDS = {
    "h264.mp4": {"g": "7"},
    "h264_open.mp4": {"x264-params": "open-gop=1:keyint=8:bframes=3:b-adapt=0"},
    "h264_refresh.mp4": {"x264-params": "intra-refresh=1:keyint=8"},
    "h264_every_second_key.mp4": {"g": "2", "bf": "1"},
    "h264_10_bit.mov": {"pixels": "yuv420p10le"},
    "h264_odd.mp4": {"pixels": "yuv444p", "size": (49, 65)},
    "h264.avi": {"g": "7"},
    "h264.mkv": {"g": "7"},
    "h264.ts": {"g": "7"},
    "h264.flv": {"g": "7"},
    "raw.h264": {"g": "7"},
    "hevc_open.mp4": {"codec": "libx265", "x265-params": "keyint=8:open-gop=1:log-level=none"},
    "vp8.webm": {
        "codec": "libvpx",
        "auto-alt-ref": "1",
        "lag-in-frames": "16",
        "g": "12",
        "deadline": "realtime",
    },
    "vp9.webm": {
        "codec": "libvpx-vp9",
        "auto-alt-ref": "1",
        "lag-in-frames": "16",
        "g": "12",
        "deadline": "realtime",
    },
    "av1.mp4": {"codec": "libsvtav1", "g": "8", "preset": "12"},
    "mpeg4.avi": {"codec": "mpeg4", "bf": "2"},
    "mpeg4.mp4": {"codec": "mpeg4", "bf": "2"},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "mpeg2.mpg": {"codec": "mpeg2video", "bf": "2"},
    "prores.mov": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "animation.gif": {"codec": "gif", "pixels": "rgb8"},
    "one.mp4": {"frames": 1},
}


def numbers(frames, order):
    return [number_in(frames[i].permute(1, 2, 0).numpy()) for i in order]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "video.mp4", g="7")


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_the_same_whichever_way_it_is_reached(tmp_path, kind):
    path = write_video(tmp_path / kind, **KINDS[kind])
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    file = VideoFile(path)
    forward = list(range(len(file)))
    shuffled = random.Random(0).sample(forward, len(forward))
    assert [number_in(image) for image in decoded] == forward and len(file) == KINDS[kind].get("frames", 24)
    assert file.size == decoded[0].shape[:2]
    for order in (forward, shuffled, forward[::-1], [0, *forward]):
        for i in order:
            np.testing.assert_array_equal(file.read(i), decoded[i])


def test_frames_are_at_model_size_and_counted_from_the_first(video):
    frames = open_frames(video, SIZE)
    assert (len(frames), frames.size) == (24, (HEIGHT, WIDTH))
    assert frames[5].shape == (3, SIZE, SIZE) and frames[5].dtype == torch.uint8
    order = [3, 23, 0, 12, 11, 10, 9, 23, 22]
    assert numbers(frames, order) == order


def test_a_variable_frame_rate_changes_no_number(tmp_path):
    times = [0, 1, 2, 5, 9, 10, 30, 31, 60, 61, 62, 200]
    frames = open_frames(write_video(tmp_path / "v.mp4", frames=12, times=times, g="4"), SIZE)
    order = [11, 3, 8, 0, 6, 7]
    assert numbers(frames, order) == order and len(frames) == 12


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_a_rotated_video_comes_upright(tmp_path, rotation):
    path = write_video(tmp_path / "v.mp4", frames=5, rotation=rotation)
    frames = open_frames(path, SIZE)
    assert frames.size == (HEIGHT, WIDTH)
    assert numbers(frames, range(5)) == list(range(5))
    by_decord = decord.VideoReader(str(path))[3].asnumpy()[..., :3]
    assert by_decord.shape[:2] == frames.size
    assert np.abs(by_decord.astype(int) - VideoFile(path).read(3)).mean() < 1


def test_what_an_edit_list_cuts_away_is_not_counted(tmp_path, video):
    cut = copy_packets(video, tmp_path / "cut.mp4", 5, avoid_negative_ts="disabled", use_editlist="1")
    frames = open_frames(cut, SIZE)
    shown = list(range(24))[24 - len(frames) :]
    assert 17 <= len(frames) <= 19, "five frames, as the container counts them"
    assert numbers(frames, range(len(frames))) == shown
    assert numbers(frames, reversed(range(len(frames)))) == shown[::-1]


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_a_recording_that_begins_between_keyframes_begins_at_the_first_one(tmp_path, video, suffix):
    frames = open_frames(copy_packets(video, tmp_path / f"late{suffix}", without=3), SIZE)
    shown = list(range(24))[24 - len(frames) :]
    assert shown[0] == 7
    assert numbers(frames, range(len(frames))) == shown


def test_few_frames_are_kept(tmp_path, video):
    frames = open_frames(video, SIZE, cache=4)
    seen = [weakref.ref(frames[i]) for i in [*range(24), *reversed(range(24))]]
    assert sum(ref() is not None for ref in seen) <= 4
    assert frames[3] is frames[3]


def test_a_walk_backwards_decodes_a_group_of_pictures_few_times(video, monkeypatch):
    starts = []
    real = sam2.video_files.numbered
    monkeypatch.setattr(sam2.video_files, "numbered", lambda *args: starts.append(args) or real(*args))
    frames = open_frames(video, SIZE, cache=8)
    starts.clear()
    assert numbers(frames, reversed(range(24))) == list(reversed(range(24)))
    assert len(starts) <= 1 + 24 / 8


@pytest.mark.parametrize(
    "kind", ["h264.mp4", "h264_open.mp4", "h264.mkv", "h264.ts", "h264.flv", "hevc_open.mp4"]
)
def test_a_jump_decodes_from_the_keyframe_before_alone(tmp_path, kind, monkeypatch):
    file = VideoFile(write_video(tmp_path / kind, **KINDS[kind]))
    starts = []
    real = sam2.video_files.numbered
    monkeypatch.setattr(sam2.video_files, "numbered", lambda *args: starts.append(args[2]) or real(*args))
    assert [number_in(file.read(i)) for i in (17, 18, 12)] == [17, 18, 12]
    gop = 7 if KINDS[kind].get("g") else 8
    assert starts == [17 // gop * gop, 12 // gop * gop]


CUT_OFF = {
    "cut.mp4": {"container_movflags": "faststart", "bf": "0"},
    "cut_fragments.mp4": {"container_movflags": "frag_keyframe+empty_moov", "g": "10", "bf": "0"},
    "cut_b_frames.mov": {"container_movflags": "faststart"},
    "cut.mkv": {},
    "cut.webm": {"codec": "libvpx-vp9", "deadline": "realtime"},
    "cut.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
}


@pytest.mark.parametrize("kind", CUT_OFF)
def test_a_file_that_is_cut_off_says_so_at_the_frame_and_stays_usable(tmp_path, kind):
    path = write_video(tmp_path / kind, frames=60, **CUT_OFF[kind])
    with av.open(str(path)) as container:
        # a byte in the middle of a frame in the last third
        at = sorted(packet.pos for packet in container.demux(video=0) if packet.size)[40] + 9
    path.write_bytes(path.read_bytes()[:at])
    frames = open_frames(path, SIZE)
    good = []
    with pytest.raises(FramesError, match=rf"{kind}, frame \d+: .*cut off after \d+ of {len(frames)} frames"):
        for i in range(len(frames)):
            good += numbers(frames, [i])
    assert good == list(range(len(good))) and 30 <= len(good) <= 41
    with pytest.raises(FramesError, match=rf"frame {len(frames) - 1}: "):
        frames[len(frames) - 1]
    assert numbers(frames, [len(good) - 1, 0, 7]) == [len(good) - 1, 0, 7]


def test_a_damaged_frame_is_an_error_and_moves_no_other_frame(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=30, g="10", bf="0")
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][14]
    raw = bytearray(path.read_bytes())
    raw[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(raw)
    frames = open_frames(path, SIZE)
    for _ in range(2):
        with pytest.raises(FramesError, match=r"v\.mp4, frame 14: is damaged"):
            frames[14]
    order = [13, *range(20, 30), 0]
    assert numbers(frames, order) == order


def test_no_such_frame_is_an_index_error(video):
    frames = open_frames(video, SIZE)
    for wrong in (24, -1):
        with pytest.raises(IndexError, match="frames 0 to 23"):
            frames[wrong]


def sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def header_alone(path):
    write_video(path, container_movflags="faststart")
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index(b"mdat") + 4])


def unknown_codec(path):
    write_video(path)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))


def index_missing(path):
    write_video(path)  # the index comes last
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index(b"moov")])


BAD_FILES = {
    "missing.mp4": (lambda path: None, "no such file or folder"),
    "empty.mp4": (lambda path: path.write_bytes(b""), "is empty"),
    "text.mp4": (lambda path: path.write_text("not a video\n" * 99), "not a video"),
    "noise.mkv": (lambda path: path.write_bytes(random.Random(0).randbytes(9999)), "not a video"),
    "no_index.mp4": (index_missing, "cut off"),
    "header.mp4": (header_alone, "no frame that can be decoded"),
    "codec.mp4": (unknown_codec, "no video stream that can be decoded"),
    "sound.mp4": (sound, "no video stream"),
    "huge.y4m": (
        lambda path: path.write_text("YUV4MPEG2 W12000 H12000 F25:1 C420jpeg\nFRAME\n"),
        "12000x12000",
    ),
    "playlist.m3u8": (
        lambda path: (
            write_video(path.with_suffix(".ts")) and path.write_text(f"#EXTM3U\n#EXTINF:1,\n{path.stem}.ts\n")
        ),
        "not a video",
    ),
    "folder": (lambda path: path.mkdir(), "holds no pictures"),
    "empty.png": (lambda path: path.write_bytes(b""), "is empty"),
    "text.png": (lambda path: path.write_text("x" * 999), "not a picture"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_is_no_video_gets_one_clear_error(tmp_path, name):
    make, message = BAD_FILES[name]
    make(tmp_path / name)
    with pytest.raises(FramesError, match=message) as caught:
        open_frames(tmp_path / name, SIZE)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_read_in_natural_order_whatever_the_names(tmp_path):
    order = [
        "00001.jpg",
        "00002.JPEG",
        "3.png",
        "frame_2.BMP",
        "Frame_10.webp",
        "frame_11.tif",
        "frame_12.tiff",
    ]
    for number, name in enumerate(order):
        Image.fromarray(picture(number)).save(tmp_path / name)
    Image.fromarray(picture(99)).save(tmp_path / ".hidden.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "4.png").mkdir()
    frames = open_frames(str(tmp_path), SIZE)
    assert numbers(frames, range(len(frames))) == list(range(7))


def test_folder_errors_name_the_file(tmp_path):
    for number in range(3):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.jpg", quality=95)
    Image.fromarray(picture(1, 32, 64)).save(tmp_path / "1.jpg")
    with pytest.raises(FramesError, match=r"1\.jpg, frame 1: is 32x64 .*48x64"):
        open_frames(tmp_path, SIZE)
    Image.fromarray(picture(1)).save(tmp_path / "1.jpg", quality=95)
    Image.fromarray(picture(1)).save(tmp_path / "1.png")
    with pytest.raises(FramesError, match=r"1\.(jpg|png) and 1\.(jpg|png) claim the same frame"):
        open_frames(tmp_path, SIZE)
    (tmp_path / "1.png").unlink()
    raw = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(raw[:-300])
    frames = open_frames(tmp_path, SIZE)
    with pytest.raises(FramesError, match=r"1\.jpg: not a picture that can be read"):
        frames[1]
    assert numbers(frames, [0, 2]) == [0, 2]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"1.{suffix}"
    Image.fromarray(picture(37)).save(path, exif=exif, quality=100)
    frames = open_frames(path, SIZE)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        assert frames.size == (upright.height, upright.width)
        expected = to_model_frame(upright.convert("RGB"), SIZE)
    torch.testing.assert_close(frames[0], expected, atol=1, rtol=0)


def test_pictures_of_all_kinds_become_rgb(tmp_path):
    grey = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 21
    colour = Image.fromarray(picture(5))
    eight = np.rint(grey / 257).astype(np.uint8)
    on_grey = np.stack([eight] * 3, -1)
    palette = colour.quantize(200)
    transparent = colour.copy()
    transparent.putalpha(7)
    files = {
        "16.png": (Image.fromarray(grey), on_grey),
        "16.tif": (Image.fromarray(grey), on_grey),
        "8.png": (Image.fromarray(eight), on_grey),
        "1.png": (Image.fromarray(eight > 100), np.where(on_grey > 100, 255, 0)),
        "palette.png": (palette, palette.convert("RGB")),
        "alpha.png": (transparent, colour),
        "alpha.webp": (transparent, colour),
    }
    for name, (image, expected) in files.items():
        image.save(tmp_path / name, lossless=True)
        actual = open_frames(tmp_path / name, SIZE)[0]
        expected = to_model_frame(np.array(expected, np.uint8), SIZE)
        torch.testing.assert_close(actual, expected, atol=0, rtol=0, msg=name)
    palette.save(tmp_path / "clear.png", transparency=bytes(range(200)))
    torch.testing.assert_close(
        open_frames(tmp_path / "clear.png", SIZE)[0], to_model_frame(palette.convert("RGB"), SIZE)
    )


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (128, 0), (129, 1), (257, 1), (32896, 128), (65535, 255)]
)
def test_sixteen_bits_are_scaled_by_their_whole_range(value, expected):
    array = np.full((6, 7), value, np.uint16)
    for image in (array, torch.from_numpy(array), array[:, :, None], Image.fromarray(array)):
        assert (to_model_frame(image, 8) == expected).all()


def test_pictures_without_a_range_or_with_several_pages_are_refused(tmp_path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(FramesError, match=r"float\.tif: the picture is of Pillow's mode F; convert it"):
        open_frames(tmp_path / "float.tif", SIZE)[0]
    pages = [Image.fromarray(picture(i)) for i in range(2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(FramesError, match=r"pages\.tif: holds several pictures"):
        open_frames(tmp_path / "pages.tif", SIZE)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(FramesError, match=r"1\.png: "):
        open_frames(tmp_path, SIZE)
    Image.new("1", (8193, 8192)).save(tmp_path / "1.png")
    with pytest.raises(FramesError, match=r"1\.png: the picture is 8192x8193 pixels .*make it smaller"):
        open_frames(tmp_path, SIZE)


IN_MEMORY = {
    "array": np.array,
    "tensor": lambda pictures: torch.from_numpy(np.array(pictures)),
    "read-only array": lambda pictures: np.broadcast_to(np.array(pictures), (4, HEIGHT, WIDTH, 3)),
    "list of arrays": list,
    "tuple of tensors": lambda pictures: tuple(map(torch.from_numpy, pictures)),
    "list of PIL images": lambda pictures: [Image.fromarray(image) for image in pictures],
    "generator of arrays": iter,
    "generator of PIL images": lambda pictures: map(Image.fromarray, pictures),
}


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_pictures_in_memory_are_frames(kind):
    pictures = [picture(number) for number in (0, 50, 7, 255)]
    frames = open_frames(IN_MEMORY[kind](pictures), SIZE)
    assert (len(frames), frames.size) == (4, (HEIGHT, WIDTH))
    for i in (3, 0, 2, 1):
        expected = Image.fromarray(pictures[i]).resize((SIZE, SIZE))
        np.testing.assert_array_equal(frames[i].permute(1, 2, 0).numpy(), np.array(expected))


def test_a_list_of_paths_keeps_its_order(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in (5, 3, 9)]
    for path in paths:
        Image.fromarray(picture(int(path.stem))).save(path)
    assert numbers(open_frames([str(path) for path in paths], SIZE), range(3)) == [5, 3, 9]


def test_an_iterator_is_read_once_and_costs_its_model_frames():
    frames = open_frames((picture(number, 200, 300) for number in range(6)), 32)
    stored = [frames[i].untyped_storage().nbytes() for i in range(6)]
    assert stored == [3 * 32 * 32] * 6
    assert frames[2] is frames[2]


def test_a_normalised_tensor_is_passed_through():
    tensor = torch.randn(3, 3, SIZE, SIZE)
    for video in (tensor, tensor.numpy(), np.broadcast_to(tensor.numpy(), tensor.shape)):
        frames = open_frames(video, SIZE, video_height=HEIGHT, video_width=WIDTH)
        assert (len(frames), frames.size) == (3, (HEIGHT, WIDTH))
        torch.testing.assert_close(frames[2], tensor[2], atol=0, rtol=0)


NORMALISED = torch.zeros(2, 3, SIZE, SIZE)
UINT8 = np.zeros((2, 9, 9, 3), np.uint8)
MISTAKES = [
    (NORMALISED, {}, "video_height is None, video_width is None"),
    (NORMALISED, {"video_height": 9}, "video_width is None"),
    (NORMALISED, {"video_height": 9, "video_width": 0}, "video_width is 0"),
    (NORMALISED.double(), {"video_height": 9, "video_width": 9}, "float64.*expected float32"),
    (
        NORMALISED[:, :, :9],
        {"video_height": 9, "video_width": 9},
        r"\(2, 3, 9, 64\), expected \(T, 3, 64, 64\)",
    ),
    (NORMALISED[:0], {"video_height": 9, "video_width": 9}, "no frames"),
    (UINT8 / 255, {"video_height": 9, "video_width": 9}, "pixels are given as uint8"),
    (UINT8, {"video_height": 9, "video_width": 9}, "belong to a normalised float32 tensor"),
    (UINT8[:0], {}, "at least one frame"),
    (UINT8[0], {}, r"for one picture give video\[None\]"),
    (UINT8.transpose(0, 3, 1, 2), {}, r"use permute\(0, 2, 3, 1\)"),
    (UINT8.astype(np.int64), {}, "frame 0: a frame is int64"),
    ([], {}, "the list of frames is empty"),
    (iter([]), {}, "gives no frames"),
    ([UINT8[0], UINT8[0, :5]], {}, "frame 1: is 5x9 pixels, the first frame is 9x9"),
    (iter([UINT8[0], UINT8[0, :5]]), {}, "frame 1: is 5x9 pixels"),
    ([UINT8[0], "a.png"], {}, "frame 1: a frame is of type str"),
    (iter([UINT8[0], None]), {}, "frame 1: a frame is of type NoneType"),
    ([UINT8[0].transpose(2, 0, 1)], {}, r"frame 0: .*\(3, 9, 9\).*use permute\(1, 2, 0\)"),
    (7, {}, "of type int, expected a video file"),
    (b"video.mp4", {}, "of type bytes"),
    ({"a": 1}, {}, "of type dict"),
    ("rtsp://camera/1", {}, "is a URL"),
    ("", {}, "is empty"),
]


@pytest.mark.parametrize(("video", "sizes", "message"), MISTAKES)
def test_mistakes_are_told(video, sizes, message):
    with pytest.raises(FramesError, match=message):
        open_frames(video, SIZE, **sizes)


def test_impossible_settings_are_refused():
    for settings in ({"size_px": 0}, {"size_px": 64, "cache": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            open_frames(UINT8, **settings)


def test_frames_are_resized_as_in_the_reference():
    case = golden.case("frame_io")
    image = golden.inputs.image(*case.meta["image"])
    frame = to_model_frame(image, case.meta["size"]).permute(1, 2, 0).numpy()
    # one step of grey: Pillow's versions round differently
    assert np.abs(frame[7::16, 5::16].astype(int) - case["u8_sub"]).max() <= 1
    np.testing.assert_allclose(frame.mean((0, 1)), case["u8_mean"], atol=0.01)


def test_importing_is_light():
    code = (
        "import sys, sam2.video_frames, sam2.streaming_source\n"
        "print(sorted({'av', 'decord', 'lightning', 'hydra', 'webdataset', 'data', 'timm'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
