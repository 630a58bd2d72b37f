"""What happens to a sample that cannot be read: named, counted, listed, replaced, and when the run stops.

A sample counts once, however often it comes up. With `max_bad_fraction` = f, a rank stops as soon as the number of
its bad samples is above `max(1, f * min(all, max(seen, 1000)))`, `seen` being how many it was asked for: one bad sample
never stops a run, ten do not stop a large run at its start (f = 1 %), and of a data set of up to 199 samples one may be
bad. f = 0 stops at the first.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data.clip import DataError
from data.columns import read_columns
from data.index import INDEX_NAME, ShardIndex
from data.plural import plural
from data.shard import list_shards
from data.storage.access import Access

log = logging.getLogger(__name__)

MAX_REPLACEMENTS = 8
FIRST_SAMPLES = 1000  # what a bad fraction is held against at the start of a run


class SampleError(DataError):
    """A sample cannot be used; says which, and which of its members is to blame."""

    def __init__(self, reason: str, shard: str = "", key: str = "", member: str = "") -> None:
        place = f'{shard}, clip "{key}", {member}: '
        super().__init__(reason if not shard or reason.startswith(place) else place + reason)
        self.shard, self.key, self.member = shard, key, member


@dataclass(frozen=True)
class BadSample:
    """One line of `quarantine-*.jsonl`."""

    dataset: str
    index: int
    shard: str
    key: str
    member: str
    error: str
    step: int


def allowed_bad(seen: int, samples: int, max_bad_fraction: float) -> float:
    """How many bad samples a run may have met when it has asked for `seen` of a data set of `samples`."""
    if max_bad_fraction == 0:
        return 0
    return max(1.0, max_bad_fraction * min(samples, max(seen, FIRST_SAMPLES)))


def open_index(root: Path | str, max_bad_fraction: float, access: Access | None = None) -> ShardIndex:
    """The index of a data set to train on.

    Where a shard was cut off, changed or lost since the index was made, its samples will be bad samples, so a few such
    shards are let pass with a warning. Shards elsewhere are looked at when they are read.

    Raises:
        DataError: there is no index, it cannot be read, or too many samples are lost.
    """
    try:
        return ShardIndex.load(root, access).staged(access or Access())
    except DataError as error:
        root = Path(root)
        path = root / INDEX_NAME
        if not path.is_file():
            raise
        columns = read_columns(path)
        sizes = zip(columns.shard_names.tolist(), columns.shard_sizes.tolist(), strict=True)
        damaged = [number for number, (name, size) in enumerate(sizes) if _size(root / name) != size]
        lost, samples = int(np.isin(columns.shard, damaged).sum()), len(columns.shard)
        is_complete = {shard.name for shard in list_shards(root)} <= set(columns.shard_names.tolist())
        if not is_complete or lost > allowed_bad(samples, samples, max_bad_fraction):
            raise
        log.warning("%d of %s will be replaced: %s", lost, plural(samples, "sample"), error)
        return ShardIndex(root, columns).staged(access or Access())


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


class Quarantine:
    """The bad samples of one rank; on disk if there is a run directory, so a resumed run knows them.

    Args:
        directory: where the list is kept, or None.
        rank: of this process.
        samples: number of samples of all data sets together.
        max_bad_fraction: see the top of this file.
    """

    def __init__(self, directory: Path | None, rank: int, samples: int, max_bad_fraction: float) -> None:
        self.path = directory / f"quarantine-rank{rank}.jsonl" if directory else None
        self.samples = samples
        self.max_bad_fraction = max_bad_fraction
        self._known: dict[tuple[str, int], str] = {}
        if self.path and self.path.exists():
            self._known = {(bad.dataset, bad.index): bad.error for bad in _rows(self.path)}

    def __len__(self) -> int:
        return len(self._known)

    def add(self, found: Iterable[BadSample], seen: int) -> None:
        """List the bad samples of a micro-batch, with a warning for each that is new.

        Args:
            found: bad samples, also ones that are known already.
            seen: samples this rank was asked for so far.

        Raises:
            DataError: there are too many now.
        """
        new = {(bad.dataset, bad.index): bad for bad in found if (bad.dataset, bad.index) not in self._known}
        if not new:
            return
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(asdict(bad)) + "\n" for bad in new.values())
        limit = int(allowed_bad(seen, self.samples, self.max_bad_fraction))
        for place, bad in new.items():
            self._known[place] = bad.error
            log.warning(
                "bad sample %d of at most %d: data set %s, %s; another sample takes its place",
                len(self),
                limit,
                bad.dataset,
                bad.error,
            )
        if len(self) > limit:
            listed = f" (listed in {self.path})" if self.path else ""
            raise DataError(
                f"{plural(len(self), 'bad sample')} among {min(seen, self.samples)}{listed}, data.max_bad_fraction="
                f"{self.max_bad_fraction} allows {limit}; repair the data or raise the limit. "
                f"The last: {[*new.values()][-1].error}"
            )


def _rows(path: Path) -> list[BadSample]:
    """What an earlier run listed; a last line that was cut off when it was killed goes away."""
    raw = path.read_bytes()
    whole = raw.rfind(b"\n") + 1
    if whole < len(raw):
        os.truncate(path, whole)
    try:
        return [BadSample(**json.loads(line)) for line in raw[:whole].splitlines()]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: not a list of bad samples ({error}); move it away") from error
