"""Settings of the data of a run; they need nothing but plain types, so any configuration system can fill them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data.augment import AugmentConfig
from data.clip import DataError
from data.sample import SamplingConfig

_CHOICES = {
    "warp_on": ("auto", "worker", "device"),
    "shuffle": ("samples", "shards"),
    "resume": ("exact", "elastic"),
}


@dataclass(frozen=True)
class DatasetConfig:
    """One of several data sets; what is null comes from `DataConfig`.

    Attributes:
        root: folder of shards with their index.
        weight: how often a step uses this data set, relative to the others; null everywhere: by its number of batches.
        repeat: how often a sample comes in one epoch.
        batch: clips in a micro-batch of one rank.
        frames: of a clip; images have one.
        max_objects: of a clip.
    """

    root: Path
    weight: float | None = None
    repeat: int = 1
    batch: int | None = None
    frames: int | None = None
    max_objects: int | None = None


@dataclass(frozen=True)
class Stage:
    """Up to micro-batch `until`, clips have at most `frames` frames and strides of at most `stride_max` (None: any)."""

    until: int
    frames: int
    stride_max: int | None = None


@dataclass(frozen=True)
class DataConfig:
    """What a run trains on and is evaluated on.

    Attributes:
        root: folder of shards with their index (`sam2 data convert` makes it).
        datasets: several of them, instead of `root`.
        val_root: folder of shards to evaluate on.
        frames: of a clip.
        curriculum: stages with shorter or denser clips at the beginning, in order; memory is learned faster from two
            frames.
        batch: clips in a micro-batch of one rank.
        repeat: how often a sample of `root` comes in one epoch.
        max_objects: of a video clip.
        image_max_objects: of an image.
        batch_max_objects: of a micro-batch of one rank, so that crowded images cannot exhaust memory; its first clips
            take what they may, each later one is left at least one object.
        workers: processes that make batches; 0 makes them in the training process. Does not change the batches.
        prefetch: batches each worker makes ahead.
        shuffle: "samples" mixes all of a data set; "shards" reads its shards in random order and mixes the samples of
            `shuffle_window` of them, for disks and caches that hate random reads.
        shuffle_window: shards that "shards" mixes.
        resume: "exact" continues on the same number of processes only; "elastic" on any number, if the global batch is
            the same.
        exclude: samples to leave out: `quarantine-*.jsonl` lists of earlier runs, or their run directories.
        max_bad_fraction: the run stops when more than this share of the samples cannot be read; see data/quarantine.py.
        sampling: how clips are cut from videos.
        augment: how they are changed at random.
        warp_on: who moves and colours pixels: "worker", the processes that make batches; "device", the one that trains;
            "auto", the device if it is a GPU. What is drawn is the same; results differ by rounding.
    """

    root: Path | None = None
    datasets: tuple[DatasetConfig, ...] = ()
    val_root: Path | None = None
    frames: int = 8
    curriculum: tuple[Stage, ...] = ()
    batch: int = 1
    repeat: int = 1
    max_objects: int = 3
    image_max_objects: int = 64
    batch_max_objects: int = 256
    shuffle: Literal["samples", "shards"] = "samples"
    shuffle_window: int = 32
    resume: Literal["exact", "elastic"] = "exact"
    workers: int = 2
    prefetch: int = 2
    exclude: tuple[Path, ...] = ()
    max_bad_fraction: float = 0.01
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    warp_on: Literal["auto", "worker", "device"] = "auto"

    def __post_init__(self) -> None:
        ones = ("frames", "batch", "repeat", "max_objects", "image_max_objects", "prefetch", "shuffle_window")
        for name, low in {**dict.fromkeys(ones, 1), "workers": 0}.items():
            if getattr(self, name) < low:
                raise DataError(f"{name} is {getattr(self, name)}; it must be {low} or more")
        largest = max([self.batch, *(dataset.batch or 0 for dataset in self.datasets)])
        if self.batch_max_objects < largest:
            raise DataError(
                f"batch_max_objects is {self.batch_max_objects}; it must be {largest} or more, one for each clip"
            )
        for dataset in self.datasets:
            for name in ("frames", "batch", "max_objects"):
                value = getattr(dataset, name)
                if value is not None and value < 1:
                    raise DataError(f"{name} of {dataset.root} is {value}; it must be 1 or more")
        ends = [0, *(stage.until for stage in self.curriculum)]
        strides = [stage.stride_max or self.sampling.stride_min for stage in self.curriculum]
        if ends != sorted(set(ends)) or any(stage.frames < 1 for stage in self.curriculum):
            raise DataError(
                "curriculum: each stage must end after the one before, with clips of at least 1 frame"
            )
        if min(strides, default=self.sampling.stride_min) < self.sampling.stride_min:
            raise DataError(
                f"curriculum: stride_max={min(strides)} is below sampling.stride_min={self.sampling.stride_min}"
            )
        if not 0 <= self.max_bad_fraction <= 1:
            raise DataError(f"max_bad_fraction is {self.max_bad_fraction}; it is a share from 0 to 1")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise DataError(
                    f"{name} is {getattr(self, name)!r}; choose {', '.join(choices[:-1])} or {choices[-1]}"
                )
        if self.root is not None and self.datasets:
            raise DataError("root and datasets are both set; the second replaces the first")

    def parts(self) -> tuple[DatasetConfig, ...]:
        """The data sets to train on."""
        if self.root is None:
            return self.datasets
        return (DatasetConfig(self.root, repeat=self.repeat),)
