"""What happens to a sample that cannot be read: named, counted, listed, replaced, and when the run stops.

A sample counts once, however often it comes up. With `max_bad_fraction` = f, a rank stops as soon as the number of
its bad samples is above `max(1, f * max(seen, min(all, 1000)))`: one bad sample never stops a run, ten do not stop a
large run at its start (f = 1 %), and a small data set may have one in total. f = 0 stops at the first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from data.clip import DataError

MAX_REPLACEMENTS = 8
FIRST_SAMPLES = 1000  # the bad fraction is held against at least so many samples (or all, if there are fewer)


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

    def limit(self, seen: int) -> float:
        """The number of bad samples allowed when so many samples were asked for."""
        if self.max_bad_fraction == 0:
            return 0
        base = max(min(seen, self.samples), min(FIRST_SAMPLES, self.samples))
        return max(1.0, self.max_bad_fraction * base)

    def add(self, found: Iterable[BadSample], seen: int) -> None:
        """List the bad samples of a micro-batch.

        Args:
            found: bad samples, also ones that are known already.
            seen: samples this rank was asked for so far.

        Raises:
            DataError: there are too many now.
        """
        new = {(bad.dataset, bad.index): bad for bad in found if (bad.dataset, bad.index) not in self._known}
        if not new:
            return
        self._known |= {place: bad.error for place, bad in new.items()}
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(asdict(bad)) + "\n" for bad in new.values())
        if len(self) > self.limit(seen):
            listed = f" (listed in {self.path})" if self.path else ""
            raise DataError(
                f"{len(self)} bad samples among {min(seen, self.samples)}{listed}, data.max_bad_fraction="
                f"{self.max_bad_fraction} allows {int(self.limit(seen))}; repair the data or raise the limit. "
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
