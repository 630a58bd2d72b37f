"""Files inside a plain tar, read where they lie: nothing is unpacked, and no name in it becomes a path."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data.clip import DataError

_MOST_MEMBERS = 10_000_000


@dataclass(frozen=True, slots=True)  # there may be millions
class TarFile:
    """One file in the tar `tar`: its name, and its bytes from `offset` on."""

    tar: Path
    name: str
    offset: int
    size: int

    @property
    def path(self) -> Path:
        """What messages name."""
        return self.tar / self.name

    def read(self, most_bytes: int) -> bytes:
        """All of it.

        Raises:
            DataError: it is larger, or the tar has become shorter.
        """
        if self.size > most_bytes:
            raise DataError(f"{self.path}: {self.size} bytes, at most {most_bytes} are accepted")
        with self.tar.open("rb") as file:
            raw = os.pread(file.fileno(), self.size, self.offset)
        if len(raw) != self.size:
            raise DataError(f"{self.path}: the tar is cut off; download it again")
        return raw


def files_in_tar(path: Path) -> list[TarFile]:
    """The plain files of a tar by the last part of their names, in its order; folders, links and devices are not read.

    Raises:
        DataError: not an uncompressed tar, damaged, or cut off.
    """
    total = path.stat().st_size
    found: list[TarFile] = []
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header
                if info.offset_data + info.size > total or len(found) >= _MOST_MEMBERS:
                    raise DataError(f"{path}: cut off in {info.name!r}, or too long; download it again")
                if info.isreg() and not info.issparse():
                    name = PurePosixPath(info.name).name
                    found.append(TarFile(path, name, info.offset_data, info.size))
            file.seek(tar.offset)  # tarfile takes any damaged header after the first for the end
            if file.read(512) != bytes(512):
                raise DataError(f"{path}: damaged or cut off after {len(found)} files; download it again")
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise DataError(f"{path}: not a readable tar ({error}); download it again") from error
    return found
