"""Arrays in .npz files: the header of each is checked before a number of it is read, and nothing is unpickled."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from data.clip import DataError
from data.formats.volume import MAX_VOLUME_BYTES, read_numbers

_MOST_MEMBERS = 10_000
_KINDS = "biuf"
_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, struct.error)


@dataclass(frozen=True)
class NpzArray:
    """One array of a file, as its header describes it."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool

    def read(self) -> NDArray[Any]:
        """All of it.

        Raises:
            DataError: the file is damaged.
        """
        with _opened(self.path) as archive, archive.open(f"{self.name}.npy") as file:
            _header(file, f"{self.path}, {self.name}")
            count = math.prod(self.shape)
            numbers = read_numbers(file, count, self.dtype, f"{self.path}, {self.name}")
            file.read(1)  # at the end the checksum is compared
        return numbers.reshape(self.shape, order="F" if self.is_fortran else "C")


def npz_arrays(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members of a file by the names of their arrays.

    Raises:
        DataError: missing or damaged.
    """
    with _opened(path) as archive:
        members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        raise DataError(f"{path}: {len(members)} arrays are too many")
    return {info.filename.removesuffix(".npy"): info for info in members if info.filename.endswith(".npy")}


def npz_array(path: Path, name: str) -> NpzArray:
    """The array `name` of a file, not read yet.

    Raises:
        DataError: there is none, it holds no plain numbers, is too large, or not as long as it says.
    """
    members = npz_arrays(path)
    where = f"{path}, {name}"
    if name not in members:
        raise DataError(
            f"{path}: expected an array {name!r}, found {', '.join(sorted(members)[:8]) or 'none'}"
        )
    with _opened(path) as archive, archive.open(f"{name}.npy") as file:
        shape, is_fortran, dtype, start = _header(file, where)
    if dtype.kind not in _KINDS or dtype.itemsize > 8:
        raise DataError(f"{where}: holds {dtype}, expected plain numbers; save it as an array of integers")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 1 or size > MAX_VOLUME_BYTES:
        raise DataError(
            f"{where}: shape {shape} of {dtype}, expected 1 to {MAX_VOLUME_BYTES} bytes; divide it"
        )
    if members[name].file_size != start + size:
        raise DataError(f"{where}: has not the size that its header says; save it again")
    return NpzArray(path, name, shape, dtype, is_fortran)


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order and type of an array, and where its numbers begin."""
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):  # later ones are for headers of more than 64 kB
            raise ValueError(f"version {version}")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        return shape, is_fortran, dtype, file.tell()
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise DataError(f"{where}: not an array of numbers ({error}); save it again with numpy") from error


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; restore it")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _BROKEN as error:
        raise DataError(f"{path}: not a readable .npz file ({error}); copy or save it again") from error
