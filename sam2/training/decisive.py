"""Which settings decide what a run computes, and which say only where it lies and how it is watched.

Light on purpose: tables of many runs, and what starts jobs on a login node, read settings without torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sam2.training.typed import flatten

# What may differ between two starts of one run: where it lies and how it is watched, not what it computes.
_INCIDENTAL = (
    "goal",
    "runs",
    "run_id",
    "run_dir",
    "resume",
    "logger",
    "launcher",
    "cluster",
    "checkpoint",
    "trainer.log_every",
    "data.workers",
    "data.prefetch",
    "data.cache_dir",
    "data.cache_gb",
    "data.remote",
    "data.stage",
    "data.attempts",
)


def is_incidental(key: str) -> bool:
    """Whether the dotted `key` may change between two starts of the same run."""
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in _INCIDENTAL)


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide the result, by dotted key, of all settings of a run as plain mappings."""
    return {key: item for key, item in flatten(settings).items() if not is_incidental(key)}


def digest_of_settings(settings: Mapping[str, Any]) -> str:
    """SHA-256 in hex that changes with every setting that changes the result."""
    return hashlib.sha256(json.dumps(decisive(settings), sort_keys=True).encode()).hexdigest()
