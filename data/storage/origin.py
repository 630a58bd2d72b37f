"""Where whole files come from, and how they get into the cache of this node."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from data.alive import alive
from data.clip import DataError
from data.storage.remote import CHUNK, Facts
from data.storage.shard_cache import ShardCache


class Origin(Protocol):
    """Where whole files come from."""

    def address(self, name: str) -> str:
        """What tells the file from all others."""

    def shown(self, name: str) -> str:
        """What messages call it."""

    def facts(self, name: str) -> Facts:
        """Its size and version."""

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        """Its bytes in order."""


@dataclass(frozen=True)
class Folder:
    """The files of a folder that is slower than this node's own disk."""

    root: Path

    def address(self, name: str) -> str:
        """The full path."""
        return str(self.root.resolve() / name)

    def shown(self, name: str) -> str:
        """The path."""
        return str(self.root / name)

    def facts(self, name: str) -> Facts:
        """Its size and time.

        Raises:
            DataError: it cannot be read.
        """
        try:
            stat = (self.root / name).stat()
        except OSError as error:
            raise DataError(f"{self.root / name}: {error.strerror}; restore the shard") from error
        return Facts(stat.st_size, str(stat.st_mtime_ns))

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        """Its bytes in order.

        Raises:
            DataError: it cannot be read.
        """
        try:
            with (self.root / name).open("rb") as file:
                while part := file.read(CHUNK):
                    yield part
        except OSError as error:
            raise DataError(f"{self.root / name}: {error.strerror}; restore the shard") from error


def fetch_whole(cache: ShardCache, origin: Origin, name: str) -> Path:
    """A copy of a small file that is as new as the original.

    Raises:
        DataError: there is no such file.
        StorageError: it cannot be had.
    """
    facts = origin.facts(name)
    copy = copy_name(f"{origin.address(name)} {facts.version or os.urandom(8).hex()} {facts.size}", name)
    os.close(cache.fetch(copy, facts.size, lambda fd: copy_file(origin, name, facts.size, fd)))
    return cache.folder / copy


def check_size(origin: Origin, name: str, size: int) -> None:
    """See that a shard has the size that its index says.

    Raises:
        DataError: it has another one, or is not there.
    """
    found = origin.facts(name).size
    if found != size:
        raise DataError(
            f"{origin.shown(name)}: has {found} bytes, its index says {size}; it was cut off or changed: "
            "restore it, or make the index again with `sam2 data index`"
        )


def copy_name(identity: str, name: str) -> str:
    """Name in a cache of what `identity` describes in full; keeps the ending of `name`."""
    return f"{hashlib.sha256(identity.encode()).hexdigest()[:40]}{Path(name).suffix}"


def copy_file(origin: Origin, name: str, size: int, fd: int) -> None:
    """Write a file of `size` bytes to `fd`."""
    at = 0
    for part in origin.chunks(name, size):
        if at + len(part) > size:
            break
        view = memoryview(part)
        alive(f"copying {origin.shown(name)}, {at / 1e9:.3g} of {size / 1e9:.3g} GB")
        while view:
            written = os.pwrite(fd, view, at)
            at, view = at + written, view[written:]
    if at != size:
        raise DataError(f"{origin.shown(name)}: changed while it was copied; make its index again")
