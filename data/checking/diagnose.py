"""Why a video cannot be decoded, in words about the file: decoders say "invalid data" whatever is wrong."""

from __future__ import annotations

import io
from typing import BinaryIO

import av

_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")  # boxes an mp4 or mov can begin with
_HEADER = {b"ftyp", b"free", b"skip", b"wide", b"uuid"}  # boxes that hold neither pictures nor where they are
_MOST_BOXES = 100_000


def structure_problem(file: BinaryIO, size: int) -> str:
    """What is wrong with a video file as a container: empty, a header alone, cut off; "" if that is not the trouble.

    Walks the boxes of the outermost level (ISO/IEC 14496-12); of a container of another kind only emptiness is told.

    Args:
        file: open for reading at any place.
        size: of the file, bytes.
    """
    if size == 0:
        return "is empty (0 bytes)"
    found: set[bytes] = set()
    at = needed = 0
    for _ in range(_MOST_BOXES):
        if at >= size:
            break
        file.seek(at)
        head = file.read(16)
        kind, length = head[4:8], int.from_bytes(head[:4], "big")
        if at == 0 and kind not in _FIRST:
            return ""
        if len(head) < 8:
            needed = at + 8
            break
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        elif length == 0:  # up to the end of the file
            length = size - at
        if length < 8:
            return f"is damaged: at byte {at} there is no box of an mp4"
        found.add(kind)
        at += length
        needed = at
    if found <= _HEADER:
        return f"holds a header and no pictures ({size} bytes)"
    if needed > size:
        return f"is cut off: has {size} bytes, needs {needed} or more"
    if b"moov" not in found:
        return "does not say where its frames are (no box moov): it was cut off or never finished"
    return ""


def decoding_problem(raw: bytes, frames: int) -> str:
    """What is wrong with a video that should hold `frames` frames; "" if every frame can be decoded.

    Damage that a decoder conceals is not found: compare hashes too.
    """
    problem = structure_problem(io.BytesIO(raw), len(raw))
    if problem:
        return problem
    decoded, is_open = 0, False
    try:
        with av.open(io.BytesIO(raw), "r", metadata_errors="replace") as container:
            is_open = bool(container.streams.video)
            for _ in container.decode(video=0):
                decoded += 1
                if decoded == frames:
                    return ""
    except (av.FFmpegError, EOFError, IndexError) as error:
        if not is_open:
            return f"is not a video (begins with {raw[:8].hex(' ')})"
        return f"is damaged: after {decoded} of {frames} frames it cannot be decoded ({reason(error)})"
    return f"is damaged: only {decoded} of {frames} frames can be decoded"


def reason(error: Exception) -> str:
    """What FFmpeg says, without the number and the name of the file."""
    return (error.strerror if isinstance(error, av.FFmpegError) else "") or "no reason given"
