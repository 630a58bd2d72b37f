"""One process at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[str | None]:
    """Hold the lock of `folder`, which is made; gives None, or without `wait` who else holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    # POSIX locks: not inherited by data workers, which may outlive a killed run by a moment
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError):
            file.seek(0)
            yield file.read().strip() or "another process"
            return
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            log.warning(
                "%s is on a file system without locks: make sure that no other process uses it", folder
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield None
