"""From source media to the bytes of a shard's media member: proxy mp4, packed JPEGs, or the file as it is.

Every encoder runs on one thread, so that the same input gives the same bytes on every machine.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from PIL import Image

from data.clip import AnnotatedVideo, DataError, ImageFiles, VideoFile
from data.media import ORIENTATION, Frame, decode_all, frames_at, open_image, rgb, too_short, upright

MAX_ORIGINAL_BYTES = 2 << 30
_UNREADABLE_WIDTHS = (
    2,
    4,
    6,
    8,
    12,
    16,
    24,
    48,
    72,
)  # decord 0.6 fails on mp4s of these, and on no other to 400
_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True)
class EncodeOptions:
    """How media are stored.

    Attributes:
        media: "proxy", an H.264 mp4 of the annotated frames; "jpeg", one JPEG for each; "original", the source's files.
        size: longest side of the stored pictures, pixels; larger ones are shrunk, their masks are not.
        crf: quality of the proxy, lower is better; 19 gives 45 dB or more, see benchmarks/loader.py.
        gop: frames from keyframe to keyframe of the proxy.
        preset: x264 preset of the proxy.
        jpeg_quality: 1 to 95.
    """

    media: str = "proxy"
    size: int | None = None
    crf: int = 19
    gop: int = 8
    preset: str = "medium"
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        if self.media not in _ENCODERS:
            raise ValueError(f"media must be one of {', '.join(_ENCODERS)}, got {self.media!r}")
        if self.preset not in _PRESETS:
            raise ValueError(f"preset must be one of {', '.join(_PRESETS)}, got {self.preset!r}")
        for name, least, most in (
            ("crf", 0, 51),
            ("gop", 1, 250),
            ("jpeg_quality", 1, 95),
            ("size", 16, 16384),
        ):
            value = getattr(self, name)
            if name == "size" and value is None:
                continue
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{name} must be a whole number from {least} to {most}, got {value!r}")
        if self.media == "original" and self.size is not None:
            raise ValueError("size goes with media proxy or jpeg; original files are stored as they are")

    def stored_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which a picture is stored: even numbers where it is shrunk, as video needs them."""
        if self.size is None or max(height, width) <= self.size:
            return height, width
        scale = self.size / max(height, width)
        sides = [max(2, 2 * round(side * scale / 2)) for side in (height, width)]
        return min(sides[0], height), min(sides[1], width)


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
    if video.fps == 0:
        return _image(video, options)
    return _ENCODERS[options.media](video, options, threads)


def _proxy(video: AnnotatedVideo, options: EncodeOptions, threads: int) -> EncodedMedia:
    """H.264 mp4 of the annotated frames: a keyframe every `gop` frames, no B-frames, yuv420p."""
    height, width = options.stored_size(video.height, video.width)
    is_shrunk = (height, width) != (video.height, video.width)
    height, width = height + height % 2, readable_width(width)
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
                "tune": "psnr",  # bits go where pixels differ, not where eyes look: 30 % fewer at equal error
                "sc_threshold": "0",  # no keyframe at scene cuts: the grid stays regular
                "bf": "0",
                "mbtree": "0",  # it reads memory that was never written (x264's AVX-512 code): the bytes would vary
            }
        )
        for k, frame in enumerate(frames_at(video, threads)):
            picture = _fitted(frame, height, width, is_shrunk)
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
    height, width = options.stored_size(video.height, video.width)
    pieces = (_jpeg(Image.fromarray(rgb(frame)), options) for frame in frames_at(video, threads))
    return _packed(pieces, height, width)


def _original(video: AnnotatedVideo, options: EncodeOptions, threads: int) -> EncodedMedia:
    """The source's files: a video, decoded once to count its frames and find its keyframes, or JPEGs."""
    if isinstance(video.media, ImageFiles):
        return _packed((_as_it_is(path, video) for path in video.media.paths), video.height, video.width)
    if not isinstance(video.media, VideoFile):
        raise DataError(
            f'{video.media.path}, clip "{video.key}": its pictures are computed; convert with --media proxy or jpeg'
        )
    path = video.media.path
    size = path.stat().st_size if path.is_file() else 0
    if size > MAX_ORIGINAL_BYTES:
        raise DataError(
            f'{path}, clip "{video.key}": {size} bytes are too many for one member '
            f"(at most {MAX_ORIGINAL_BYTES}); convert with --media proxy"
        )
    keyframes, frames = [], 0
    for frame in decode_all(video, threads):
        if frame.key_frame:
            keyframes.append(frames)
        frames += 1
    if frames <= video.frame_index[-1]:
        raise too_short(video, frames)
    if video.width in _UNREADABLE_WIDTHS:
        raise DataError(
            f'{path}, clip "{video.key}": videos {video.width} pixels wide cannot be read again; convert with '
            "--media proxy"
        )
    return EncodedMedia(
        member="mp4",
        raw=path.read_bytes(),
        is_proxy=False,
        height=video.height,
        width=video.width,
        frames=frames,
        frame_index=video.frame_index,
        keyframes=tuple(keyframes),
    )


_ENCODERS = {"proxy": _proxy, "jpeg": _jpegs, "original": _original}


def _packed(pieces: Iterator[bytes], height: int, width: int) -> EncodedMedia:
    """JPEGs one after the other."""
    packed, sizes = bytearray(), []
    for piece in pieces:
        packed += piece
        sizes.append(len(piece))
    ends = np.cumsum(sizes).tolist()
    return EncodedMedia(
        member="jpgs",
        raw=bytes(packed),
        is_proxy=True,
        height=height,
        width=width,
        frames=len(sizes),
        frame_index=tuple(range(len(sizes))),
        jpgs=tuple((end - size, size) for end, size in zip(ends, sizes, strict=True)),
    )


def _image(video: AnnotatedVideo, options: EncodeOptions) -> EncodedMedia:
    """One image: the file itself where it is an upright JPEG that need not shrink, else a JPEG of it."""
    if video.frame_index != (0,):
        raise DataError(
            f'{video.media.path}, clip "{video.key}": an image has the one annotated frame 0, got {video.frame_index}'
        )
    height, width = options.stored_size(video.height, video.width)
    keep = isinstance(video.media, ImageFiles) and (height, width) == (video.height, video.width)
    if keep and _is_plain_jpeg(video.media.path, video):
        raw = _as_it_is(video.media.path, video)
    else:
        (frame,) = frames_at(video)
        raw = _jpeg(Image.fromarray(rgb(frame)), options)
    return EncodedMedia("jpg", raw, True, height, width, 1, (0,))


def _is_plain_jpeg(path: Path, video: AnnotatedVideo) -> bool:
    """Whether every reader sees the same upright RGB picture in the file."""
    if not path.is_file():
        raise DataError(f'{path}, clip "{video.key}": no such file; restore it or remove its annotation')
    with open_image(path) as image:
        upright(image, video, path)
        return image.format == "JPEG" and image.mode == "RGB" and image.getexif().get(ORIENTATION, 1) == 1


def _as_it_is(path: Path, video: AnnotatedVideo) -> bytes:
    """The bytes of a JPEG, after decoding it once to notice damage."""
    if not _is_plain_jpeg(path, video):
        raise DataError(
            f'{path}, clip "{video.key}": not an upright RGB JPEG; convert with --media proxy or --media jpeg'
        )
    with open_image(path) as image:
        image.load()
    return path.read_bytes()


def _jpeg(image: Image.Image, options: EncodeOptions) -> bytes:
    height, width = options.stored_size(image.height, image.width)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=options.jpeg_quality)
    return buffer.getvalue()


def frame_stride(frame_index: Sequence[int]) -> int:
    """Media frames from one annotated frame to the next: the usual step; 0 for a single frame."""
    steps = Counter(b - a for a, b in zip(frame_index, frame_index[1:], strict=False))
    return min(steps, key=lambda step: (-steps[step], step)) if steps else 0


def readable_width(width: int) -> int:
    """The least even width from `width` on that can be stored as video and read again."""
    width += width % 2
    while width in _UNREADABLE_WIDTHS:
        width += 2
    return width


def _fitted(frame: Frame, height: int, width: int, is_shrunk: bool) -> Any:
    """A yuv420p frame of this size: the picture shrunk to it, or with copies of its last row and columns added."""
    plain = frame if isinstance(frame, av.VideoFrame) and frame.rotation % 360 == 0 else None
    if plain is not None and (plain.height, plain.width) == (height, width):
        return plain.reformat(format="yuv420p")  # no detour through RGB
    if is_shrunk:
        plain = plain or av.VideoFrame.from_ndarray(rgb(frame), format="rgb24")
        return plain.reformat(width=width, height=height, format="yuv420p", interpolation="LANCZOS")
    picture = rgb(frame)
    missing = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
    padded = np.pad(picture, missing, mode="edge")
    return av.VideoFrame.from_ndarray(padded, format="rgb24").reformat(format="yuv420p")
