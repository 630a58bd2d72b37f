"""Pixels and masks of the frames and objects that a clip needs, and of no others."""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import decord
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.checking.diagnose import decoding_problem
from data.clip import DataError
from data.index import Sample, ShardIndex
from data.quarantine import SampleError
from data.rle import box_of, decode_columns, run_lengths
from data.shard import MASKS, META, sha256
from data.storage.place import StorageError

decord.logging.set_level(decord.logging.QUIET)  # its messages come back as exceptions

_BROKEN_IMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class Masklet:
    """The masks of one object in T frames, cut to the box that holds them all.

    `crop` (T, h, w) uint8, 0 or 1; its first pixel is at (`top`, `left`) of a picture of `height` x `width`.
    """

    crop: NDArray[np.uint8]
    top: int
    left: int
    height: int
    width: int

    @property
    def areas(self) -> NDArray[np.int64]:
        """(T,) pixels of each mask."""
        return self.crop.sum((1, 2), dtype=np.int64)

    def frame(self, t: int) -> Masklet:
        """Frame `t` alone."""
        return replace(self, crop=self.crop[t : t + 1])

    def paste(self, canvas: NDArray[np.generic], frame: int, value: int) -> None:
        """Write `value` where the object is in `frame` into a picture of its own size."""
        h, w = self.crop.shape[1:]
        window = canvas[self.top : self.top + h, self.left : self.left + w]
        window[self.crop[frame] > 0] = value


def decode_frames(index: ShardIndex, i: int, frames: Sequence[int]) -> NDArray[np.uint8]:
    """The pictures of some annotated frames of sample `i`: (T, H, W, 3) uint8 RGB, in the order asked for.

    H and W are those of the masks, or smaller where the pictures were shrunk when they were stored.

    Raises:
        SampleError: the media cannot be decoded, or is not what the index says.
    """
    sample = index[i]
    wanted = [int(sample.frame_index[frame]) for frame in frames]
    with _naming(sample, sample.media):
        if sample.media == "mp4":
            pixels = _from_video(_whole(index, i), wanted, sample.media_frames)
        elif sample.media == "jpgs":
            pixels = np.stack([_from_image(raw, sample) for raw in _jpegs(index, i, wanted)])
        else:
            pixels = _from_image(_whole(index, i), sample)[None]
        if pixels.shape[1:] != (sample.media_height, sample.media_width, 3):
            found, expected = pixels.shape[1:3], (sample.media_height, sample.media_width)
            raise DataError(
                f"frames are {found[0]}x{found[1]}, the index says {expected[0]}x{expected[1]}; convert again"
            )
    is_shrunk = sample.media_height < sample.height or sample.media_width < sample.width
    return pixels if is_shrunk else pixels[:, : sample.height, : sample.width]


def _whole(index: ShardIndex, i: int) -> bytes:
    """All of the media of sample `i`, which must be what was converted: decoders conceal damage, a hash does not."""
    sample = index[i]
    with _naming(sample, META):
        expected = index.meta(i).sha256.get(sample.media, "")
    raw = index.read(i, sample.media)
    found = sha256(raw)
    if found != expected:
        problem = decoding_problem(raw, sample.media_frames) if sample.media == "mp4" else ""
        problem = problem or f"is damaged: its sha256 is {found[:12]}..., meta.json says {expected[:12]}..."
        raise DataError(f"{problem}; convert or download the shard again")
    return raw


def _from_video(raw: bytes, wanted: Sequence[int], length: int) -> NDArray[np.uint8]:
    # A path, not a BytesIO: decord 0.6 takes the whole process down when a truncated video comes from a BytesIO.
    memory = os.memfd_create("clip", os.MFD_CLOEXEC)
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(raw)
        reader = decord.VideoReader(f"/proc/self/fd/{memory}", ctx=decord.cpu(0), num_threads=1)
        if len(reader) != length:
            raise DataError(f"holds {len(reader)} frames, the index says {length}; cut off? convert it again")
        return reader.get_batch(list(wanted)).asnumpy()
    except (RuntimeError, IndexError, decord.DECORDError) as error:
        # decord's own words name files of its build, the time and the path above: of no use to anyone.
        problem = decoding_problem(raw, length) or "cannot be decoded, though FFmpeg can decode it"
        raise DataError(f"{problem}; convert it again") from error
    finally:
        os.close(memory)


def _from_image(raw: bytes, sample: Sample) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(raw), formats=("JPEG", "PNG")) as image:
            if image.size != (sample.media_width, sample.media_height):  # before memory is spent on it
                width, height = image.size
                raise DataError(
                    f"a picture is {height}x{width}, the index says {sample.media_height}x{sample.media_width}; "
                    "convert it again"
                )
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except _BROKEN_IMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"a picture cannot be decoded ({error}); convert it again") from error


def _jpegs(index: ShardIndex, i: int, wanted: Sequence[int]) -> list[bytes]:
    """The files of some media frames, through one read of the range that holds them."""
    table = index.meta(i).jpgs
    start = min(table[frame][0] for frame in wanted)
    stop = max(sum(table[frame]) for frame in wanted)
    raw = index.read(i, "jpgs", start, stop - start)
    return [raw[table[frame][0] - start :][: table[frame][1]] for frame in wanted]


def read_masks(index: ShardIndex, i: int) -> list[list[str]]:
    """The RLE strings of sample `i` as [object][annotated frame], "" where the object is absent.

    Raises:
        SampleError: not such a table.
    """
    sample = index[i]
    with _naming(sample, MASKS):
        try:
            found = json.loads(index.read(i, MASKS))
        except (ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"is not JSON ({error}); convert the data again") from error
        if not isinstance(found, dict) or not {"size", "counts"} <= found.keys():
            raise DataError('is not {"size": ..., "counts": ...}; convert the data again')
        if found["size"] != [sample.height, sample.width]:
            size = "x".join(map(str, found["size"])) if isinstance(found["size"], list) else found["size"]
            raise DataError(
                f"masks are {size}, the picture is {sample.height}x{sample.width}; convert the data again"
            )
        _check_table(found["counts"], *sample.visible.shape)
    return found["counts"]


def _check_table(table: Any, objects: int, frames: int) -> None:
    is_table = isinstance(table, list) and len(table) == objects
    if not is_table or not all(isinstance(row, list) and len(row) == frames for row in table):
        raise DataError(f"is not a table of {objects} objects x {frames} frames; convert the data again")
    if not all(isinstance(counts, str) for row in table for counts in row):
        raise DataError("holds something else than RLE strings; convert the data again")


def decode_masklet(sample: Sample, row: Sequence[str], position: int, frames: Sequence[int]) -> Masklet:
    """The masks of the object at `position` in some annotated frames.

    Args:
        sample: where the object comes from.
        row: its RLE strings in all annotated frames.
        position: of the object in the sample.
        frames: annotated frames.

    Raises:
        SampleError: an RLE of another size, or one that is empty where the index says visible (or the reverse).
    """
    height, width = sample.height, sample.width
    runs: list[NDArray[np.int64]] = []
    with _naming(sample, MASKS):
        for frame in frames:
            what = f"object {sample.object_ids[position]}, frame {frame}"
            found = run_lengths(row[frame], height, width, what) if row[frame] else np.array([height * width])
            area = int(found[1::2].sum())
            if bool(area) != bool(sample.visible[position, frame]):
                is_now = "visible" if area else "empty"
                raise DataError(f"{what}: the mask is {is_now}, the index says otherwise; convert it again")
            runs.append(found)
    boxes = np.array([box_of(found, height) for found in runs if len(found) > 1]).reshape(-1, 4)
    top, left = boxes[:, :2].min(0, initial=max(height, width))
    bottom, right = boxes[:, 2:].max(0, initial=0)
    crop = np.zeros((len(runs), max(bottom - top, 0), max(right - left, 0)), np.uint8)
    for k, found in enumerate(runs):
        if len(found) > 1:
            crop[k] = decode_columns(found, height, int(left), int(right))[:, top:bottom].T
    return Masklet(crop, int(top), int(left), height, width)


@contextmanager
def _naming(sample: Sample, member: str) -> Iterator[None]:
    """Whatever goes wrong inside is about this member of this sample."""
    try:
        yield
    except (SampleError, StorageError):
        raise
    except (DataError, OSError) as error:
        reason = str(error).removeprefix(f"{sample.where}: ").removeprefix(f"{member} ")
        raise SampleError(reason, sample.shard, sample.key, member) from error
