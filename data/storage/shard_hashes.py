"""The hashes of the members of a sample, from the index and from its `meta.json`, and whether bytes have them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator

import numpy as np

from data.columns import Columns
from data.shard import MASKS, MEDIA, META
from data.storage.remote import CHUNK


def damaged_members(columns: Columns, shard: int, fd: int, times: str) -> Iterator[tuple[int, str]]:
    """Offset of each member of a shard that does not have its hash, and what is wrong with it."""
    for i in np.flatnonzero(columns.shard == shard).tolist():
        (offset, size), *others = columns.members(i).values()
        raw = os.pread(fd, size, offset)
        if len(columns.meta_sha256) and hashlib.sha256(raw).digest() != columns.meta_sha256[i].tobytes():
            yield offset, damage(columns, i, META, times)
            continue
        hashes = member_hashes(raw)
        for member, (offset, size) in zip((MASKS, MEDIA[columns.media[i]]), others, strict=True):
            digest = hashlib.sha256()
            for at in range(offset, offset + size, CHUNK):
                digest.update(os.pread(fd, min(CHUNK, offset + size - at), at))
            if member in hashes and digest.hexdigest() != hashes[member]:
                yield offset, damage(columns, i, member, times)


def member_hashes(meta: bytes) -> dict[str, str]:
    """What a `meta.json` says about the other members; nothing if it is damaged, which its reader will say."""
    try:
        found = json.loads(meta).get("sha256")
    except (ValueError, AttributeError, RecursionError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def damage(columns: Columns, i: int, member: str, times: str) -> str:
    """What is wrong with a member that was read `times` ("once", "twice")."""
    shard = columns.shard_names[columns.shard[i]]
    return (
        f'{shard}, clip "{columns.key(i)}", {member}: is damaged: does not have its sha256 after it was read {times}'
        + ("; restore the shard" if times == "twice" else "")
    )
