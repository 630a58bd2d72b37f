"""Small videos whose pictures carry their own number, and the reading of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 48, 64
_BITS = 8


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """RGB (H, W, 3): the number as eight blocks, black or white, in the upper third, over a moving texture."""
    y, x = np.mgrid[:height, :width]
    texture = [(x * 3 + number * 2) % 200, (y * 4 + number) % 200, (x + y) % 200]
    image = np.stack(texture, -1).astype(np.uint8)
    for bit in range(_BITS):
        image[: height // 3, bit * width // _BITS : (bit + 1) * width // _BITS] = 255 * (number >> bit & 1)
    return image


def number_in(image: NDArray[Any]) -> int:
    """The number that an RGB picture (H, W, 3) of any size carries."""
    height, width = image.shape[:2]
    row = image[height // 12 : height // 4].astype(float).mean((0, 2))
    blocks = [
        row[int((bit + 0.3) * width / _BITS) : int((bit + 0.7) * width / _BITS)] for bit in range(_BITS)
    ]
    return sum(int(block.mean() > 128) << bit for bit, block in enumerate(blocks))


def write_video(
    path: Path,
    frames: int = 24,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (HEIGHT, WIDTH),
    rotation: int = 0,
    times: list[int] | None = None,
    **options: str,
) -> Path:
    """Write pictures 0, 1, ... as a video, 24 a second.

    Args:
        path: its suffix chooses the container.
        frames: how many.
        codec: of FFmpeg.
        pixels: FFmpeg's pixel format.
        size: height and width of the upright pictures.
        rotation: degrees counter-clockwise by which a player has to turn what is stored.
        times: when each picture is shown, in frames; by default one after another.
        options: of the encoder; those of the container begin with `container_`.
    """
    of_container = {
        key.removeprefix("container_"): options.pop(key) for key in list(options) if "container_" in key
    }
    tick = Fraction(1, 24)
    with av.open(str(path), "w", container_options=of_container) as container:
        stream: Any = container.add_stream(codec, rate=24)
        stream.height, stream.width = size if rotation % 180 == 0 else size[::-1]
        stream.pix_fmt, stream.codec_context.time_base, stream.options = pixels, tick, options
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(frames):
            stored = np.ascontiguousarray(np.rot90(picture(number, *size), -rotation // 90))
            frame = av.VideoFrame.from_ndarray(stored, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = number if times is None else times[number], tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def copy_packets(source: Path, target: Path, earlier: int = 0, without: int = 0, **options: str) -> Path:
    """Copy a video's packets into another container.

    Args:
        source: the video.
        target: its suffix chooses the container.
        earlier: show everything so many frames earlier; what comes before time 0 is cut away by the container.
        without: packets to leave out at the beginning.
        options: of the container.
    """
    with av.open(str(source)) as reading, av.open(str(target), "w", container_options=options) as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        shift = round(earlier / (24 * stream.time_base))
        packets = [packet for packet in reading.demux(stream) if packet.dts is not None]
        for packet in packets[without:]:
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
            writing.mux(packet)
    return target
