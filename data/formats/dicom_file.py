"""DICOM files: found in a folder, read within bounds, their pixels decoded by pydicom.

What is wrong with a file becomes a DataError that names it; values of patients are in no message.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import DecompressionBombError

from data.clip import DataError
from data.media import MAX_PIXELS
from data.shard import MAX_SIDE

MAX_FILE_BYTES = 2 << 30
_DEFLATED = "1.2.840.10008.1.2.1.99"
_BROKEN = (
    AttributeError,
    DecompressionBombError,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


@contextmanager
def naming(path: Path, doing: str) -> Iterator[None]:
    """What pydicom raises at damaged or incomplete files, as a DataError; it raises nearly anything."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        yield
    except DataError:
        raise
    except (*_BROKEN, BytesLengthException, InvalidDicomError) as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise DataError(f"{path}: damaged or incomplete, {doing} failed ({said}); export it again") from error


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom(path: Path, pixels: bool = False, tags: Sequence[str] | None = None) -> Any:
    """The data set of a file.

    Args:
        path: of the file.
        pixels: its pixels too, as they are stored.
        tags: keywords of the elements wanted; None: all.

    Raises:
        DataError: pydicom is not installed, no such file, damaged, too large, or packed as a whole.
    """
    try:
        import pydicom
        from pydicom.filereader import read_file_meta_info
    except ImportError as error:
        raise DataError("DICOM files need pydicom: pip install 'sam2-train[medical]'") from error
    with naming(path, "reading"):
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DataError(f"{path}: {size} bytes, at most {MAX_FILE_BYTES} are read; divide it")
        # A few kilobytes of it could unpack to any size.
        if read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED:
            raise DataError(f"{path}: is deflated as a whole; unpack it, with dcmconv +te for instance")
        return pydicom.dcmread(
            path, stop_before_pixels=not pixels, specific_tags=list(tags) if tags else None
        )


def frames_of(path: Path, count: int, rows: int, columns: int) -> Iterator[NDArray[Any]]:
    """The frames of a file, decoded one by one.

    Grey ones are (H, W) and hold what stored numbers stand for, NaN where the file marks padding, negated where low
    numbers are bright; colours are (H, W, 3) uint8.

    Args:
        path: of the file.
        count: frames that it must have.
        rows: height that it must have.
        columns: width that it must have.

    Raises:
        DataError: damaged, compressed in a way that cannot be decoded, or of another size.
    """
    from pydicom.pixels import apply_modality_lut, iter_pixels

    found = read_dicom(path, pixels=True)
    with naming(path, "decoding"):
        _expect_decodable(path, found)
        if picture_shape(path, found) != (count, rows, columns):
            raise DataError(f"{path}: has changed while it was read")
        photometric = str(found.PhotometricInterpretation)
        is_grey = photometric in ("MONOCHROME1", "MONOCHROME2") and int(found.SamplesPerPixel) == 1
        if not is_grey and (not photometric.startswith(("RGB", "YBR")) or int(found.BitsAllocated) != 8):
            raise DataError(
                f"{path}: holds {photometric} with {found.BitsAllocated} bits, expected grey, or colours with 8 bits; "
                "export it as one of these"
            )
        for stored in iter_pixels(found):
            if not is_grey:
                yield stored.astype(np.uint8, copy=False)
                continue
            values = np.asarray(apply_modality_lut(stored, found), np.float64)
            if found.get("PixelPaddingValue") is not None:
                values = np.where(stored == int(found.PixelPaddingValue), np.nan, values)
            yield -values if photometric == "MONOCHROME1" else values


def picture_shape(path: Path, found: Any) -> tuple[int, int, int]:
    """Frames, rows and columns of a data set.

    Raises:
        DataError: too large, or none.
    """
    with naming(path, "reading the size"):
        shape = int(found.get("NumberOfFrames") or 1), int(found.Rows), int(found.Columns)
    if min(shape) < 1 or max(shape[1:]) > MAX_SIDE or shape[1] * shape[2] > MAX_PIXELS or shape[0] > 1 << 20:
        raise DataError(
            f"{path}: {shape[0]} frames of {shape[1]}x{shape[2]} are no pictures that can be read"
        )
    return shape


def unpack_bits(raw: bytes, frame: int, rows: int, columns: int) -> NDArray[np.uint8]:
    """One frame (H, W) of 0 and 1 from one bit a pixel, frames following each other without a gap."""
    first = frame * rows * columns
    part = np.frombuffer(raw, np.uint8)[first // 8 : math.ceil((first + rows * columns) / 8)]
    bits = np.unpackbits(part, bitorder="little")[first % 8 :]
    return bits[: rows * columns].reshape(rows, columns)


def _expect_decodable(path: Path, found: Any) -> None:
    from pydicom.pixels import get_decoder

    syntax = found.file_meta.TransferSyntaxUID
    try:
        missing = [] if get_decoder(syntax).is_available else get_decoder(syntax).missing_dependencies
    except NotImplementedError:
        missing = ["it has no plugin for it"]
    if missing:
        raise DataError(
            f"{path}: is compressed as {syntax.name}, which pydicom cannot decode here ({'; '.join(missing)}); "
            "decompress it, with gdcmconv --raw or dcmdjpeg for instance, or install one of these"
        )
