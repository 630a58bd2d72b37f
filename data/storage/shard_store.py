"""What an index reads through when its shards are not simply files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class ShardStore(Protocol):
    """Where an index reads the members of its samples."""

    def read(self, i: int, member: str, start: int, length: int) -> bytes:
        """`length` bytes of a member of sample `i` from `start`; the range lies inside the member.

        Raises:
            DataError: they are damaged or not there.
            StorageError: they cannot be had now.
        """

    def ahead(self, shards: Sequence[int]) -> None:
        """These shards will be wanted, in this order."""
