"""Random orders of samples that are never written down: element k of an order is computed when it is asked for."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_ROUNDS = 6
_SHARDS, _SAMPLES = range(1, 3)  # one stream of random numbers for each purpose


def mix(*numbers: int) -> int:
    """A 63-bit seed that depends on every one of `numbers` and on their order (splitmix64)."""
    z = 0
    for number in numbers:
        z = _scramble(z ^ (number & _WORD))
    return z >> 1


def _scramble(z: int) -> int:
    z = (z + _GOLDEN) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return z ^ (z >> 31)


def scramble(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A random 64-bit number for each of `z` (splitmix64)."""
    z = z + np.uint64(_GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def permute(place: int, n: int, key: int) -> int:
    """Element `place` of a random permutation of range(n), without making the permutation.

    A Feistel network over the next even power of two; what falls outside is sent through it again.
    """
    half = max(3, ((n - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    keys = [_scramble(key + r) for r in range(_ROUNDS)]
    while True:
        left, right = place >> half, place & low
        for round_key in keys:
            left, right = right, left ^ (_scramble(round_key ^ right) & low)
        place = left << half | right
        if place < n:
            return place


@dataclass(frozen=True)
class Blocks:
    """An order in which disks that hate random reads, and caches of remote shards, are read mostly in sequence.

    Shards come in a random order; of every `window` of them the samples come in a random order.

    Attributes:
        shard_sizes: samples of every shard; sample numbers count through the shards.
        window: shards that are mixed.
    """

    shard_sizes: tuple[int, ...]
    window: int

    def sample(self, place: int, key: int) -> int:
        """Element `place` of the order that `key` draws."""
        shards, ends = _shuffled(self, key)
        number = bisect_right(ends, place)
        start = ends[number - 1] if number else 0
        inside = permute(place - start, ends[number] - start, mix(key, _SAMPLES, number))
        for shard in shards[number * self.window : (number + 1) * self.window]:
            if inside < self.shard_sizes[shard]:
                return _firsts(self)[shard] + inside
            inside -= self.shard_sizes[shard]
        raise AssertionError("the windows hold all samples")

    def ahead(self, place: int, key: int, next_key: int) -> tuple[int, ...]:
        """Shards of the window that holds `place` and of the one after it, in this order.

        Args:
            place: in the order that `key` draws.
            key: of this order.
            next_key: of the order that follows when this one has ended.
        """
        shards, ends = _shuffled(self, key)
        number = bisect_right(ends, place)
        found = shards[number * self.window : (number + 2) * self.window]
        if number + 1 == len(ends):
            found = found + _shuffled(self, next_key)[0][: self.window]
        return tuple(dict.fromkeys(found))


@lru_cache(maxsize=4)
def _firsts(blocks: Blocks) -> list[int]:
    """The number of each shard's first sample."""
    return [0, *accumulate(blocks.shard_sizes)]


@lru_cache(maxsize=32)  # a step looks at one or two epochs of a few data sets
def _shuffled(blocks: Blocks, key: int) -> tuple[list[int], list[int]]:
    """Shards in their order, and the number of samples up to the end of each window."""
    count, window = len(blocks.shard_sizes), blocks.window
    shards = [permute(k, count, mix(key, _SHARDS)) for k in range(count)]
    sizes = [blocks.shard_sizes[shard] for shard in shards]
    return shards, list(accumulate(sum(sizes[k : k + window]) for k in range(0, count, window)))
