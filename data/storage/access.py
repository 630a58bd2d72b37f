"""How shards are read that lie elsewhere: as settings, without what does it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.storage.remote import Remote
from data.storage.shard_cache import ShardCache


@dataclass(frozen=True)
class Access:
    """How shards are read that lie elsewhere.

    Attributes:
        cache_dir: folder on this node for copies; None: a place of this job or user (`default_cache_dir`).
        cache_gb: what the copies may take together, 10**9 bytes.
        remote: "download" copies a shard when a sample of it is first wanted; "range" reads what is wanted.
        stage: copy all shards before the run begins.
        attempts: how often a request is made before it counts as failed.
        timeout_s: without any byte, after which an attempt has failed.
        pause_s: before the second attempt; see `data.remote.Remote`.
    """

    cache_dir: Path | None = None
    cache_gb: float = 100.0
    remote: Literal["download", "range"] = "download"
    stage: bool = False
    attempts: int = 8
    timeout_s: float = 60.0
    pause_s: float = 0.5

    def cache(self) -> ShardCache:
        """The folder with its budget."""
        return ShardCache(Path(self.cache_dir or default_cache_dir()), int(self.cache_gb * 1e9))

    def remote_at(self, url: str) -> Remote:
        """The files at an address."""
        return Remote(url, self.attempts, self.pause_s, self.timeout_s)


def default_cache_dir() -> Path:
    """On this node's own disk if SLURM says where that is, else among the user's caches."""
    job = os.environ.get("SLURM_TMPDIR")
    base = Path(job) if job else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "sam2-train" / "shards"
