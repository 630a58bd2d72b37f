"""Where the pixels of a clip are before they are in a shard: a video file, images, or pictures that a source computes.

Frames are decoded once, in order. A rotation flag of a video is applied, as players and decord do; the EXIF
orientation of an image is applied only where its masks have the size of the turned picture, because tools differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from data.checking.diagnose import reason, structure_problem
from data.clip import AnnotatedVideo, DataError, ImageFiles, VideoFile

MAX_PIXELS = 1 << 28  # of one image, before memory is spent on it
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
ORIENTATION = 0x0112  # EXIF tag, 1 or absent when upright

_BROKEN_IMAGE = (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError)
_ONE_FRAME_A_PACKET = ("h264", "hevc")

Frame = av.VideoFrame | NDArray[np.uint8]
"""A frame as it was decoded, or an RGB picture (H, W, 3)."""


def frames_at(video: AnnotatedVideo, threads: int = 1) -> Iterator[Frame]:
    """The annotated frames of `video`, in order, each of the size of its masks.

    Args:
        video: what to read.
        threads: decoder threads, 0 for as many as there are cores (they do not change the result).

    Raises:
        DataError: a file is missing, damaged, too short, or of another size than the masks.
    """
    for path in video.media.files:
        if not path.is_file():
            raise DataError(
                f'{path}, clip "{video.key}": no such file; restore it or remove its annotation',
                "missing-media",
            )
    if isinstance(video.media, VideoFile):
        yield from _video_frames(video, threads)
    elif isinstance(video.media, ImageFiles):
        _expect_count(video, len(video.media.paths))
        for path in video.media.paths:
            with open_image(path) as image:
                yield np.asarray(upright(image, video, path).convert("RGB"))
    else:
        number = 0
        for number, picture in enumerate(video.media.read(), 1):  # noqa: B007
            yield _checked_picture(video, picture)
        _expect_count(video, number)


@contextmanager
def open_image(path: Path, file: BinaryIO | None = None) -> Iterator[Image.Image]:
    """An image file; what is wrong with it becomes a DataError that names it.

    Args:
        path: of the file, or what messages name if its bytes are in `file`.
        file: None: read `path`.

    Raises:
        DataError: not an image, damaged, too large, or of more than 8 bits a channel.
    """
    try:
        with Image.open(file or path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{path}: {image.height}x{image.width} is too large a picture; make it smaller", "media"
                )
            if image.mode.startswith(("I", "F")):
                raise DataError(
                    f"{path}: has more than 8 bits a channel (mode {image.mode}); choose a range of values and save it "
                    "with 8 bits",
                    "media",
                )
            yield image
    except DataError:
        raise
    except _BROKEN_IMAGE as error:
        raise DataError(f"{path}: not a readable image ({error}); restore or remove it", "media") from error


def upright(image: Image.Image, video: AnnotatedVideo, path: Path) -> Image.Image:
    """The image at the size of its masks: as it is stored, or turned as its EXIF orientation says.

    Raises:
        DataError: neither has that size.
    """
    if (image.height, image.width) == (video.height, video.width):
        return image
    turned = ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) > 4 else image
    if (turned.height, turned.width) != (video.height, video.width):
        raise _wrong_size(video, path, image.height, image.width)
    return turned


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file as it is stored, from its header.

    Raises:
        DataError: see `open_image`.
    """
    with open_image(path) as image:
        return image.height, image.width


def seen_size(path: Path, where: str) -> tuple[int, int]:
    """Height and width of an image as a person sees it, its EXIF orientation applied.

    For masks that were drawn on what is seen. That is the picture that `frames_at` gives, but where the size does not
    tell whether a picture was turned: such an image is refused.

    Args:
        path: of the image.
        where: file and place that name it, for the message.

    Raises:
        DataError: no such file, not readable (see `open_image`), or as above.
    """
    if not path.is_file():
        raise DataError(
            f"{where}: its image {path} is missing; restore it or remove its annotation", "missing-media"
        )
    with open_image(path) as image:
        orientation = image.getexif().get(ORIENTATION, 1)
        if orientation in (2, 3, 4) or (5 <= orientation <= 8 and image.height == image.width):
            raise DataError(
                f"{path}: is turned or mirrored by its EXIF orientation ({orientation}); save it upright, as it was "
                "annotated"
            )
        return (image.width, image.height) if 5 <= orientation <= 8 else (image.height, image.width)


def probe_fps(path: Path) -> float:
    """Frames per second of a video, from its header.

    Raises:
        DataError: not a video that FFmpeg can open.
    """
    with open_video(path, 1) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise DataError(f"{path}: does not say its frame rate; re-encode the video", "media")
        return float(rate)


@contextmanager
def open_video(path: Path, threads: int) -> Iterator[tuple[Any, Any]]:
    """Container and video stream; FFmpeg's complaints become DataErrors that name the file."""
    try:
        with av.open(str(path), "r", metadata_errors="replace") as container:
            if not container.streams.video:
                raise DataError(f"{path}: holds no video stream", "media")
            stream: Any = container.streams.video[0]
            stream.thread_count = threads
            stream.thread_type = "AUTO"
            yield container, stream
    except (av.FFmpegError, EOFError) as error:
        with path.open("rb") as file:
            problem = structure_problem(file, path.stat().st_size)
        problem = problem or f"is damaged or not a video ({reason(error)})"
        raise DataError(f"{path}: {problem}; re-encode or remove it", "media") from error


def decode_all(video: AnnotatedVideo, threads: int) -> Iterator[av.VideoFrame]:
    """All frames of a video file in order, each checked for its size, their number for what the file holds."""
    path = video.media.path
    where = f'{path}, clip "{video.key}"'
    number = held = 0
    with open_video(path, threads) as (container, stream):
        for packet in container.demux(stream):
            held += packet.size > 0 and not packet.is_discard
            for frame in packet.decode():
                turned = frame.rotation % 180 == 90
                height, width = (frame.width, frame.height) if turned else (frame.height, frame.width)
                if (height, width) != (video.height, video.width):
                    raise _wrong_size(video, path, height, width)
                if frame.is_corrupt:
                    raise DataError(
                        f"{where}: frame {number} is damaged; re-encode or remove the video", "media"
                    )
                yield frame
                number += 1
        # A decoder that gives up on a frame leaves it out, and every later frame would have the wrong number.
        if number < held and stream.codec_context.name in _ONE_FRAME_A_PACKET:
            raise DataError(
                f"{where}: {held - number} of {held} frames are damaged; re-encode or remove the video",
                "media",
            )


def too_short(video: AnnotatedVideo, frames: int) -> DataError:
    """A video that ends before its last annotated frame."""
    return DataError(
        f'{video.media.path}, clip "{video.key}": has {frames} frames, the last annotated frame is number '
        f"{video.frame_index[-1]}; the video is cut off or belongs to another annotation",
        "count-mismatch",
    )


def rgb(frame: Frame) -> NDArray[np.uint8]:
    """RGB picture (H, W, 3) with the rotation flag applied."""
    if isinstance(frame, np.ndarray):
        return frame
    picture = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarter_turns)) if quarter_turns else picture


def _video_frames(video: AnnotatedVideo, threads: int) -> Iterator[av.VideoFrame]:
    """The annotated frames; the rest of the video is decoded too, to notice damage."""
    wanted = iter(video.frame_index)
    target, number = next(wanted), -1
    for number, frame in enumerate(decode_all(video, threads)):
        if number == target:
            yield frame
            target = next(wanted, -1)
    if target >= 0:
        raise too_short(video, number + 1)


def _checked_picture(video: AnnotatedVideo, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A computed picture as RGB."""
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
        raise TypeError(f"pictures must be (H, W) or (H, W, 3) uint8, got {picture.shape} {picture.dtype}")
    if picture.shape[:2] != (video.height, video.width):
        raise _wrong_size(video, video.media.path, *picture.shape[:2])
    return np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture


def _expect_count(video: AnnotatedVideo, count: int) -> None:
    if count != len(video.frame_index):
        raise DataError(
            f'{video.media.path}, clip "{video.key}": {count} pictures for {len(video.frame_index)} annotated frames',
            "count-mismatch",
        )


def _wrong_size(video: AnnotatedVideo, path: Path, height: int, width: int) -> DataError:
    return DataError(
        f'{path}, clip "{video.key}": frames are {height}x{width}, masks are {video.height}x{video.width}; '
        "export masks at frame size",
        "size-mismatch",
    )
