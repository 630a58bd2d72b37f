"""Which samples a step uses: a pure function of (seed, step, rank, world), with nothing to remember.

Steps count micro-batches. The data set of a step is drawn from the weights, so all ranks have the same kind of
batch; its samples are the next ones in a permutation that changes every epoch. The global batch of a step is dealt
out to the ranks in turn, so the same global batch with another number of ranks holds the same samples.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.clip import DataError
from data.order import Blocks, mix, permute, scramble

PLAN_VERSION = 2
_PROCESSES = "processes"
BLOCK = 1 << 16  # steps whose draws are made, and counted, together

_DRAW_BITS = 53
_GROUP_BITS = 8  # of every 256 steps each data set gets its share, to within one step
_DATASET, _ORDER, _JOB, _REPLACEMENT = range(1, 5)  # one stream of random numbers for each purpose


@dataclass(frozen=True)
class PlannedDataset:
    """One data set as the plan sees it.

    Attributes:
        name: for messages.
        size: number of samples.
        fingerprint: of its index.
        batch: clips in a micro-batch of one rank.
        weight: how often a step uses it, relative to the others; None: by the number of its batches, if all are None.
        repeat: how often a sample comes in one epoch.
        blocks: the order in which its shards are read; None: all samples are mixed.
    """

    name: str
    size: int
    fingerprint: str
    batch: int
    weight: float | None = None
    repeat: int = 1
    blocks: Blocks | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise DataError(f"data set {self.name}: holds no samples")
        if self.batch < 1 or self.repeat < 1:
            raise DataError(
                f"data set {self.name}: batch={self.batch}, repeat={self.repeat}; both must be 1 or more"
            )
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise DataError(f"data set {self.name}: weight={self.weight}; it must be above 0")


@dataclass(frozen=True)
class Job:
    """One clip to make. `dataset` and `index` say which sample, `seed` drives everything that is drawn for it."""

    dataset: int
    index: int
    seed: int


@dataclass(frozen=True)
class Plan:
    """The samples of every step of a run."""

    datasets: tuple[PlannedDataset, ...]
    seed: int
    _counts: _Counts = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.datasets:
            raise DataError("no data set to train on; set data.root or data.datasets")
        bounds = _bounds(self.shares())
        object.__setattr__(self, "_counts", _Counts(mix(self.seed, _DATASET), bounds))

    def shares(self) -> tuple[Fraction, ...]:
        """How much of the steps each data set gets; they sum to 1."""
        given = [d.weight for d in self.datasets]
        if any(w is None for w in given) and any(w is not None for w in given):
            names = ", ".join(d.name for d in self.datasets if d.weight is None)
            raise DataError(f"give every data set a weight or none; {names} has none")
        raw = [
            Fraction(d.size * d.repeat, d.batch) if d.weight is None else Fraction(d.weight)
            for d in self.datasets
        ]
        return tuple(share / sum(raw) for share in raw)

    def dataset(self, step: int) -> int:
        """Position of the data set that `step` uses, on every rank."""
        return self._counts.draw(step)

    def used(self, step: int) -> tuple[int, ...]:
        """How many of the steps before `step` used each data set."""
        return self._counts.before(step)

    def jobs(self, step: int, rank: int, world: int) -> tuple[Job, ...]:
        """The clips of one rank's micro-batch `step`."""
        if step < 0 or not 0 <= rank < world:
            raise DataError(f"no step {step} for rank {rank} of {world}")
        number = self.dataset(step)
        batch = self.datasets[number].batch
        first = self.used(step)[number] * batch * world
        return tuple(self._job(number, first + j * world + rank) for j in range(batch))

    def _job(self, number: int, position: int) -> Job:
        """The clip at `position` in the endless order of a data set."""
        size, repeat, blocks = (getattr(self.datasets[number], n) for n in ("size", "repeat", "blocks"))
        if blocks is not None:
            passage, place = divmod(position, size)
            index = blocks.sample(place, mix(self.seed, _ORDER, number, passage))
        else:
            epoch, place = divmod(position, size * repeat)
            index = permute(place, size * repeat, mix(self.seed, _ORDER, number, epoch)) % size
        return Job(number, index, mix(self.seed, _JOB, number, position))

    def shards_ahead(self, step: int, world: int) -> tuple[int, ...]:
        """Shards that the data set of `step` reads now and in its next window; none where all samples are mixed."""
        number = self.dataset(step)
        planned = self.datasets[number]
        if planned.blocks is None:
            return ()
        passage, place = divmod(self.used(step)[number] * planned.batch * world, planned.size)
        keys = (mix(self.seed, _ORDER, number, passage + k) for k in range(2))
        return planned.blocks.ahead(place, *keys)

    def replacement(self, job: Job, attempt: int) -> Job | None:
        """What to make instead when `job` and `attempt` - 1 replacements were bad; None when nothing is left.

        The other samples of the data set come in an order of their own for every job: a neighbour would often lie in
        the same damaged shard.
        """
        n = self.datasets[job.dataset].size
        if attempt >= n:
            return None
        order = (permute(k, n, mix(job.seed, _REPLACEMENT)) for k in range(attempt + 1))
        others = [index for index in order if index != job.index]
        return Job(job.dataset, others[attempt - 1], mix(job.seed, _REPLACEMENT, attempt))

    def asked(self, step: int) -> int:
        """How many clips one rank was asked for before `step`."""
        return sum(n * d.batch for n, d in zip(self.used(step), self.datasets, strict=True))

    def steps_per_epoch(self, world: int) -> Fraction:
        """Micro-batches of a rank that hold as many clips as all data sets together, repeats included.

        Not rounded: whole steps are the trainer's, whose number must not depend on how a global batch is shared out.
        """
        return sum((Fraction(d.size * d.repeat, d.batch * world) for d in self.datasets), Fraction())

    def describe(self, world: int) -> dict[str, Any]:
        """All that decides the order of samples; runs with equal descriptions can continue each other."""
        return {
            "plan version": PLAN_VERSION,
            "seed": self.seed,
            _PROCESSES: world,
            "data sets": len(self.datasets),
            **{
                f"{what} of data set {i}": value
                for i, (d, share) in enumerate(zip(self.datasets, self.shares(), strict=True))
                for what, value in (
                    ("index", d.fingerprint),
                    ("global batch", d.batch * world),
                    ("weight", str(share)),
                    ("repeat", d.repeat),
                    ("shuffle", f"windows of {d.blocks.window} shards" if d.blocks else "all samples"),
                )
            },
        }

    def fingerprint(self, world: int) -> str:
        """Hex digest of `describe`."""
        return hashlib.sha256(json.dumps(self.describe(world)).encode()).hexdigest()

    def check(self, described: dict[str, Any], world: int, is_elastic: bool = False) -> None:
        """Hold the description in a checkpoint against this plan.

        Args:
            described: what `describe` said when the checkpoint was made.
            world: number of processes now.
            is_elastic: that number may be another one; the global batch must not, so the order of samples stays.

        Raises:
            DataError: they differ, so continuing would repeat some samples and leave out others.
        """
        now = self.describe(world)
        names = dict.fromkeys([*described, *now])
        differing = [name for name in names if described.get(name) != now.get(name)]
        if differing == [_PROCESSES] and not is_elastic:
            raise DataError(
                f"the checkpoint was made by {described[_PROCESSES]} processes, now there are {world}; as the global "
                "batch is the same, data.resume=elastic continues with the same samples in the same global order"
            )
        differences = [
            f"{name} was {described.get(name, 'not there')}, is {now.get(name, 'not there')}"
            for name in differing
            if name != _PROCESSES
        ]
        if differences:
            raise DataError(
                f"the checkpoint was made with other data: {'; '.join(differences)}. Restore these settings, or start "
                "a new run from its weights: run_id=NAME model.checkpoint=RUN_DIR/checkpoints/last.ckpt"
            )


def _bounds(shares: Sequence[Fraction]) -> NDArray[np.uint64]:
    """Upper bounds of the data sets' intervals in range(2**53), in exact arithmetic."""
    ends = [sum(shares[: i + 1], Fraction(0)) for i in range(len(shares))]
    return np.array([int(end * (1 << _DRAW_BITS)) for end in ends], np.uint64)


class _Counts:
    """Draws of all steps and their cumulative counts, made block by block when asked for and kept."""

    def __init__(self, key: int, bounds: NDArray[np.uint64]) -> None:
        self._key = key
        self._bounds = bounds
        self._before = [np.zeros(len(bounds), np.int64)]  # counts before each block
        self._block = (-1, np.zeros(0, np.int64))  # the block looked at last

    def draw(self, step: int) -> int:
        return int(self._draws(step // BLOCK)[step % BLOCK])

    def before(self, step: int) -> tuple[int, ...]:
        block, rest = divmod(step, BLOCK)
        while len(self._before) <= block:
            self._before.append(self._before[-1] + self._count(self._draws(len(self._before) - 1)))
        return tuple((self._before[block] + self._count(self._draws(block)[:rest])).tolist())

    def _draws(self, block: int) -> NDArray[np.int64]:
        if self._block[0] != block:
            # Random in order, but spread evenly over every group: shares are met soon, not only in the long run.
            steps = np.arange(block * BLOCK, (block + 1) * BLOCK, dtype=np.uint64)
            drawn = scramble(np.uint64(self._key) ^ scramble(steps)).reshape(-1, 1 << _GROUP_BITS)
            ranks = drawn.argsort(1).argsort(1).astype(np.uint64)
            rest = _DRAW_BITS - _GROUP_BITS
            offsets = scramble(drawn[:, :1]) >> np.uint64(64 - rest)  # one for all of a group
            uniform = (ranks << np.uint64(rest) | offsets).ravel()
            self._block = (block, np.searchsorted(self._bounds, uniform, side="right"))
        return self._block[1]

    def _count(self, draws: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(draws, minlength=len(self._bounds))
