"""NIfTI files, version 1 and 2, plain or gzipped: what the header says is checked before a voxel is read.

nibabel understands the header; header extensions are passed over, whose stated sizes it would trust.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from data.clip import DataError
from data.formats.volume import MAX_VOLUME_BYTES, read_numbers
from data.shard import MAX_SIDE

SUFFIXES = (".nii.gz", ".nii")
_SIZES = (348, 540)  # of the headers of versions 1 and 2
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
_MOST_BEFORE_VOXELS = 64 << 20  # header extensions
_MOST_RATIO = 1032  # deflate cannot shrink more
_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}


@dataclass(frozen=True)
class NiftiFile:
    """What the header of a file says.

    Attributes:
        path: of the file.
        shape: voxels along I, J, K, and the number of volumes.
        affine: (4, 4), from voxel numbers to mm in RAS+.
        dtype: of the stored values.
        offset: of the first of them in the file, unpacked.
        slope: what a stored value is multiplied by.
        intercept: what is added to it then.
    """

    path: Path
    shape: tuple[int, int, int, int]
    affine: NDArray[np.float64]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float

    def voxels(self, volume: int = 0) -> NDArray[Any]:
        """One volume (I, J, K) as it is stored; see `values`.

        Raises:
            DataError: the file is damaged or cut off.
        """
        size = math.prod(self.shape[:3]) * self.dtype.itemsize
        with _opened(self.path) as file:
            file.seek(self.offset + volume * size)
            stored = read_numbers(file, math.prod(self.shape[:3]), self.dtype, str(self.path))
            if volume == self.shape[3] - 1:
                file.read(1)  # the end of a gzip file has a checksum
        return stored.reshape(self.shape[:3], order="F")

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        """What stored numbers stand for."""
        if self.slope == 1 and self.intercept == 0:
            return stored
        return stored * np.float64(self.slope) + np.float64(self.intercept)


def stem_of(path: Path) -> str:
    """The name of a NIfTI file without its ending; "" if it is none."""
    return next((path.name[: -len(s)] for s in SUFFIXES if path.name.lower().endswith(s)), "")


def read_header(path: Path) -> NiftiFile:
    """Read and check the header of a file.

    Raises:
        DataError: nibabel is not installed; no such file, not NIfTI, or of a kind or size that cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; restore it")
    with _opened(path) as file:
        start = file.read(max(_SIZES))
    header = _parse(path, start)
    shape = _checked_shape(path, tuple(int(n) for n in header.get_data_shape()))
    affine = np.array(header.get_best_affine(), np.float64)
    affine[:3] *= _MM.get(header.get_xyzt_units()[0], 1.0)
    if not np.isfinite(affine).all():
        raise DataError(f"{path}: its affine is not finite; export it again")
    dtype = np.dtype(header.get_data_dtype())
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataError(f"{path}: holds {dtype} values, expected plain numbers; save one number a voxel")
    offset = float(header["vox_offset"])
    _check_size(path, shape, dtype, offset)
    slope, intercept = header.get_slope_inter()
    return NiftiFile(
        path, shape, affine, dtype, int(offset), 1.0 if slope is None else slope, intercept or 0.0
    )


def _parse(path: Path, start: bytes) -> Any:
    """The header of the first bytes of a file, corrected where nibabel corrects headers."""
    try:
        import nibabel
        from nibabel.spatialimages import HeaderDataError
        from nibabel.wrapstruct import WrapStructError
    except ImportError as error:
        raise DataError("NIfTI files need nibabel: pip install 'sam2-train[medical]'") from error
    kinds: dict[int, Any] = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    for order in _ORDERS:
        size = int.from_bytes(start[:4], order)
        is_one_piece = start[344:347] == b"n+1" or start[4:7] == b"n+2"
        if size not in kinds or len(start) < size or not is_one_piece:
            continue
        try:
            header = kinds[size].from_fileobj(BytesIO(start[:size]))
            header.get_best_affine(), header.get_slope_inter(), header.get_xyzt_units()
            return header
        except (HeaderDataError, WrapStructError, ValueError, KeyError) as error:
            raise DataError(f"{path}: its header is damaged ({error}); export it again") from error
    raise DataError(
        f"{path}: not a NIfTI file in one piece (begins with {start[:8].hex(' ')}); export it as .nii or .nii.gz"
    )


def _checked_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """I, J, K and the number of volumes."""
    if len(shape) < 2 or min(shape) < 1 or max(shape[:3]) > MAX_SIDE or math.prod(shape[4:]) != 1:
        raise DataError(
            f"{path}: has {'x'.join(map(str, shape))} voxels, expected at most {MAX_SIDE} along three axes and, at "
            "most, several such volumes"
        )
    sizes = (*shape, 1, 1)[:4]
    return sizes[0], sizes[1], sizes[2], sizes[3]


def _check_size(path: Path, shape: tuple[int, int, int, int], dtype: np.dtype[Any], offset: float) -> None:
    """See that the file can hold its voxels, and memory one of its volumes."""
    size = math.prod(shape[:3]) * dtype.itemsize
    if size > MAX_VOLUME_BYTES:
        raise DataError(
            f"{path}: a volume of {size} bytes, at most {MAX_VOLUME_BYTES} are read; crop it or save it with fewer bits"
        )
    if not 0 <= offset <= _MOST_BEFORE_VOXELS:
        raise DataError(f"{path}: its voxels begin at byte {offset:g}; export it again")
    most = path.stat().st_size * (_MOST_RATIO if _is_gzip(path) else 1)
    if offset + size * shape[3] > most:
        raise DataError(f"{path}: is too short for {'x'.join(map(str, shape))} voxels; copy it again")


def _is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The unpacked bytes of a file; what is wrong with them becomes a DataError that names it."""
    try:
        opened = gzip.open(path, "rb") if _is_gzip(path) else path.open("rb")
        with opened as file:
            yield cast(BinaryIO, file)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked or read ({error}); copy it again") from error
