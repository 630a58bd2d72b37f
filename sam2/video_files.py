"""Video files: frame i is the i-th picture that a decode from the beginning shows, whichever way it is reached.

FFmpeg reads them through PyAV: on from where it stands, or from the keyframe before the frame; every picture is
recognised by its time, none by counting from a seek. decord 0.6, which reads training clips in `data`, is not for
this. Between two frames that are asked for it decodes ahead without bound (720p, 100 ms apart: 2.8 GB after 150
frames, PyAV flat). After a jump it gives wrong frames, without an error, where groups of pictures are open (x265's
default), where MPEG-4 has B-frames, and where H.264 refreshes step by step. One thread: 2.9 ms a frame, PyAV 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sam2.pictures import FramesError, Pixels
from sam2.video_timeline import numbered, scan, upright

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


class VideoFile:
    """The pictures of a video file by number.

    Args:
        path: the file.

    Attributes:
        size: height and width of the upright pictures.

    Raises:
        FramesError: not a video, without frames, or too large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._timeline = scan(path)
        self._coming: Iterator[tuple[int, VideoFrame]] = iter(())
        self._next = len(self._timeline)  # the first number that can still come
        self.size = self.read(0).shape[:2]

    def __len__(self) -> int:
        return self._timeline.promised

    @property
    def fps(self) -> float | None:
        """Frames a second, on average; None if the file does not say."""
        return self._timeline.fps

    def name(self, frame: int) -> str:
        """How errors call a frame."""
        return f"{self.path}, frame {frame}"

    def read(self, frame: int) -> Pixels:
        """One picture, upright RGB (H, W, 3).

        Raises:
            FramesError: the file is cut off or damaged there; other frames can still be read.
        """
        held = len(self._timeline)
        if frame >= held:
            raise FramesError(
                f"{self.name(frame)}: the file is cut off after {held} of {self._timeline.promised} frames; get it "
                "again, or re-encode what is left"
            )
        picture = self._found(frame)
        if picture is None:
            raise FramesError(
                f"{self.name(frame)}: is damaged and cannot be decoded; re-encode or repair the video"
            )
        return upright(picture)

    def _found(self, frame: int) -> VideoFrame | None:
        key = self._timeline.key_before(frame)
        if key <= self._next <= frame:
            return self._run(frame)[0]
        picture, first = self._run_from(key, frame)
        # Where H.264 refreshes step by step, a keyframe is none; and some containers do not find theirs.
        if first != key and key > 0:
            picture, _ = self._run_from(0, frame)
        return picture

    def _run_from(self, key: int, frame: int) -> tuple[VideoFrame | None, int | None]:
        self._coming, self._next = numbered(self.path, self._timeline, key), key
        return self._run(frame)

    def _run(self, frame: int) -> tuple[VideoFrame | None, int | None]:
        """Decode up to a frame: the frame, if it comes, and the number of the first that came."""
        first = None
        for number, picture in self._coming:
            first = number if first is None else first
            self._next = number + 1
            if number == frame:
                return picture, first
            if number > frame:
                break
        self._rest()
        return None, first

    def _rest(self) -> None:
        """Let the decoder go; the next frame starts from a keyframe."""
        self._coming, self._next = iter(()), len(self._timeline)
