"""The data of a training run as Lightning wants it, with an exact place to continue from."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
from numpy.typing import NDArray

from data.clip import DataError
from data.config import DataConfig, DatasetConfig
from data.exclude import choose_samples
from data.held_out import HeldOut, HeldOutVideo
from data.index import ShardIndex
from data.lengths import refuse_short_videos
from data.loader import StepLoader
from data.order import Blocks
from data.plan import Plan, PlannedDataset
from data.plural import plural
from data.quarantine import Quarantine, open_index
from data.raw import RawBatch
from data.read import ClipReader, MicroBatches
from data.storage.copied_shards import CopiedShards
from data.storage.place import is_pipe, shown
from data.stream import StreamBatches, StreamPlan

__all__ = ["ClipDataModule", "DataConfig", "DatasetConfig", "HeldOut", "HeldOutVideo", "StepLoader"]

log = logging.getLogger(__name__)

_UNKNOWN = 1 << 62  # samples of a stream


class ClipDataModule(pl.LightningDataModule):
    """Batches of clips in an order that depends on the seed alone, from wherever training stands.

    Micro-batches are numbered from 0 over the whole run and never end: the trainer decides how many it takes. What is
    stored in a checkpoint is the number that training has consumed (not what workers made ahead) and a description of
    the plan; a checkpoint of other data is refused.

    Args:
        config: what to read.
        image_size: side of the model's square, pixels.
        seed: of the run.
        directory: of the run, where bad samples are listed; None: nowhere.
        val_limit: evaluate on at most this many videos while training, the first ones; None: on all.
    """

    def __init__(
        self,
        config: DataConfig,
        image_size: int,
        seed: int,
        directory: Path | None = None,
        val_limit: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.image_size = image_size
        self.seed = seed
        self.directory = directory
        self.val_limit = val_limit
        self._start = 0
        self._quarantine: Quarantine | None = None
        self._loader: StepLoader | None = None
        self._has_warned = False
        self._ahead: int | None = (
            None  # consumed, less what the trainer has counted; None before it asks for data
        )

    @cached_property
    def indexes(self) -> tuple[ShardIndex, ...]:
        """Of the data sets to train on."""
        access = self.config.access
        found = tuple(
            open_index(part.root, self.config.max_bad_fraction, access) for part in self.config.parts()
        )
        for index in found:
            if self.config.shuffle == "samples" and isinstance(index.store, CopiedShards):
                index.store.warn_of_small_cache()
        return found

    @cached_property
    def plan(self) -> Plan | StreamPlan:
        """Which samples each step uses.

        Raises:
            DataError: no data set, or one that cannot be used.
        """
        if self._stream is not None:
            return self._stream.plan
        return Plan(self._planned, self.seed)

    @cached_property
    def _planned(self) -> tuple[PlannedDataset, ...]:
        return tuple(
            PlannedDataset(
                name=shown(part.root),
                size=len(reader.samples.numbers),
                fingerprint=reader.samples.fingerprint,
                batch=part.batch or self.config.batch,
                weight=part.weight,
                repeat=part.repeat,
                blocks=self._blocks(reader.index, reader.samples.numbers),
            )
            for part, reader in zip(self.config.parts(), self.readers, strict=True)
        )

    @property
    def _stream(self) -> StreamBatches | None:
        """The batches, where a command writes the shards."""
        root = self.config.root
        if root is None or not is_pipe(root):
            return None
        return StreamBatches(self.config, self.image_size, self.seed, self.rank, self.world, self._is_raw())

    def _blocks(self, index: ShardIndex, numbers: NDArray[np.int64]) -> Blocks | None:
        """The order of shards, where samples are not all mixed."""
        if self.config.shuffle == "samples":
            return None
        counts = np.bincount(index.columns.shard[numbers], minlength=len(index.columns.shard_names))
        return Blocks(tuple(counts.tolist()), self.config.shuffle_window)

    @cached_property
    def readers(self) -> tuple[ClipReader, ...]:
        """One for each data set.

        Raises:
            DataError: the data sets cannot give clips as they are asked for.
        """
        return tuple(
            self._reader(part, index) for part, index in zip(self.config.parts(), self.indexes, strict=True)
        )

    def _reader(self, part: DatasetConfig, index: ShardIndex) -> ClipReader:
        images = index.is_image
        if images.any() and not images.all():
            raise DataError(f"{shown(part.root)}: holds images and videos; convert them into two data sets")
        is_images = bool(images.all())
        if is_images and (part.frames or 1) != 1:
            raise DataError(f"{shown(part.root)}: holds images, frames must be 1, not {part.frames}")
        frames = 1 if is_images else part.frames or self.config.frames
        if not is_images:
            setting = f"frames of {shown(part.root)}" if part.frames else "data.frames"
            refuse_short_videos(index, frames, self.config.sampling, self.config.max_bad_fraction, setting)
        most = part.max_objects or (self.config.image_max_objects if is_images else self.config.max_objects)
        return ClipReader(
            index,
            frames,
            most,
            self.image_size,
            self.config.sampling,
            self.config.augment,
            chosen=choose_samples(index, shown(part.root), self.config.exclude),
        )

    def _is_raw(self) -> bool:
        """Whether the device warps and colours frames; the trainer knows it, and plans are made before there is one."""
        if self.config.warp_on != "auto":
            return self.config.warp_on == "device"
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Finish, on the device, what workers left to it."""
        return batch.finish() if isinstance(batch, RawBatch) else batch

    @property
    def bad_samples(self) -> int:
        """How many samples this rank found bad so far, those of the run that it continues included."""
        return len(self._quarantine or ())

    @property
    def rank(self) -> int:
        """Of this process."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.trainer.world_size if self.trainer else 1

    @property
    def consumed(self) -> int:
        """Micro-batches that training has done; set it to start somewhere else."""
        return self._start if self._ahead is None else self._processed() + self._ahead

    @consumed.setter
    def consumed(self, step: int) -> None:
        self._start, self._ahead = step, None

    def _processed(self) -> int:
        """What the trainer has counted; it keeps this number in its checkpoints too."""
        return (
            cast(Any, self.trainer.fit_loop.epoch_loop.batch_progress.total).processed if self.trainer else 0
        )

    def state_dict(self) -> dict[str, Any]:
        """Where training stands; the same on every rank."""
        return {"consumed": self.consumed, "plan": self.plan.describe(self.world)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from there.

        Raises:
            DataError: the checkpoint was made with other data, batch sizes or another seed.
        """
        self.plan.check(state_dict["plan"], self.world, self.config.resume == "elastic")
        self.consumed = state_dict["consumed"]

    def train_dataloader(self) -> StepLoader:
        """Micro-batches of this rank, from the first one that was not consumed."""
        self.held_out()  # what is wrong with it is said before the first step, not after the last one
        start = self.consumed
        self._start, self._ahead = start, start - self._processed()
        plan = self.plan
        batches: MicroBatches | StreamBatches | None = self._stream
        if isinstance(plan, Plan):
            batches = self.micro_batches(self.rank, self.world, self._is_raw())
        assert batches is not None
        samples = sum(dataset.size for dataset in self._planned) if isinstance(plan, Plan) else _UNKNOWN
        self._quarantine = Quarantine(self.directory, self.rank, samples, self.config.max_bad_fraction)
        self._warn_of_idle_workers()
        if isinstance(plan, Plan):
            self._say_memory()
        elif start:
            log.warning(
                "data.root is a pipe:, so the run goes on with a new pass over it: samples may come again"
            )
        log_file = None if self.directory is None else self.directory / f"rank-{self.rank}.txt"
        self._loader = StepLoader(batches, self._quarantine, self.config, lambda: self.consumed, log_file)
        return self._loader

    def on_exception(self, exception: BaseException) -> None:
        """The run ends here: so do the workers, before the interpreter ends them in a way that torch complains of."""
        if self._loader is not None:
            self._loader.close()

    def micro_batches(self, rank: int, world: int, is_raw: bool) -> MicroBatches:
        """All micro-batches of any rank; `is_raw` leaves frames to the device that trains.

        Raises:
            DataError: the data come out of a pipe, which gives them once.
        """
        plan = self.plan
        if not isinstance(plan, Plan):
            raise DataError("data.root is a pipe:, which gives its samples once; they cannot be had again")
        readers = tuple(replace(reader, is_raw=is_raw) for reader in self.readers)
        stages, most = self.config.curriculum, self.config.batch_max_objects
        return MicroBatches(plan, readers, rank, world, stages, most)

    def batch_bytes(self) -> int:
        """The largest micro-batch of this rank as workers hand it over."""
        sizes = [
            replace(reader, is_raw=self._is_raw()).batch_bytes(dataset.batch, self.config.batch_max_objects)
            for reader, dataset in zip(self.readers, self._planned, strict=True)
        ]
        return max(sizes)

    def _say_memory(self) -> None:
        """What batches that wait take, beside what every process takes for itself."""
        each, ahead = self.batch_bytes() / 1e6, self.config.prefetch
        if not self.config.workers:
            log.info("data: made in the process that trains, batches of up to %.1f MB", each)
            return
        log.info(
            "data: %s, each up to %s of %.1f MB ahead: up to %.1f MB a worker beside Python and torch, %.1f MB of "
            "batches a process that trains",
            plural(self.config.workers, "worker"),
            plural(ahead, "batch", "batches"),
            each,
            ahead * each,
            self.config.workers * ahead * each,
        )

    def _warn_of_idle_workers(self) -> None:
        cores = _cores()
        if self.config.workers > cores and not self._has_warned:
            log.warning(
                "data.workers=%d, but this process may run on %s: workers beyond that take memory and make nothing "
                "faster; data.workers=%d or less is enough",
                self.config.workers,
                plural(cores, "core"),
                cores,
            )
            self._has_warned = True

    def held_out(self) -> HeldOut | None:
        """The videos to evaluate on, or None."""
        root = self.config.val_root
        return None if root is None else HeldOut.open(root, self.image_size, self.config.access)

    def val_dataloader(self) -> Iterable[HeldOutVideo]:
        """This rank's share of the videos to evaluate on, one at a time; nothing if there are none."""
        videos = self.held_out()
        return _Unsized(videos.share(self.rank, self.world, self.val_limit) if videos is not None else ())


@dataclass(frozen=True)
class _Unsized:
    """Hides the length of an iterable: Lightning stops where a rank has less than one video."""

    items: Iterable[HeldOutVideo]

    def __iter__(self) -> Iterator[HeldOutVideo]:
        return iter(self.items)


def _cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
