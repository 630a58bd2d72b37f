"""A folder of this node in which its processes keep copies of files from elsewhere, up to a number of bytes.

Whoever wants a file that is not there claims `NAME.part` with a lock and fills it; the others wait. It gets its name
when it is complete, so what has a name can be used, and what a killed process left behind has none. Readers hold a
shared lock. What was not used for the longest time goes first, and nothing goes that is locked. The system lets go
of the locks of a process that dies.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from data.alive import alive
from data.storage.place import StorageError

log = logging.getLogger(__name__)

PART, NOTE = ".part", ".note"
_POLL_S = 0.05


@dataclass(frozen=True)
class ShardCache:
    """Copies in `folder`, together at most `budget` bytes."""

    folder: Path
    budget: int

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(
                f"{self.folder}: cannot be made ({error.strerror}); set data.cache_dir"
            ) from error

    def holds(self, name: str) -> bool:
        """Whether the file is there."""
        return (self.folder / name).exists()

    def note(self, name: str) -> Path:
        """A file that goes when `name` goes."""
        return self.folder / (name + NOTE)

    def open(self, name: str) -> int | None:
        """A descriptor of the file, which stays until it is closed; None if it is not there."""
        try:
            fd = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        self._lock(fd, fcntl.LOCK_SH)
        if os.fstat(fd).st_nlink == 0:  # it went in between
            os.close(fd)
            return None
        _touch(fd)
        return fd

    def fetch(self, name: str, size: int, fill: Callable[[int], None]) -> int:
        """A descriptor of the file, which `fill` writes if no other process has done so or is doing so.

        Args:
            name: of the file in the cache.
            size: bytes.
            fill: writes them to the descriptor it is given.

        Raises:
            StorageError: there is no room.
        """
        written = 0
        while True:
            fd = self.open(name)
            if fd is not None:
                return fd
            part = self._claim(name)
            if part is not None:
                return self._fill(name, part, size, fill)
            grown = self._written(name)
            if grown != written:
                written = grown
                alive(f"waiting for another process to copy {name}")
            time.sleep(_POLL_S)

    def fetch_unless_busy(self, name: str, size: int, fill: Callable[[int], None]) -> None:
        """See that the file is there or on its way."""
        part = None if self.holds(name) else self._claim(name)
        if part is not None:
            os.close(self._fill(name, part, size, fill))

    def _written(self, name: str) -> int:
        """How much of a file is on disk that another process fills."""
        try:
            return (self.folder / (name + PART)).stat().st_blocks
        except FileNotFoundError:  # it is complete, or its maker gave up
            return 0

    def room(self, names: dict[str, int]) -> str:
        """Why files (name: bytes) do not fit into the folder together with each other; "" if they do."""
        wanted = sum(names.values())
        if wanted > self.budget:
            return f"data.cache_gb={self.budget / 1e9:g} is less than the {wanted / 1e9:.3g} GB needed"
        entries = self._entries()
        missing = sum(
            size for name, size in names.items() if name not in entries and name + PART not in entries
        )
        can_go = sum(
            stat.st_size for name, stat in entries.items() if name not in names and not name.endswith(PART)
        )
        free = self._free(entries) + can_go
        return f"{missing / 1e9:.3g} GB needed, {free / 1e9:.3g} GB free" if missing > free else ""

    def _lock(self, fd: int, kind: int) -> None:
        """Lock an open file.

        Raises:
            BlockingIOError: another process has it.
            StorageError: this file system has no locks.
        """
        try:
            fcntl.flock(fd, kind)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            os.close(fd)
            raise StorageError(
                f"{self.folder}: its file system has no locks ({error.strerror}); set data.cache_dir to a local disk"
            ) from error

    def _claim(self, name: str) -> int | None:
        """A descriptor of `NAME.part` that no other process has; None if one has, or the file has come."""
        path = self.folder / (name + PART)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError as error:
            raise StorageError(f"{self.folder}: may not be written to; set data.cache_dir") from error
        try:
            self._lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        is_ours = _is_at(fd, path)
        if is_ours and not self.holds(name):
            return fd
        if is_ours:
            path.unlink()
        os.close(fd)
        return None

    def _fill(self, name: str, part: int, size: int, fill: Callable[[int], None]) -> int:
        path = self.folder / (name + PART)
        try:
            self._reserve(part, size)
            fill(part)
            os.fsync(part)
            _touch(part)
            os.rename(path, self.folder / name)
        except BaseException as error:
            path.unlink(missing_ok=True)
            os.close(part)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageError(self._full(size)) from error
            raise
        fcntl.flock(part, fcntl.LOCK_SH)
        return part

    def _reserve(self, part: int, size: int) -> None:
        """Make room for `size` bytes and let the others see that they are taken."""
        with self._alone():
            os.ftruncate(part, 0)
            os.ftruncate(part, size)
            entries = self._entries()
            excess = sum(stat.st_size for stat in entries.values()) - self.budget
            lacking = -self._free(entries)
            for name in sorted(entries, key=lambda name: entries[name].st_mtime_ns):
                is_part = name.endswith(PART)
                if (is_part or max(excess, lacking) > 0) and self._remove(name):
                    excess -= entries[name].st_size
                    lacking -= entries[name].st_blocks * 512 if not is_part else entries[name].st_size
            if lacking > 0:
                raise StorageError(self._full(size))
            if excess > 0:
                log.warning(
                    "%s: %.3g GB above data.cache_gb=%g, as all of it is in use; raise it, or lower data.workers",
                    self.folder,
                    excess / 1e9,
                    self.budget / 1e9,
                )

    def _remove(self, name: str) -> bool:
        """Remove a file that no process has locked: one that nobody reads, or a part whose maker died."""
        path = self.folder / name
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, path):
                path.unlink()
                self.note(name).unlink(missing_ok=True)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(fd)

    def _entries(self) -> dict[str, os.stat_result]:
        """Complete files and those on their way."""
        found = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and not entry.name.endswith(NOTE):
                    with suppress(FileNotFoundError):
                        found[entry.name] = entry.stat()
        return found

    def _free(self, entries: dict[str, os.stat_result]) -> int:
        """Bytes of the disk that nobody has and nobody has reserved."""
        disk = os.statvfs(self.folder)
        parts = [stat for name, stat in entries.items() if name.endswith(PART)]
        reserved = sum(max(stat.st_size - stat.st_blocks * 512, 0) for stat in parts)
        return disk.f_bavail * disk.f_frsize - reserved

    def _full(self, size: int) -> str:
        return (
            f"{self.folder}: no room for {size / 1e9:.3g} GB, and nothing more that could go; free some, or set "
            "data.cache_dir to another disk"
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process makes room meanwhile."""
        fd = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _touch(fd: int) -> None:
    """Note that the file is used now; the file system's own clock may stand still for milliseconds."""
    now = time.time_ns()
    os.utime(fd, ns=(now, now))


def _is_at(fd: int, path: Path) -> bool:
    """Whether the open file still has this path."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
