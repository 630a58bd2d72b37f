"""From source media to the bytes of a shard's media member: proxy mp4, packed JPEGs, or the file as it is.

Frames are decoded once, in order, with PyAV; a rotation flag of the file is applied, as players and decord do. Every
encoder runs on one thread, so that the same input gives the same bytes on every machine.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from data.clip import AnnotatedVideo, DataError
from data.diagnose import reason, structure_problem

MAX_ORIGINAL_BYTES = 2 << 30
_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_ONE_FRAME_A_PACKET = ("h264", "hevc")
_UPRIGHT = 0x0112  # EXIF tag "Orientation", 1 or absent when upright


@dataclass(frozen=True)
class EncodeOptions:
    """How media are stored.

    Attributes:
        media: "proxy", an H.264 mp4 of the annotated frames; "jpeg", one JPEG for each; "original", the source file.
        crf: quality of the proxy, lower is better; 20 gives 46 to 48 dB.
        gop: frames from keyframe to keyframe of the proxy.
        preset: x264 preset of the proxy.
        jpeg_quality: 1 to 95.
    """

    media: str = "proxy"
    crf: int = 20
    gop: int = 8
    preset: str = "medium"
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        if self.media not in _ENCODERS:
            raise ValueError(f"media must be one of {', '.join(_ENCODERS)}, got {self.media!r}")
        if self.preset not in _PRESETS:
            raise ValueError(f"preset must be one of {', '.join(_PRESETS)}, got {self.preset!r}")
        for name, least, most in (("crf", 0, 51), ("gop", 1, 250), ("jpeg_quality", 1, 95)):
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{name} must be a whole number from {least} to {most}, got {value!r}")


@dataclass(frozen=True)
class EncodedMedia:
    """A media member and what `meta.json` says about it; fields as in `data.shard.SampleMeta`."""

    member: str
    raw: bytes
    is_proxy: bool
    height: int
    width: int
    frames: int
    frame_index: tuple[int, ...]
    keyframes: tuple[int, ...] = ()
    jpgs: tuple[tuple[int, int], ...] = ()


def encode_media(video: AnnotatedVideo, options: EncodeOptions, threads: int = 1) -> EncodedMedia:
    """The media member of `video`; images are always stored as one JPEG.

    Args:
        video: what to encode.
        options: how.
        threads: decoder threads, 0 for as many as there are cores (they do not change the result).

    Raises:
        DataError: the media is missing, damaged, too short, or of another size than its masks.
    """
    if not video.media.is_file():
        raise DataError(
            f'{video.media}, clip "{video.key}": no such file; restore it or remove its annotation'
        )
    if video.fps == 0:
        return _image(video, options)
    return _ENCODERS[options.media](video, options, threads)


def probe_fps(path: Path) -> float:
    """Frames per second of a video, from its header.

    Raises:
        DataError: not a video that FFmpeg can open.
    """
    with _open(path, 1) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise DataError(f"{path}: does not say its frame rate; re-encode the video")
        return float(rate)


def _proxy(video: AnnotatedVideo, options: EncodeOptions, threads: int) -> EncodedMedia:
    """H.264 mp4 of the annotated frames: a keyframe every `gop` frames, no B-frames, yuv420p."""
    height, width = video.height + video.height % 2, video.width + video.width % 2
    rate = Fraction(video.fps / max(1, frame_stride(video.frame_index))).limit_denominator(1001)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=max(rate, Fraction(1, 1000)))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.thread_count = 1
        gop = str(options.gop)
        stream.options = (
            {"crf": str(options.crf), "preset": options.preset, "g": gop, "keyint_min": gop}
            | {
                "sc_threshold": "0",  # no keyframe at scene cuts: the grid stays regular
                "bf": "0",
                "mbtree": "0",  # it reads memory that was never written (x264's AVX-512 code): the bytes would vary
            }
        )
        for k, frame in enumerate(_frames_at(video, threads)):
            picture = _even_picture(frame)
            if k == 0:
                stream.codec_context.colorspace = picture.colorspace
                stream.codec_context.color_range = picture.color_range
            picture.pts, picture.time_base = k, 1 / stream.codec_context.framerate
            picture.pict_type = PictureType.NONE  # else the encoder repeats the source's frame types
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    frames = len(video.frame_index)
    return EncodedMedia(
        member="mp4",
        raw=buffer.getvalue(),
        is_proxy=True,
        height=height,
        width=width,
        frames=frames,
        frame_index=tuple(range(frames)),
        keyframes=tuple(range(0, frames, options.gop)),
    )


def _jpegs(video: AnnotatedVideo, options: EncodeOptions, threads: int) -> EncodedMedia:
    """The annotated frames as JPEGs, one after the other."""
    pieces = [_jpeg(Image.fromarray(_upright(frame)), options) for frame in _frames_at(video, threads)]
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    frames = len(pieces)
    return EncodedMedia(
        member="jpgs",
        raw=b"".join(pieces),
        is_proxy=True,
        height=video.height,
        width=video.width,
        frames=frames,
        frame_index=tuple(range(frames)),
        jpgs=tuple((end - len(piece), len(piece)) for end, piece in zip(ends, pieces, strict=True)),
    )


def _original(video: AnnotatedVideo, options: EncodeOptions, threads: int) -> EncodedMedia:
    """The source file, decoded once to count its frames and find its keyframes."""
    size = video.media.stat().st_size
    if size > MAX_ORIGINAL_BYTES:
        raise DataError(
            f'{video.media}, clip "{video.key}": {size} bytes are too many for one member '
            f"(at most {MAX_ORIGINAL_BYTES}); convert with --media proxy"
        )
    keyframes, frames = [], 0
    for frame in _decode(video, threads):
        if frame.key_frame:
            keyframes.append(frames)
        frames += 1
    if frames <= video.frame_index[-1]:
        raise _too_short(video, frames)
    return EncodedMedia(
        member="mp4",
        raw=video.media.read_bytes(),
        is_proxy=False,
        height=video.height,
        width=video.width,
        frames=frames,
        frame_index=video.frame_index,
        keyframes=tuple(keyframes),
    )


_ENCODERS = {"proxy": _proxy, "jpeg": _jpegs, "original": _original}


def _image(video: AnnotatedVideo, options: EncodeOptions) -> EncodedMedia:
    """One image: the file itself where it is an upright JPEG, else a JPEG of it."""
    where = f'{video.media}, clip "{video.key}"'
    if video.frame_index != (0,):
        raise DataError(f"{where}: an image has the one annotated frame 0, got {video.frame_index}")
    try:
        with Image.open(video.media) as image:
            if (image.height, image.width) != (video.height, video.width):
                raise _wrong_size(video, image.height, image.width)
            if image.format == "JPEG" and image.mode == "RGB" and image.getexif().get(_UPRIGHT, 1) == 1:
                image.load()
                raw = video.media.read_bytes()
            else:
                raw = _jpeg(image.convert("RGB"), options)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError) as error:
        raise DataError(f"{where}: not a readable image ({error})") from error
    return EncodedMedia("jpg", raw, True, video.height, video.width, 1, (0,))


def _jpeg(image: Image.Image, options: EncodeOptions) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=options.jpeg_quality)
    return buffer.getvalue()


def frame_stride(frame_index: Sequence[int]) -> int:
    """Media frames from one annotated frame to the next: the usual step; 0 for a single frame."""
    steps = Counter(b - a for a, b in zip(frame_index, frame_index[1:], strict=False))
    return min(steps, key=lambda step: (-steps[step], step)) if steps else 0


@contextmanager
def _open(path: Path, threads: int) -> Iterator[tuple[Any, Any]]:
    """Container and video stream; FFmpeg's complaints become DataErrors that name the file."""
    try:
        with av.open(str(path), "r", metadata_errors="replace") as container:
            if not container.streams.video:
                raise DataError(f"{path}: holds no video stream")
            stream: Any = container.streams.video[0]
            stream.thread_count = threads
            stream.thread_type = "AUTO"
            yield container, stream
    except (av.FFmpegError, EOFError) as error:
        with path.open("rb") as file:
            problem = structure_problem(file, path.stat().st_size)
        problem = problem or f"is damaged or not a video ({reason(error)})"
        raise DataError(f"{path}: {problem}; re-encode or remove it") from error


def _decode(video: AnnotatedVideo, threads: int) -> Iterator[av.VideoFrame]:
    """All frames of a video in order, each checked for its size, their number for what the file holds."""
    where = f'{video.media}, clip "{video.key}"'
    number = held = 0
    with _open(video.media, threads) as (container, stream):
        for packet in container.demux(stream):
            held += packet.size > 0 and not packet.is_discard
            for frame in packet.decode():
                turned = frame.rotation % 180 == 90
                height, width = (frame.width, frame.height) if turned else (frame.height, frame.width)
                if (height, width) != (video.height, video.width):
                    raise _wrong_size(video, height, width)
                if frame.is_corrupt:
                    raise DataError(f"{where}: frame {number} is damaged; re-encode or remove the video")
                yield frame
                number += 1
        # A decoder that gives up on a frame leaves it out, and every later frame would have the wrong number.
        if number < held and stream.codec_context.name in _ONE_FRAME_A_PACKET:
            raise DataError(
                f"{where}: {held - number} of {held} frames are damaged; re-encode or remove the video"
            )


def _frames_at(video: AnnotatedVideo, threads: int) -> Iterator[av.VideoFrame]:
    """The annotated frames, in order; the rest of the video is decoded too, to notice damage."""
    wanted = iter(video.frame_index)
    target, number = next(wanted), -1
    for number, frame in enumerate(_decode(video, threads)):
        if number == target:
            yield frame
            target = next(wanted, -1)
    if target >= 0:
        raise _too_short(video, number + 1)


def _upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """RGB picture (H, W, 3) with the rotation flag applied."""
    picture = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarter_turns)) if quarter_turns else picture


def _even_picture(frame: av.VideoFrame) -> Any:
    """A yuv420p frame; odd sides get one more row or column, a copy of the last."""
    if frame.rotation % 360 == 0 and frame.height % 2 == 0 and frame.width % 2 == 0:
        return frame.reformat(format="yuv420p")  # no detour through RGB
    picture = _upright(frame)
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return av.VideoFrame.from_ndarray(padded, format="rgb24").reformat(format="yuv420p")


def _wrong_size(video: AnnotatedVideo, height: int, width: int) -> DataError:
    return DataError(
        f'{video.media}, clip "{video.key}": frames are {height}x{width}, masks are {video.height}x{video.width}; '
        "export masks at frame size"
    )


def _too_short(video: AnnotatedVideo, frames: int) -> DataError:
    return DataError(
        f'{video.media}, clip "{video.key}": has {frames} frames, the last annotated frame is number '
        f"{video.frame_index[-1]}; the video is cut off or belongs to another annotation"
    )
