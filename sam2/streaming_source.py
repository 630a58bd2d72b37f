"""Pictures from a camera, a network stream or a file, read ahead by a thread of their own.

Between the thread and the reader of the pictures stands a queue with a declared rule for a slow reader: "drop_oldest"
keeps up with the world and counts what it leaves out, "block" makes the source wait and loses nothing.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from sam2.pictures import MAX_PIXELS, Pixels
from sam2.source_address import Address, SourceError, address_of
from sam2.video_timeline import best_stream, indexed_frames, reason, upright

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

Rule = Literal["drop_oldest", "block"]

# damaged packets in a row that a live source may have: joining one between two keyframes is normal
_TOLERATED = 100
_CLOSING_S = 5.0  # beyond the source's own time limit


@dataclass(frozen=True)
class SourceFrame:
    """One picture of a source.

    Attributes:
        index: its number in the source; those that were dropped have numbers too.
        time_s: since the first picture, by the source's clock, or by arrival where it has none.
        image: RGB (H, W, 3), upright.
    """

    index: int
    time_s: float
    image: Pixels


def open_source(
    source: str | os.PathLike[str] | int,
    *,
    queue: int = 4,
    when_full: Rule | None = None,
    options: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> Source:
    """Start reading a source.

    Args:
        source: a file, a URL (rtsp, http, udp, ...), or a camera by its number or device.
        queue: pictures that wait for their reader, at most.
        when_full: what happens when the reader is slower than the source; by default a file waits ("block") and a live
            source drops its oldest waiting picture ("drop_oldest").
        options: FFmpeg's own, such as {"video_size": "1280x720", "framerate": "30"} for a camera.
        timeout_s: a source that is silent for so long has failed.

    Raises:
        SourceError: there is no such source, or it shows no video.
        TypeError, ValueError: an argument that makes no sense.
    """
    if queue < 1:
        raise ValueError(f"queue must hold at least 1 picture, got {queue}")
    if when_full not in (None, "drop_oldest", "block"):
        raise ValueError(f'when_full must be "drop_oldest" or "block", got {when_full!r}')
    if not timeout_s > 0:
        raise ValueError(f"timeout_s must be above 0, got {timeout_s}")
    address = address_of(source)
    rule: Rule = when_full or ("drop_oldest" if address.is_live else "block")
    return Source(address, _Queue(queue, rule), dict(options or {}), timeout_s)


class Source:
    """The pictures of a source, one after another; an iterator and a context manager.

    Attributes:
        name: of the source, as errors have it.
        when_full: the rule for a slow reader.
    """

    def __init__(
        self, address: Address, waiting: _Queue, options: Mapping[str, str], timeout_s: float
    ) -> None:
        self.name, self.when_full, self._timeout_s = address.name, waiting.rule, timeout_s
        self._queue = waiting
        container = _open(address, options, timeout_s)
        # The thread knows the queue, not this object: one that is forgotten without `close` is collected and ends it.
        self._thread = threading.Thread(
            target=_read, args=(container, address, waiting), name=f"source {address.name}", daemon=True
        )
        self._finalizer = weakref.finalize(self, waiting.close)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Pictures that were left out because their reader was too slow."""
        return self._queue.dropped

    @property
    def damaged(self) -> int:
        """Packets of a live source that could not be decoded; a file with such a packet is an error."""
        return self._queue.damaged

    def __iter__(self) -> Iterator[SourceFrame]:
        return self

    def __next__(self) -> SourceFrame:
        frame = self._queue.get()
        if frame is not None:
            return frame
        failure = self._queue.failure
        if failure is None:
            raise StopIteration
        told = str(failure) if isinstance(failure, SourceError) else f"broke off ({_told(failure)})"
        raise SourceError(f"{self.name}: {told}") from failure

    def close(self) -> None:
        """End the thread and let the source go; waiting pictures are gone, iteration ends.

        Raises:
            SourceError: the source does not let go within its time limit.
        """
        self._queue.close()
        self._thread.join(self._timeout_s + _CLOSING_S)
        if self._thread.is_alive():
            raise SourceError(
                f"{self.name}: does not answer and cannot be closed; unplug it or end the process"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Queue:
    """A bounded queue between one writing and one reading thread, with its rule, its end and its failure."""

    def __init__(self, size: int, rule: Rule) -> None:
        self.size, self.rule = size, rule
        self.dropped = self.damaged = 0
        self.failure: Exception | None = None
        self._frames: deque[SourceFrame] = deque()
        self._has_ended = self._is_closed = False
        self._changed = threading.Condition()

    def put(self, frame: SourceFrame) -> bool:
        """Add a picture by the rule; False: nobody wants any more."""
        with self._changed:
            while self.rule == "block" and len(self._frames) >= self.size and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                return False
            if len(self._frames) >= self.size:
                self._frames.popleft()
                self.dropped += 1
            self._frames.append(frame)
            self._changed.notify_all()
            return True

    def get(self) -> SourceFrame | None:
        """The oldest picture, as soon as there is one; None after the last."""
        with self._changed:
            while not (self._frames or self._has_ended or self._is_closed):
                self._changed.wait()
            frame = self._frames.popleft() if self._frames else None
            self._changed.notify_all()
            return frame

    def end(self, failure: Exception | None = None) -> None:
        """No picture comes after those that wait."""
        with self._changed:
            self._has_ended, self.failure = True, failure
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody reads any more."""
        with self._changed:
            self._is_closed = True
            self.failure = None
            self._frames.clear()
            self._changed.notify_all()


def _read(container: InputContainer, address: Address, waiting: _Queue) -> None:
    """The thread: picture by picture into the queue, until the source ends, fails or nobody wants more."""
    failure: Exception | None = None
    try:
        with container:
            for frame in _pictures(container, address.is_live, waiting):
                if not waiting.put(frame):
                    break
    except Exception as error:  # raised again where the queue is read
        failure = error
    waiting.end(failure)


def _pictures(container: InputContainer, is_live: bool, waiting: _Queue) -> Iterator[SourceFrame]:
    opened_s, first_s = time.monotonic(), None
    for index, frame in enumerate(_decoded(container, is_live, waiting)):
        arrived_s = time.monotonic() - opened_s if frame.time is None else frame.time
        first_s = arrived_s if first_s is None else first_s
        yield SourceFrame(index, arrived_s - first_s, upright(frame))


def _decoded(container: InputContainer, is_live: bool, waiting: _Queue) -> Iterator[VideoFrame]:
    """Frames as they come; damage ends a file, and a live source if it does not stop."""
    import av

    stream: Any = best_stream(container)
    packets = in_a_row = 0
    for packet in container.demux(stream):
        try:
            frames = [frame for frame in packet.decode() if not frame.is_corrupt]
            is_damaged = packet.is_corrupt
        except av.error.InvalidDataError:
            frames, is_damaged = [], True
        packets += packet.size > 0 and not packet.is_discard
        in_a_row = in_a_row + 1 if is_damaged else 0
        waiting.damaged += is_damaged
        if in_a_row > (_TOLERATED if is_live else 0):
            raise SourceError(f"damaged or cut off near frame {packets - 1}; repair or restart it")
        yield from frames
    if "mov" in container.format.name and packets < indexed_frames(stream):
        raise SourceError(f"cut off after {packets} of {indexed_frames(stream)} frames; get it again")


def _told(error: Exception) -> str:
    """What went wrong, without the source's address, which may hold a password."""
    import av

    if isinstance(error, av.error.ExitError):
        return "silent for too long; is it on? raise timeout_s if it is slow"
    return reason(error)


def _open(address: Address, options: Mapping[str, str], timeout_s: float) -> InputContainer:
    import av
    import av.device  # cameras are among the formats from here on

    chosen = {"max_pixels": str(MAX_PIXELS), **address.options, **options}
    try:
        container = av.open(
            address.file,
            "r",
            format=address.format,
            options=chosen,
            timeout=timeout_s,
            metadata_errors="replace",
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceError(f"{address.name}: cannot be opened ({_told(error)})") from error
    stream: Any = best_stream(container)
    if stream is None:
        container.close()
        raise SourceError(f"{address.name}: holds no video stream that can be decoded")
    # decoding frames side by side makes each wait for the ones that follow
    stream.thread_type = "SLICE" if address.is_live else "AUTO"
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return container
