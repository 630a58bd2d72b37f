"""Which frames a video file holds, in the order in which they are shown, and FFmpeg's way to them (PyAV).

A walk over the packets, without decoding, finds the frames of almost every file. Where packets do not say what is
shown (AVI with B-frames, VP8, raw streams) the file is decoded once instead. A list costs 8 bytes a frame.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sam2.pictures import MAX_PIXELS, FramesError, Pixels, checked_size

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Containers that hold pictures themselves. A playlist makes FFmpeg read whatever files and hosts it names.
_CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,asf,ogg,mxf,nut,gif,apng,mjpeg,dv,"
    "yuv4mpegpipe"
)
FILE_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
# Every packet shows one frame. VP8, for one, has packets that show nothing.
_FRAME_A_PACKET = frozenset(
    "h264 hevc vp9 av1 libdav1d mpeg4 mpeg1video mpeg2video mjpeg prores ffv1 gif apng rawvideo".split()
)
_THREADS = 4  # each holds a frame
_CUT_OFF_S = 0.5  # a Matroska file that ends so long before its header says is cut off


@dataclass(frozen=True)
class Timeline:
    """The frames of a video in the order in which they are shown.

    Attributes:
        times: (N,) ascending; the frames' numbers if they have no times of use.
        keys: numbers of frames at which decoding can start, ascending; 0 is one.
        starts: for each of them, a time of the stream before which its packet does not come.
        is_timed: a decoded frame is recognised by its time; else by counting from the first.
        promised: frames according to the file; more than N when it is cut off.
        fps: frames a second, on average; None if the file does not say.
    """

    times: NDArray[np.int64]
    keys: NDArray[np.int64]
    starts: NDArray[np.int64]
    is_timed: bool
    promised: int
    fps: float | None

    def __len__(self) -> int:
        return len(self.times)

    def key_before(self, frame: int) -> int:
        """The last frame at or before `frame` at which decoding can start."""
        return int(self.keys[self._place(frame)])

    def start(self, key: int) -> int:
        """Where to seek for the packet of keyframe `key`."""
        return int(self.starts[self._place(key)])

    def number(self, time: int | None) -> int | None:
        """The frame that is shown at `time`, None if there is no such frame."""
        if time is None:
            return None
        at = int(np.searchsorted(self.times, time))
        return at if at < len(self.times) and self.times[at] == time else None

    def _place(self, frame: int) -> int:
        return int(np.searchsorted(self.keys, frame, side="right")) - 1


def scan(path: Path) -> Timeline:
    """List the frames of a video.

    Raises:
        FramesError: not a video, without frames, or too large; naming the file.
    """
    with opened(path) as (container, stream):
        walk = _Walk(container, stream)
        walk.run()
        lost, listed = walk.lost(), walk.frames()
        fps = float(stream.average_rate) if stream.average_rate else None
    if not walk.has_first:
        raise FramesError(
            f"{path}: holds a video stream but no frame that can be decoded; cut off? get it again"
        )
    if listed is None:
        times, is_timed, lost = _decoded_times(path, lost)
        promised = len(times) + lost
    else:
        # what is shown after the last whole packet was decoded may have lost a neighbour
        times, is_timed = listed[listed <= walk.complete] if lost else listed, True
        promised = len(listed) + lost
    if len(times) == 0:
        raise FramesError(f"{path}: is cut off within its first frames; get it again")
    keys, starts = walk.keyframes(times) if is_timed else (np.zeros(1, np.int64), np.zeros(1, np.int64))
    return Timeline(times, keys, starts, is_timed, promised, fps)


class _Walk:
    """All packets of a video in the order of the file, without decoding more than the first frame.

    Attributes:
        has_first: some frame can be decoded.
        complete: everything that is shown up to this time is in the file.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.has_first = False
        self.complete = -(1 << 62)
        self._container, self._stream = container, stream
        self._times, self._keys, self._starts = array("q"), array("q"), array("q")
        self._first: int | None = None
        self._indexed = len(stream.index_entries)
        self._end_s = 0.0
        self._untimed = 0
        self._is_torn = False

    def frames(self) -> NDArray[np.int64] | None:
        """When the frames are shown, ascending, from the first that can be decoded; None if packets do not tell."""
        context = self._stream.codec_context
        # AVI stores no times, and FFmpeg's guesses fail where frames are decoded in another order than shown.
        is_guess = self._container.format.name == "avi" and context.has_b_frames
        if is_guess or self._untimed or self._first is None or context.name not in _FRAME_A_PACKET:
            return None
        times = np.unique(np.array(self._times, np.int64))
        return (
            times[times >= self._first] if len(times) == len(self._times) and self._first in times else None
        )

    def keyframes(self, times: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`keys` and `starts` of a timeline with these `times`."""
        shown, starts = np.array(self._keys, np.int64), np.array(self._starts, np.int64)
        known = np.isin(shown, times)
        keys, first = np.unique(np.searchsorted(times, shown[known]), return_index=True)
        starts = starts[known][first]
        return (keys, starts) if 0 in keys[:1] else (np.append(0, keys), np.append(times[0], starts))

    def run(self) -> None:
        """See all packets."""
        import av

        is_matroska = "matroska" in self._container.format.name  # its length is that of all streams
        try:
            packets: Any = self._container.demux() if is_matroska else self._container.demux(self._stream)
            for packet in packets:
                if packet.pts is not None and packet.time_base:
                    self._end_s = max(
                        self._end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    )
                if packet.stream_index == self._stream.index:
                    self._see(packet)
        except av.FFmpegError:
            self._is_torn = True  # counted as a lost frame
        else:
            if self._is_torn and self._times:
                self._times.pop()

    def lost(self) -> int:
        """Frames that the file should have after its end, as far as it tells."""
        name, stream, lost = self._container.format.name, self._stream, int(self._is_torn)
        if "mov" in name:
            lost = max(lost, indexed_frames(stream) - len(self._times) - self._untimed)
        elif name == "avi" and self._indexed < stream.frames:
            lost = max(lost, stream.frames - len(self._times) - self._untimed)
        elif "matroska" in name and self._container.duration:
            missing_s = self._container.duration / 1e6 - self._end_s
            if missing_s > _CUT_OFF_S:
                lost = max(lost, 1, round(missing_s * float(stream.average_rate or 1)))
        return lost

    def _see(self, packet: Packet[VideoStream]) -> None:
        if not self.has_first:
            for frame in _frames(packet):
                self.has_first, self._first = True, frame.pts
                break
        if packet.size == 0 or packet.is_discard:  # decoded, but cut away by an edit list
            return
        self._is_torn = packet.is_corrupt
        if packet.pts is None:
            self._untimed += 1
            return
        self._times.append(packet.pts)
        decoded = packet.pts if packet.dts is None else packet.dts
        if packet.is_keyframe:
            self._keys.append(packet.pts)
            self._starts.append(min(decoded, packet.pts))
        if not packet.is_corrupt:
            self.complete = max(self.complete, decoded)


def _decoded_times(path: Path, lost: int) -> tuple[NDArray[np.int64], bool, int]:
    """Times of all frames by decoding them, whether they are of use (else numbers), and how many frames are lost."""
    import av

    times, is_timed = array("q"), True
    with opened(path) as (container, stream):
        if lost:
            stream.thread_type = "SLICE"  # few frames under way when the file ends
        try:
            for packet in container.demux(stream):
                if packet.size == 0 and lost:
                    break  # frames under way may have lost a neighbour
                for frame in packet.decode():
                    time = frame.pts
                    is_timed = is_timed and time is not None and (not times or time > times[-1])
                    times.append(time if is_timed and time is not None else len(times))
        except av.FFmpegError:
            lost = max(lost, 1)
    found = np.array(times, np.int64)
    return (found if is_timed else np.arange(len(found))), is_timed, lost


def numbered(path: Path, timeline: Timeline, key: int) -> Iterator[tuple[int, VideoFrame]]:
    """Frames from keyframe `key` on, each with its number; damaged ones are left out.

    Raises:
        FramesError: the file cannot be opened any more.
    """
    import av

    with opened(path) as (container, stream):
        if key > 0:
            container.seek(timeline.start(key), stream=stream)
        is_waiting, count = key > 0, 0
        with suppress(av.FFmpegError):  # the frames that do not come are missed by who asks for them
            for packet in container.demux(stream):
                is_waiting = is_waiting and timeline.number(packet.pts) != key
                for frame in () if is_waiting else _frames(packet, timeline.is_timed):
                    number = timeline.number(frame.pts) if timeline.is_timed else count
                    count += 1
                    if number is not None and number >= key and not frame.is_corrupt:
                        yield number, frame


def _frames(packet: Packet[VideoStream], goes_on: bool = True) -> list[VideoFrame]:
    """What a packet decodes to; nothing, or an error where frames are counted, if it is damaged."""
    import av

    try:
        return packet.decode()
    except av.FFmpegError:
        if goes_on:
            return []
        raise


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Container and video stream of a file; FFmpeg's complaints become FramesErrors that name it.

    Raises:
        FramesError: not a video, or too large to decode.
    """
    import av

    try:
        # absolute: a name like "concat:a" would be a protocol
        with av.open(str(path.absolute()), "r", options=FILE_OPTIONS, metadata_errors="replace") as container:
            stream = best_stream(container)
            if stream is None:
                raise FramesError(f"{path}: holds no video stream that can be decoded; is it the right file?")
            context = stream.codec_context
            checked_size(context.height, context.width, f"{path}: the video")
            context.options = {
                "max_pixels": str(MAX_PIXELS)
            }  # the stream may say something else than the container
            stream.thread_type, stream.thread_count = "AUTO", _THREADS
            yield container, stream
    except (av.FFmpegError, EOFError) as error:
        raise FramesError(
            f"{path}: damaged, cut off or not a video ({reason(error)}); get it again or re-encode it"
        ) from error


def best_stream(container: InputContainer) -> VideoStream | None:
    """The video stream to look at; none is a song's cover, or of a codec that FFmpeg does not know."""
    from av.stream import Disposition

    stream: Any = container.streams.best("video")
    if stream is None or stream.codec_context is None or stream.disposition & Disposition.attached_pic:
        return None
    return stream


def indexed_frames(stream: VideoStream) -> int:
    """Frames in the index of an MP4 or MOV, whether the file holds them or not."""
    return sum(entry.size > 0 and not entry.is_discard for entry in stream.index_entries)


def reason(error: Exception) -> str:
    """FFmpeg's words without the file name, which may hold a password."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def upright(frame: VideoFrame) -> Pixels:
    """The picture of a decoded frame as RGB (H, W, 3), turned as the file says."""
    picture = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarter_turns)) if quarter_turns else picture
