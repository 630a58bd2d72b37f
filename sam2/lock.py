"""One process at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

FOREVER = math.inf

log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, wait_s: float = 0.0) -> Iterator[str | None]:
    """Hold the lock of `folder`, which is made; gives None, or who else holds it still after `wait_s` seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    # POSIX locks: not inherited by data workers, which may outlive a killed run by a moment
    with (folder / ".lock").open("a+") as file:
        try:
            if not _taken(file, wait_s):
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


def _taken(file: TextIO, wait_s: float) -> bool:
    """Whether the lock could be had within `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait_s == FOREVER else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        else:
            return True
