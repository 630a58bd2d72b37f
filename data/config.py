"""Settings of the data of a run; they need nothing but plain types, so any configuration system can fill them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data.augment import AugmentConfig
from data.clip import DataError
from data.sample import SamplingConfig
from data.storage.access import Access
from data.storage.place import Url, checked, is_pipe, is_url, shown

_CHOICES = {
    "warp_on": ("auto", "worker", "device"),
    "shuffle": ("samples", "shards"),
    "resume": ("exact", "elastic"),
    "remote": ("download", "range"),
}


@dataclass(frozen=True)
class DatasetConfig:
    """One of several data sets; what is null comes from `DataConfig`.

    Attributes:
        root: folder of shards with their index, or its address.
        weight: how often a step uses this data set, relative to the others; null everywhere: by its number of batches.
        repeat: how often a sample comes in one epoch.
        batch: clips in a micro-batch of one rank.
        frames: of a clip; images have one.
        max_objects: of a clip.
    """

    root: Url | Path
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
        root: folder of shards with their index (`sam2 data convert` makes it), its address (s3://, gs://, https://), or
            `pipe:` and a command that writes shards.
        datasets: several of them, instead of `root`.
        val_root: folder of shards to evaluate on, or its address.
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
        cache_dir: folder on this node for copies of shards that lie elsewhere; null: in $SLURM_TMPDIR, or among the
            user's caches.
        cache_gb: what the copies may take together, 10**9 bytes; those not used for the longest time go first.
        remote: "download" copies a shard when a sample of it is first wanted; "range" asks for what is wanted alone,
            which suits few videos of many.
        stage: copy all shards to `cache_dir` before the run begins, also from a folder; if they do not fit, they are
            read where they are.
        attempts: how often a server is asked before the run stops.
    """

    root: Url | Path | None = None
    datasets: tuple[DatasetConfig, ...] = ()
    val_root: Url | Path | None = None
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
    cache_dir: Path | None = None
    cache_gb: float = 100.0
    remote: Literal["download", "range"] = "download"
    stage: bool = False
    attempts: int = 8

    def __post_init__(self) -> None:
        ones = ["frames", "batch", "repeat", "max_objects", "image_max_objects", "prefetch", "shuffle_window"]
        for name, low in {**dict.fromkeys([*ones, "attempts"], 1), "workers": 0}.items():
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
                    raise DataError(f"{name} of {shown(dataset.root)} is {value}; it must be 1 or more")
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

        if not 0 < self.cache_gb < float("inf"):
            raise DataError(f"cache_gb is {self.cache_gb}; it must be above 0")
        for place in (*(dataset.root for dataset in self.datasets), self.val_root):
            if place is not None and is_pipe(place):
                raise DataError(f"{place}: a command cannot be one of several data sets, nor be evaluated on")
        if self.root is not None and is_pipe(self.root) and self.exclude:
            raise DataError("exclude needs an index, which a pipe: does not have; leave it out")
        for place in (self.root, *(dataset.root for dataset in self.datasets), self.val_root):
            if place is not None and is_url(place) and not is_pipe(place):
                checked(str(place))

    @property
    def access(self) -> Access:
        """How shards are read that lie elsewhere."""
        return Access(self.cache_dir, self.cache_gb, self.remote, self.stage, self.attempts)

    def parts(self) -> tuple[DatasetConfig, ...]:
        """The data sets to train on."""
        if self.root is None:
            return self.datasets
        return (DatasetConfig(self.root, repeat=self.repeat),)
