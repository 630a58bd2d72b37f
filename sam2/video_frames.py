"""The frames of a video at model size, from whatever holds one, decoded when they are asked for.

Files, folders and arrays cost what their few cached frames cost, whatever their length. An iterator can be read only
once, so its frames are kept, as the model sees them: 3 * S * S bytes each.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import IOBase
from operator import index as whole_number
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sam2.picture_files import SUFFIXES, PictureFiles, pictures_in
from sam2.pictures import FramesError, Picture, Pixels, as_rgb, check_same_size, picture_size, to_model_frame
from sam2.video_files import VideoFile

if TYPE_CHECKING:
    from sam2.video_state import Frames

__all__ = ["CACHED", "FramesError", "open_frames", "open_path", "to_model_frame"]

CACHED = 16  # 50 MB at 1024 pixels
_ACCEPTED = (
    "a video file, a folder of pictures, a picture file, an array (T, H, W, 3) uint8, a list or an iterator of "
    "pictures, or a normalised float32 tensor (T, 3, S, S) with video_height and video_width"
)


def open_frames(
    video: str | os.PathLike[str] | NDArray[Any] | Tensor | Picture | Iterable[Picture],
    size_px: int,
    *,
    video_height: int | None = None,
    video_width: int | None = None,
    cache: int = CACHED,
) -> Frames:
    """The frames of a video, each (3, size_px, size_px), by number, in any order.

    Args:
        video: a video file (any that FFmpeg reads); a folder of pictures, in natural order of their names, or one
            picture; pictures as an array or tensor (T, H, W, 3) uint8, as a list of paths, arrays or PIL images, or
            from an iterator, which is read to its end here; or a normalised (ImageNet) float32 tensor (T, 3, S, S).
        size_px: S, side of the model's input.
        video_height: of the video that a normalised tensor was made from; masks come at that size.
        video_width: as `video_height`.
        cache: frames that are kept once decoded.

    Returns:
        uint8 frames; float32 ones for a normalised tensor. They may be shared: do not write into them.

    Raises:
        FramesError: what was found instead, and what to do. Later on, a frame that is missing or damaged is one too,
            and other frames can still be had.
    """
    if size_px < 1 or cache < 1:
        raise ValueError(f"size_px and cache must be at least 1, got {size_px} and {cache}")
    if _is_array(video) and _is_float(video):
        return NormalisedFrames(video, size_px, video_height, video_width)
    if video_height is not None or video_width is not None:
        raise FramesError(
            "video_height and video_width belong to a normalised float32 tensor (T, 3, S, S); other videos have a size"
        )
    if isinstance(video, (str, os.PathLike)):
        return open_path(video, size_px, cache=cache)
    if isinstance(video, Image.Image):
        return LazyFrames(_Pictures([video]), size_px, cache)
    if _is_array(video):
        return LazyFrames(_Pictures(_array_of_pictures(video)), size_px, cache)
    if isinstance(video, Sequence) and not isinstance(video, (bytes, bytearray, memoryview)):
        return LazyFrames(_from_list(video), size_px, cache)
    if isinstance(video, Iterable) and not isinstance(
        video, (bytes, bytearray, memoryview, dict, set, IOBase)
    ):
        return StoredFrames(video, size_px)
    raise FramesError(f"video is of type {type(video).__name__}, expected {_ACCEPTED}")


def open_path(path: str | os.PathLike[str], size_px: int, *, cache: int = CACHED) -> LazyFrames:
    """The frames of a video file, a folder of pictures or a picture, as `open_frames`; also at their own size.

    Raises:
        FramesError: as `open_frames`.
    """
    return LazyFrames(_from_path(os.fspath(path)), size_px, cache)


class PictureSource(Protocol):
    """Pictures of one size by number, decoded when they are asked for."""

    size: tuple[int, int]

    def __len__(self) -> int: ...

    def name(self, frame: int) -> str:
        """How errors call a frame."""
        ...

    def read(self, frame: int) -> Picture:
        """One picture.

        Raises:
            FramesError: it cannot be had.
        """
        ...


class LazyFrames:
    """Frames that are decoded when they are asked for; the last few are kept.

    Attributes:
        size: height and width of the video.
    """

    def __init__(self, pictures: PictureSource, size_px: int, cache: int) -> None:
        self.size = pictures.size
        self._pictures, self._size_px, self._capacity = pictures, size_px, cache
        self._cache: OrderedDict[int, Tensor] = OrderedDict()
        self._last = 0

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, frame: int) -> Tensor:
        frame = _checked(frame, len(self))
        if frame not in self._cache:
            if isinstance(self._pictures, VideoFile) and 0 < self._last - frame <= self._capacity:
                # Backwards, a video decodes from a keyframe again and again: keep what comes on the way.
                for earlier in range(max(0, frame - self._capacity + 1), frame):
                    with suppress(FramesError):  # of a frame that nobody asked for yet
                        self._load(earlier)
            self._load(frame)
        self._cache.move_to_end(frame)
        self._last = frame
        return self._cache[frame]

    @property
    def fps(self) -> float | None:
        """Frames a second, on average; None if they are pictures."""
        return self._pictures.fps if isinstance(self._pictures, VideoFile) else None

    def file_name(self, frame: int) -> str | None:
        """The file that a frame was read from; None where all frames are in one, or in none."""
        return self._pictures.file_name(frame) if isinstance(self._pictures, PictureFiles) else None

    def picture(self, frame: int) -> Pixels:
        """A frame at the video's size, RGB (H, W, 3).

        Raises:
            FramesError: it is missing or damaged.
        """
        picture = as_rgb(self._pictures.read(_checked(frame, len(self))))
        check_same_size(picture.shape[:2], self.size, self._pictures.name(frame))
        return picture

    def _load(self, frame: int) -> None:
        self._cache[frame] = to_model_frame(self.picture(frame), self._size_px)
        while len(self._cache) > self._capacity:
            self._cache.popitem(last=False)


class StoredFrames:
    """Frames from an iterator, read once and kept at model size.

    Attributes:
        size: height and width of the video.

    Raises:
        FramesError: no frame, something else than pictures, or pictures of several sizes.
    """

    def __init__(self, pictures: Iterable[Picture], size_px: int) -> None:
        self._frames: list[Tensor] = []
        for number, picture in enumerate(pictures):
            with _naming(f"frame {number}"):
                size = picture_size(picture)
                self._frames.append(to_model_frame(picture, size_px))
            if number == 0:
                self.size = size
            check_same_size(size, self.size, f"frame {number}")
        if not self._frames:
            raise FramesError("the iterator gives no frames; was it used before?")

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, frame: int) -> Tensor:
        return self._frames[_checked(frame, len(self))]


class NormalisedFrames:
    """Frames that are ready for the model, (T, 3, S, S) float32 after ImageNet normalisation.

    Attributes:
        size: height and width of the video that they were made from.

    Raises:
        FramesError: another shape or type, or a size that is not given.
    """

    def __init__(
        self, frames: NDArray[Any] | Tensor, size_px: int, height: int | None, width: int | None
    ) -> None:
        shape = tuple(frames.shape)
        expected = f"(T, 3, {size_px}, {size_px})"
        if shape[1:] != (3, size_px, size_px):
            raise FramesError(
                f"video is a float tensor of shape {shape}, expected {expected} after normalisation; pixels are given "
                "as uint8 (T, H, W, 3)"
            )
        if shape[0] == 0:
            raise FramesError(f"video has shape {shape}: no frames")
        if frames.dtype not in (np.float32, torch.float32):
            raise FramesError(f"video is {frames.dtype} {shape}, expected float32; convert it with .float()")
        if height is None or width is None or height < 1 or width < 1:
            raise FramesError(
                f"a normalised tensor needs the size of its video: video_height is {height}, video_width is {width}"
            )
        self.size = (whole_number(height), whole_number(width))
        self._frames = frames if isinstance(frames, Tensor) else torch.from_numpy(_writable(frames))

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, frame: int) -> Tensor:
        return self._frames[_checked(frame, len(self))]


class _Pictures:
    """Pictures in memory: a list, or an array with the frames first."""

    def __init__(self, pictures: Sequence[Picture] | NDArray[Any] | Tensor) -> None:
        self._pictures = pictures
        self.size = self._size(0)
        for frame in range(len(pictures)) if isinstance(pictures, Sequence) else ():
            check_same_size(self._size(frame), self.size, self.name(frame))

    def __len__(self) -> int:
        return len(self._pictures)

    def name(self, frame: int) -> str:
        return f"frame {frame}"

    def read(self, frame: int) -> Picture:
        with _naming(self.name(frame)):
            return as_rgb(self._pictures[frame])

    def _size(self, frame: int) -> tuple[int, int]:
        with _naming(self.name(frame)):
            return picture_size(self._pictures[frame])


def _from_path(text: str) -> PictureSource:
    """What is at a path: a video, a folder of pictures, a picture."""
    if "://" in text:
        raise FramesError(
            f"{text}: is a URL; follow streams with sam2.streaming, or download the video first"
        )
    if not text or "\0" in text:
        raise FramesError("the path of the video is empty or has a zero byte")
    path = Path(text)
    if path.is_dir():
        return PictureFiles(pictures_in(path))
    if not path.exists():
        raise FramesError(f"{path}: no such file or folder; check the path")
    if not path.is_file():
        raise FramesError(f"{path}: is neither a file nor a folder; expected {_ACCEPTED}")
    if path.stat().st_size == 0:
        raise FramesError(f"{path}: is empty (0 bytes); was it downloaded or written to its end?")
    return PictureFiles([path]) if path.suffix.lower() in SUFFIXES else VideoFile(path)


def _from_list(video: Sequence[Any]) -> PictureSource:
    """A list of paths, or one of pictures."""
    if len(video) == 0:
        raise FramesError(f"the {type(video).__name__} of frames is empty")
    if all(isinstance(item, (str, os.PathLike)) for item in video):
        return PictureFiles([Path(item) for item in video])
    return _Pictures(video)


def _array_of_pictures(video: NDArray[Any] | Tensor) -> NDArray[Any] | Tensor:
    shape = tuple(video.shape)
    if len(shape) != 4 or shape[0] == 0:
        hint = "; for one picture give video[None]" if len(shape) == 3 else ""
        raise FramesError(f"video has shape {shape}, expected (T, H, W, 3) with at least one frame{hint}")
    if shape[3] != 3 and shape[1] == 3:
        raise FramesError(f"video has shape {shape}, expected (T, H, W, 3); use permute(0, 2, 3, 1)")
    return video


def _is_array(video: object) -> TypeGuard[NDArray[Any] | Tensor]:
    return isinstance(video, (np.ndarray, Tensor))


def _is_float(array: NDArray[Any] | Tensor) -> bool:
    return array.is_floating_point() if isinstance(array, Tensor) else np.issubdtype(array.dtype, np.floating)


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    """Torch wants writable memory of positive strides."""
    plain = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return array if plain else array.copy()


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """What goes wrong inside is about this frame."""
    try:
        yield
    except FramesError as error:
        raise FramesError(f"{name}: {error}") from error


def _checked(frame: int, count: int) -> int:
    frame = whole_number(frame)
    if not 0 <= frame < count:
        raise IndexError(f"there is no frame {frame}; the video has frames 0 to {count - 1}")
    return frame
