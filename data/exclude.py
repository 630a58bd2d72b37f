"""Samples that a run leaves out because an earlier run found them bad: its quarantine lists are read."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.clip import DataError
from data.columns import row
from data.index import ShardIndex
from data.plural import plural

log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Chosen:
    """The samples of an index that a run uses.

    Attributes:
        numbers: their numbers in the index, rising.
        fingerprint: of the index and of what is left out.
    """

    numbers: NDArray[np.int64]
    fingerprint: str


def all_samples(index: ShardIndex) -> Chosen:
    """Every sample."""
    return Chosen(np.arange(len(index), dtype=np.int64), index.fingerprint)


def choose_samples(index: ShardIndex, name: str, lists: Sequence[Path]) -> Chosen:
    """All samples of a data set but those that are listed.

    Args:
        index: of the data set.
        name: its folder; a listed sample belongs to it if its folder has the same last name.
        lists: `quarantine-*.jsonl` files, or run directories that hold some.

    Raises:
        DataError: a list cannot be read, or nothing is left.
    """
    listed = {(shard, key) for dataset, shard, key in _rows(lists) if Path(dataset).name == Path(name).name}
    every = all_samples(index)
    lost = sorted(i for shard in {shard for shard, _ in listed} for i in _numbers(index, shard, listed))
    if len(lost) == len(index):
        raise DataError(f"{name}: data.exclude leaves no sample; remove a list")
    if not lost:
        return every
    log.info("data.exclude: %d of %s of %s are left out", len(lost), plural(len(index), "sample"), name)
    digest = hashlib.sha256(np.array(lost, np.int64).tobytes()).hexdigest()
    return Chosen(np.delete(every.numbers, lost), f"{index.fingerprint} without {digest}")


def _numbers(index: ShardIndex, shard: str, listed: set[tuple[str, str]]) -> list[int]:
    """Which samples of one shard are listed."""
    columns = index.columns
    (places,) = np.nonzero(columns.shard_names[columns.shard] == shard)
    keys = ((i, row(columns.key_bytes, columns.key_end, i).tobytes().decode()) for i in places.tolist())
    return [i for i, key in keys if (shard, key) in listed]


def _rows(lists: Sequence[Path]) -> list[tuple[str, str, str]]:
    """Data set, shard and key of every listed sample."""
    found = []
    for path in lists:
        files = sorted(path.rglob("quarantine-*.jsonl")) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise DataError(
                f"{path}: data.exclude expects a quarantine-*.jsonl or a run directory that holds some"
            )
        for file in files:
            if file.stat().st_size > _MOST_BYTES:
                raise DataError(f"{file}: {file.stat().st_size} bytes are too many for a list of bad samples")
            for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
                found.append(_parse(line, f"{file}, line {number}"))
    return found


def _parse(line: str, where: str) -> tuple[str, str, str]:
    try:
        found = json.loads(line)
        values = tuple(found[name] for name in ("dataset", "shard", "key"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{where}: not a line of a quarantine list ({error!r}); remove it") from error
    if not all(isinstance(value, str) for value in values):
        raise DataError(f"{where}: dataset, shard and key must be strings; remove the line")
    return values
