"""Shards that are copied to this node when they are wanted, or before."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from data.clip import DataError
from data.columns import Columns
from data.plural import plural
from data.storage.origin import Origin, check_size, copy_file, copy_name
from data.storage.place import StorageError
from data.storage.shard_cache import ShardCache
from data.storage.shard_hashes import damaged_members

log = logging.getLogger(__name__)


@dataclass
class CopiedShards:
    """Shards that are copied to this node, each when it is first wanted, and checked on the way.

    Attributes:
        columns: of the index.
        origin: where the shards are.
        cache: where the copies are.
    """

    columns: Columns
    origin: Origin
    cache: ShardCache
    # What this process has open: one shard, because what is open cannot make room for others.
    _open: _Copy | None = None
    _wanted: tuple[int, ...] = ()
    _thread: threading.Thread | None = None
    _pid: int = 0

    def check_budget(self) -> None:
        """See that each shard fits into the cache.

        Raises:
            DataError: one does not.
        """
        largest = int(self.columns.shard_sizes.max(initial=0))
        if largest > self.cache.budget:
            raise DataError(
                f"data.cache_gb={self.cache.budget / 1e9:g} is less than the largest shard, "
                f"{largest / 1e9:.3g} GB; raise it"
            )

    def warn_of_small_cache(self) -> None:
        """Say that shards will be copied again and again, if samples of all of them are mixed."""
        total, budget = int(self.columns.shard_sizes.sum()), self.cache.budget
        if total > budget:
            log.warning(
                "%.3g GB of shards do not fit into data.cache_gb=%g, and data.shuffle=samples reads them all at once, "
                "so they will be copied again and again; set data.shuffle=shards, data.remote=range or a larger cache",
                total / 1e9,
                budget / 1e9,
            )

    def __getstate__(self) -> dict[str, Any]:
        return {"columns": self.columns, "origin": self.origin, "cache": self.cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def read(self, i: int, member: str, start: int, length: int) -> bytes:
        """See `ShardStore`."""
        shard = int(self.columns.shard[i])
        copy = self._opened(shard)
        offset, _ = self.columns.members(i)[member]
        if (reason := copy.bad.get(str(offset))) is not None:
            raise DataError(reason)
        return copy.read(offset + start, length)

    def ahead(self, shards: Sequence[int]) -> None:
        """Copy these shards, in a thread of this process, as far as there is room for all of them."""
        self._settle()
        room = np.cumsum(self.columns.shard_sizes[list(shards)]) <= self.cache.budget
        wanted = tuple(shard for shard, fits in zip(shards, room.tolist(), strict=True) if fits)
        if wanted != self._wanted:
            self._wanted = wanted
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._copy_wanted, daemon=True)
                self._thread.start()

    def names(self) -> dict[str, int]:
        """Name in the cache and bytes of every shard."""
        return {self._name(k): int(size) for k, size in enumerate(self.columns.shard_sizes)}

    def copy_all(self) -> list[DataError]:
        """Copy every shard that is not there; returns why some could not be copied, which reading them will say too."""
        failed = []
        for shard in range(len(self.columns.shard_names)):
            try:
                os.close(self._fetch(shard))
            except StorageError:
                raise
            except DataError as error:
                failed.append(error)
        return failed

    def _settle(self) -> None:
        """Forget what belongs to the process that this one was forked from."""
        if self._pid != os.getpid():
            self._open, self._wanted, self._thread, self._pid = None, (), None, os.getpid()

    def _opened(self, shard: int) -> _Copy:
        self._settle()
        if self._open is None or self._open.shard != shard:
            self._open = None  # lets go of the last one before room is made
            fd = self._fetch(shard)
            note = self.cache.note(self._name(shard))
            self._open = _Copy(shard, fd, json.loads(note.read_bytes()) if note.exists() else {})
        return self._open

    def _fetch(self, shard: int) -> int:
        return self.cache.fetch(
            self._name(shard), int(self.columns.shard_sizes[shard]), partial(self._fill, shard)
        )

    def _copy_wanted(self) -> None:
        done: tuple[int, ...] = ()
        while done != self._wanted:
            done = self._wanted
            for shard in done:
                if done != self._wanted:
                    break
                size = int(self.columns.shard_sizes[shard])
                try:
                    self.cache.fetch_unless_busy(self._name(shard), size, partial(self._fill, shard))
                except DataError as error:  # whoever reads a sample of it will stop, or replace it
                    log.info("%s: not copied ahead: %s", self.columns.shard_names[shard], error)

    def _name(self, shard: int) -> str:
        """Of the copy: differs for other places, and for another state of the same place."""
        name = str(self.columns.shard_names[shard])
        return copy_name(f"{self.origin.address(name)} {self.columns.digest}", name)

    def _fill(self, shard: int, fd: int) -> None:
        """Write the shard to `fd`; what is damaged is copied once more, and what still is, is noted."""
        name, size = str(self.columns.shard_names[shard]), int(self.columns.shard_sizes[shard])
        check_size(self.origin, name, size)
        self.cache.note(self._name(shard)).unlink(missing_ok=True)
        bad: dict[int, str] = {}
        for times in ("once", "twice"):
            copy_file(self.origin, name, size, fd)
            bad = dict(damaged_members(self.columns, shard, fd, times))
            if not bad:
                return
            log.warning("%s: %s (copied %s)", self.origin.shown(name), "; ".join([*bad.values()][:4]), times)
        self.cache.note(self._name(shard)).write_text(json.dumps(bad))


@dataclass
class _Copy:
    """An open copy of a shard, and what is wrong with its members by their offsets."""

    shard: int
    fd: int
    bad: dict[str, str]

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        parts = []
        while length > 0:
            part = os.pread(self.fd, length, offset)
            if not part:
                raise StorageError("a copy of a shard was cut off by someone else; empty data.cache_dir")
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def __del__(self) -> None:
        os.close(self.fd)


def stage(store: CopiedShards, what: str) -> bool:
    """Copy all shards, if there is room; says so if not.

    Args:
        store: of the data set.
        what: the data set, for messages.
    """
    reason = store.cache.room(store.names())
    if reason:
        log.warning(
            "data.stage: %s stays where it is, as there is no room for it in %s: %s",
            what,
            store.cache.folder,
            reason,
        )
        return False
    try:
        failed = store.copy_all()
    except StorageError as error:
        log.warning("data.stage: %s stays where it is: %s", what, error)
        return False
    for problem in failed:
        log.warning("data.stage: %s", problem)
    count = len(store.columns.shard_names) - len(failed)
    log.info("data.stage: %s of %s in %s", plural(count, "shard"), what, store.cache.folder)
    return True
