"""Shards that a command writes (`pipe:`): no index, no byte offsets, so the order is that of arrival.

webdataset reads them. Every process and worker takes its own shards, or, where there are fewer shards than takers,
every n-th sample of a shared one. A pass over all of them is followed by the next one in another order, so the
stream never ends and no rank can run out before the others. What a checkpoint can restore is approximate: a run
that is continued begins a new pass, in an order that depends on where it stands.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NoReturn

import torch
import webdataset as wds

from data.clip import Clip, DataError, collate
from data.columns import columns_of_one
from data.config import DataConfig
from data.index import ShardIndex
from data.order import mix, permute
from data.plan import Job
from data.quarantine import MAX_REPLACEMENTS, BadSample, SampleError
from data.raw import RawClip, collate_raw
from data.read import ClipReader, Delivery, one_thread, stage_limits
from data.shard import MASKS, MEDIA, META
from data.storage.place import PIPE, StorageError

log = logging.getLogger(__name__)

_MOST_EMPTY = 8  # passes in which a taker of a shared shard may find nothing
_HELD = 64  # encoded samples among which a worker draws the next one
_SHARDS, _SAMPLES, _JOB = range(1, 4)  # one stream of random numbers for each purpose


@dataclass(frozen=True)
class StreamPlan:
    """What is known of the steps of a run that reads a stream."""

    command: str
    batch: int
    seed: int

    def describe(self, world: int) -> dict[str, Any]:
        """All that decides what is trained on."""
        return {"stream": self.command, "seed": self.seed, "global batch": self.batch * world}

    def fingerprint(self, world: int) -> str:
        """Hex digest of `describe`."""
        return hashlib.sha256(json.dumps(self.describe(world)).encode()).hexdigest()

    def check(self, described: dict[str, Any], world: int, is_elastic: bool = False) -> None:
        """See that a checkpoint was made with the same stream.

        Raises:
            DataError: it was not.
        """
        now = self.describe(world)
        differing = [name for name in {**described, **now} if described.get(name) != now.get(name)]
        if differing:
            pairs = (f"{name} was {described.get(name)}, is {now.get(name)}" for name in differing)
            raise DataError(f"the checkpoint was made with other data: {'; '.join(pairs)}")

    def asked(self, step: int) -> int:
        """How many clips one rank was asked for before `step`."""
        return step * self.batch

    def steps_per_epoch(self, world: int) -> NoReturn:
        """Not known.

        Raises:
            DataError: always.
        """
        raise DataError(
            "data.root is a pipe:, which has no known length; set trainer.max_steps instead of trainer.epochs"
        )


@dataclass(frozen=True)
class _Members:
    """What one streamed sample consists of."""

    members: dict[str, bytes]

    def read(self, i: int, member: str, start: int, length: int) -> bytes:
        """See `data.shard_store.ShardStore`."""
        return self.members[member][start : start + length]

    def ahead(self, shards: Sequence[int]) -> None:
        """There is nothing ahead."""


def index_of_one(shard: str, sample: dict[str, Any]) -> ShardIndex:
    """An index that holds one sample as webdataset gives it, so that it is read as any other.

    Raises:
        SampleError: a member is missing, or they contradict each other.
    """
    key = str(sample.get("__key__", ""))
    members = {name: sample[name] for name in (META, MASKS, *MEDIA) if isinstance(sample.get(name), bytes)}
    ends = [sum(len(raw) for raw in [*members.values()][: k + 1]) for k in range(len(members))]
    spans = {name: (end - len(raw), len(raw)) for end, (name, raw) in zip(ends, members.items(), strict=True)}
    memory = os.memfd_create("meta", os.MFD_CLOEXEC)
    try:
        os.write(memory, members.get(META, b""))
        columns = columns_of_one(shard, key, spans, memory, max(ends, default=0))
    except DataError as error:
        reason = str(error).removeprefix(f'{shard}, clip "{key}": ')
        raise SampleError(reason, shard, key, META) from error
    finally:
        os.close(memory)
    return ShardIndex(shard, columns, _Members(members))


@dataclass
class StreamBatches(torch.utils.data.IterableDataset[Delivery]):
    """Endless micro-batches of one rank from a stream.

    Attributes:
        config: what to read.
        size: side of the model's square, pixels.
        seed: of the run.
        rank: of this process.
        world: number of processes.
        is_raw: frames are left to the device that trains on them.
        first: number of the first micro-batch; set before each iteration.
    """

    config: DataConfig
    size: int
    seed: int
    rank: int
    world: int
    is_raw: bool = False
    first: int = 0

    @property
    def plan(self) -> StreamPlan:
        """Of the run."""
        return StreamPlan(str(self.config.root), self.config.batch, self.seed)

    def __iter__(self) -> Iterator[Delivery]:
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        samples = self.samples(self.rank * workers + number, self.world * workers)
        step = self.first + number
        while True:
            with one_thread():
                delivery = self._delivery(samples, step)
            yield delivery
            if delivery.batch is None:
                return
            step += workers

    def samples(self, taker: int, takers: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """The share of one of so many takers: what its clips are drawn from, and the sample; without end.

        Raises:
            DataError: there is nothing in its share.
            StorageError: a command failed, or what it wrote is no tar.
        """
        life, passage, empty = mix(self.seed, self.first), 0, 0
        while empty < _MOST_EMPTY:
            key, empty = mix(life, passage), empty + 1
            for sample in self.one_pass(key, taker, takers):
                digest = hashlib.sha256(str(sample["__key__"]).encode()).digest()
                yield mix(key, _JOB, int.from_bytes(digest[:8], "little")), sample
                empty = 0
            passage += 1
        raise DataError(
            f"{self.config.root}: gave one of {takers} processes no sample in {empty} passes; see that it writes some, "
            "and that there are more of them than processes that read (lower data.workers)"
        )

    def one_pass(self, key: int, taker: int, takers: int) -> Iterator[dict[str, Any]]:
        """The share of one of so many takers in the pass that `key` draws; together they have each sample once."""
        urls = wds.shardlists.expand_urls(str(self.config.root))
        order = [urls[permute(k, len(urls), mix(key, _SHARDS))] for k in range(len(urls))]
        mine, sharers, place = order[taker::takers], 1, 0
        if takers > len(order):
            shard, place = taker % len(order), taker // len(order)
            mine, sharers = [order[shard]], len(range(shard, takers, len(order)))
        pipeline = wds.DataPipeline(
            lambda: iter([{"url": url} for url in mine]),
            _opened,
            wds.tariterators.tar_file_expander,
            wds.tariterators.group_by_keys,
            lambda found: _every(found, sharers, place),
            wds.shuffle(_HELD, initial=_HELD, rng=Random(mix(key, _SAMPLES, taker))),
        )
        return _named(pipeline)

    def reader(self, index: ShardIndex) -> ClipReader:
        """What makes clips of a sample."""
        is_image = bool(index.is_image[0])
        most = self.config.image_max_objects if is_image else self.config.max_objects
        frames = 1 if is_image else self.config.frames
        return ClipReader(
            index, frames, most, self.size, self.config.sampling, self.config.augment, self.is_raw
        )

    def _delivery(self, samples: Iterator[tuple[int, dict[str, Any]]], step: int) -> Delivery:
        bad: list[BadSample] = []
        try:
            clips = self._clips(samples, step, bad)
        except DataError as error:
            return Delivery(None, tuple(bad), str(error))
        put_together: Any = collate_raw if isinstance(clips[0], RawClip) else collate
        return Delivery(put_together(clips, step, skipped=len(bad)), tuple(bad))

    def _clips(
        self, samples: Iterator[tuple[int, dict[str, Any]]], step: int, bad: list[BadSample]
    ) -> list[Clip | RawClip]:
        clips: list[Clip | RawClip] = []
        left, in_a_row, kinds = self.config.batch_max_objects, 0, set()
        for seed, sample in samples:
            waiting = self.config.batch - len(clips) - 1
            limits = replace(stage_limits(self.config.curriculum, step), objects=left - waiting)
            shard, key = str(sample["__url__"]), str(sample["__key__"])
            try:
                index = index_of_one(shard, sample)
                clips.append(self.reader(index).read(Job(0, 0, seed), limits))
            except SampleError as error:
                number = int.from_bytes(hashlib.sha256(f"{shard} {key}".encode()).digest()[:7], "little")
                bad.append(
                    BadSample(str(self.config.root), number, shard, key, error.member, str(error), step)
                )
                in_a_row += 1
                if in_a_row > MAX_REPLACEMENTS:
                    raise DataError(
                        f"{self.config.root}: {in_a_row} samples one after the other are bad; the last: {error}"
                    ) from error
                continue
            in_a_row = 0
            kinds.add(bool(index.is_image[0]))
            if len(kinds) > 1:
                raise DataError(f"{self.config.root}: holds images and videos; write them into two data sets")
            left -= len(clips[-1].object_ids)
            if not waiting:
                break
        return clips


def _every(samples: Iterator[dict[str, Any]], n: int, place: int) -> Iterator[dict[str, Any]]:
    """Of every `n` samples the one at `place`."""
    return (sample for k, sample in enumerate(samples) if k % n == place)


class _Watched:
    """What a command writes, with the last block of it."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._last = stream, b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        raw: bytes = self._stream.read(size)
        self._last = (self._last + raw[-512:])[-512:]
        return raw

    def finish(self) -> None:
        """Read what is left.

        Raises:
            OSError: it does not end as a tar does, or the command failed.
        """
        while self.read(1 << 16):
            pass
        self._stream.close()
        if self._last.strip(b"\0"):
            raise OSError("the tar is cut off")


def _opened(sources: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The output of each command, which must be a whole tar and end with success."""
    for source in sources:
        stream = wds.gopen(source["url"])
        watched = _Watched(stream)
        try:
            yield source | {"stream": watched}
            watched.finish()  # a tar ends before its padding does
        except OSError as error:
            raise _failed(source["url"], error) from error
        finally:
            if stream.proc.poll() is None:
                stream.proc.kill()
            stream.stream.close()
            stream.proc.wait()


def _failed(command: str, error: Exception) -> StorageError:
    return StorageError(
        f"{command}: failed, or what it wrote is no tar, or only a part of one ({type(error).__name__}: "
        f"{error.args[0] if error.args else error}); run the command by hand to see why"
    )


def _named(samples: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same samples; what goes wrong with a command is said in words about it."""
    try:
        yield from samples
    except (OSError, ValueError, wds.tariterators.tarfile.TarError) as error:
        if isinstance(error, DataError):
            raise
        commands = (
            a for a in error.args[1:] if isinstance(a, str) and a.startswith(PIPE)
        )  # webdataset adds it
        raise _failed(next(commands, PIPE), error) from error
