"""From a job to a clip, and from a step to a batch. This is all that a worker process runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data.augment import AugmentConfig, augment
from data.clip import Clip, ClipBatch, DataError, collate
from data.config import Stage
from data.decode import decode_frames, decode_masklet, read_masks
from data.exclude import Chosen, all_samples
from data.index import Sample, ShardIndex
from data.order import mix
from data.plan import Job, Plan
from data.quarantine import MAX_REPLACEMENTS, BadSample, SampleError
from data.raw import RawBatch, RawClip, collate_raw
from data.rle import area
from data.sample import SamplingConfig, TooFewFrames, admitted, choose
from data.shard import MASKS
from data.storage.place import StorageError

_SAMPLING, _AUGMENT, _CLIP = range(1, 4)  # one stream of random numbers for each purpose


@dataclass(frozen=True)
class Limits:
    """What one clip may have at most; None: what its data set allows."""

    frames: int | None = None
    stride_max: int | None = None
    objects: int = 1 << 30


@dataclass(frozen=True)
class ClipReader:
    """Makes the clips of one data set.

    Attributes:
        index: of its shards.
        frames: of a clip.
        max_objects: of a clip.
        size: side of the model's square, pixels.
        sampling: how clips are cut.
        augment: how they are changed.
        is_raw: frames are left to the device that trains on them.
        chosen: the samples that are used; None: all.
    """

    index: ShardIndex
    frames: int
    max_objects: int
    size: int
    sampling: SamplingConfig
    augment: AugmentConfig
    is_raw: bool = False
    chosen: Chosen | None = None

    @property
    def samples(self) -> Chosen:
        """The samples that jobs count through."""
        return self.chosen or all_samples(self.index)

    def number(self, job: Job) -> int:
        """Of a job's sample in the index."""
        return job.index if self.chosen is None else int(self.chosen.numbers[job.index])

    def batch_bytes(self, clips: int, most_objects: int) -> int:
        """The largest batch of so many clips, with at most so many objects."""
        height, width = self.index.columns.shape[:, 2:].max(0) if self.is_raw else (self.size, self.size)
        pixels = int(height) * int(width) * 3
        objects = min(clips * self.max_objects, most_objects)
        return self.frames * (clips * pixels + objects * self.size**2)

    def read(self, job: Job, limits: Limits | None = None) -> Clip | RawClip:
        """The clip of a job.

        Args:
            job: which sample, and all that is random.
            limits: tighter than the data set's own.

        Raises:
            SampleError: the sample is damaged, or no clip can be cut from it.
        """
        number = self.number(job)
        sample = self.index[number]
        masks = read_masks(self.index, number)
        visible = self._visible(number, sample, masks)
        seed = mix(job.seed, _SAMPLING)
        limits = limits or Limits()
        length = min(self.frames, limits.frames or self.frames)
        sampling = self.sampling
        if limits.stride_max:
            sampling = replace(sampling, stride_max=min(sampling.stride_max, limits.stride_max))
        try:
            chosen = choose(visible, length, min(self.max_objects, limits.objects), sampling, seed)
        except DataError as error:
            member = sample.media if isinstance(error, TooFewFrames) else MASKS
            raise SampleError(str(error), sample.shard, sample.key, member) from error
        masklets = [decode_masklet(sample, masks[k], k, chosen.frames) for k in chosen.objects]
        pixels = decode_frames(self.index, number, chosen.frames)
        frames, shapes = augment(pixels, masklets, self.size, self.augment, mix(job.seed, _AUGMENT))
        clip = Clip(
            frames=torch.empty(len(pixels), 0) if self.is_raw else frames.finish(),
            masks=shapes,
            object_ids=tuple(sample.object_ids[k] for k in chosen.objects),
            source=f"{sample.where}, {_span(chosen.frames)}",
            seed=mix(job.seed, _CLIP),
        )
        return RawClip(frames, clip) if self.is_raw else clip

    def _visible(self, i: int, sample: Sample, masks: list[list[str]]) -> NDArray[np.bool_]:
        """Where objects may be used, (O, N): visible, of the right size and kind."""
        rules, visible = self.sampling, sample.visible
        try:
            if rules.min_area > 0 or rules.max_area < 1:
                height, width = sample.height, sample.width
                areas = [[area(counts, height, width, "a mask") for counts in row] for row in masks]
                share = np.array(areas).reshape(visible.shape) / (height * width)
                visible = visible & (share >= rules.min_area) & (share <= rules.max_area)
            if rules.asks_the_source:
                visible = visible & admitted(self.index.meta(i), rules)[:, None]
        except StorageError:
            raise
        except DataError as error:
            raise SampleError(str(error), sample.shard, sample.key, MASKS) from error
        return visible


def _span(frames: tuple[int, ...]) -> str:
    if len(frames) == 1:
        return f"frame {frames[0]}"
    stride = frames[1] - frames[0]
    return f"frames {frames[0]} to {frames[-1]}" + (f" by {stride}" if stride != 1 else "")


@dataclass(frozen=True)
class Delivery:
    """A batch and the samples that were found bad while it was made, or why it could not be made."""

    batch: ClipBatch | RawBatch | None
    bad: tuple[BadSample, ...] = ()
    failure: str = ""

    def pin_memory(self) -> Delivery:
        """The same with the batch in page-locked memory."""
        return replace(self, batch=self.batch.pin_memory() if self.batch else None)


def stage_limits(stages: Sequence[Stage], step: int) -> Limits:
    """What the stage of micro-batch `step` allows."""
    stage = next((stage for stage in stages if step < stage.until), None)
    return Limits(stage.frames, stage.stride_max) if stage else Limits()


@dataclass(frozen=True)
class MicroBatches(torch.utils.data.Dataset[Delivery]):
    """The micro-batches of one rank, by their number.

    `readers` has one entry for each data set of the plan; `stages` limit the clips of the first micro-batches;
    `max_objects` is that of a micro-batch.
    """

    plan: Plan
    readers: tuple[ClipReader, ...]
    rank: int
    world: int
    stages: tuple[Stage, ...] = ()
    max_objects: int = 1 << 30

    def __getitem__(self, step: int) -> Delivery:
        """Micro-batch `step`; the same in any process, at any time."""
        bad: list[BadSample] = []
        with one_thread():
            try:
                clips = self._clips(step, bad)
            except DataError as error:
                return Delivery(None, tuple(bad), str(error))
        put_together: Any = collate_raw if isinstance(clips[0], RawClip) else collate
        return Delivery(put_together(clips, step, skipped=len(bad)), tuple(bad))

    def _clips(self, step: int, bad: list[BadSample]) -> list[Clip | RawClip]:
        """The clips of micro-batch `step`, together of at most `max_objects` objects."""
        shards = self.plan.shards_ahead(step, self.world)
        self.readers[self.plan.dataset(step)].index.ahead(shards)
        jobs, left = self.plan.jobs(step, self.rank, self.world), self.max_objects
        clips = []
        for waiting, job in zip(range(len(jobs) - 1, -1, -1), jobs, strict=True):
            limits = replace(stage_limits(self.stages, step), objects=left - waiting)
            clips.append(self._read(job, step, limits, bad))
            left -= len(clips[-1].object_ids)
        return clips

    def _read(self, job: Job, step: int, limits: Limits, bad: list[BadSample]) -> Clip | RawClip:
        """The clip of `job`, or of the first of its replacements that can be read."""
        reader, name = self.readers[job.dataset], self.plan.datasets[job.dataset].name
        current: Job | None = job
        tried = 0
        while current is not None:
            try:
                return reader.read(current, limits)
            except SampleError as error:
                bad.append(
                    BadSample(
                        name, reader.number(current), error.shard, error.key, error.member, str(error), step
                    )
                )
                tried += 1
                current = self.plan.replacement(job, tried) if tried <= MAX_REPLACEMENTS else None
        raise DataError(
            f"data set {name}: {tried} samples one after the other are bad; is the disk there? "
            f"The last: {bad[-1].error}"
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of floats depend on the number of threads; here it is the same in every process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
