"""Shards of which a server sends what is wanted, without a copy of the rest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from data.clip import DataError
from data.columns import Columns
from data.shard import META, sha256
from data.storage.access import Access
from data.storage.copied_shards import CopiedShards
from data.storage.origin import check_size
from data.storage.remote import CHUNK, NoRanges, Remote
from data.storage.shard_hashes import damage, member_hashes

log = logging.getLogger(__name__)


@dataclass
class RangedShards:
    """Members that are read from a server without copying shards.

    Attributes:
        columns: of the index.
        origin: where the shards are.
        access: how they are copied once the server turns out to send whole files only.
    """

    columns: Columns
    origin: Remote
    access: Access
    _hashes: tuple[int, dict[str, str]] = (-1, {})
    _copied: CopiedShards | None = None
    _whole: set[int] = field(default_factory=set)  # shards whose size is right

    def ahead(self, shards: Sequence[int]) -> None:
        """Nothing is read ahead, unless shards are copied after all."""
        if self._copied is not None:
            self._copied.ahead(shards)

    def read(self, i: int, member: str, start: int, length: int) -> bytes:
        """See `ShardStore`; whole members are held against their hash, and read once more if they differ."""
        if self._copied is None:
            try:
                return self._checked(i, member, start, length)
            except NoRanges:
                name = str(self.columns.shard_names[self.columns.shard[i]])
                log.warning(
                    "%s: the server sends whole files only; shards are copied", self.origin.shown(name)
                )
                self._copied = CopiedShards(self.columns, self.origin, self.access.cache())
        return self._copied.read(i, member, start, length)

    def _checked(self, i: int, member: str, start: int, length: int) -> bytes:
        shard = int(self.columns.shard[i])
        name = str(self.columns.shard_names[shard])
        if shard not in self._whole:
            check_size(self.origin, name, int(self.columns.shard_sizes[shard]))
            self._whole.add(shard)
        offset, size = self.columns.members(i)[member]
        expected = self._expected(i, member) if (start, length) == (0, size) else ""
        raw = b""
        for _ in range(2):
            raw = b"".join(
                self.origin.read(name, at, min(at + CHUNK, offset + start + length))
                for at in range(offset + start, offset + start + length, CHUNK)
            )
            if not expected or sha256(raw) == expected:
                break
            log.warning("%s: %s", self.origin.shown(name), damage(self.columns, i, member, "once"))
        else:
            raise DataError(damage(self.columns, i, member, "twice"))
        if member == META:
            self._hashes = i, member_hashes(raw)
        return raw

    def _expected(self, i: int, member: str) -> str:
        """Hex digest of a member, "" if unknown."""
        if member == META:
            known = self.columns.meta_sha256
            return known[i].tobytes().hex() if len(known) else ""
        if self._hashes[0] != i:
            self._checked(i, META, 0, self.columns.members(i)[META][1])
        return self._hashes[1].get(member, "")
