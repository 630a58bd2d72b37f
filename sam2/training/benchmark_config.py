"""The settings of an evaluation on a benchmark: of `sam2 eval run` and of recipes with `task: evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sam2.evaluation.prompts import PROMPTS
from sam2.training.typed import ConfigError, from_mapping, to_plain

SHARDS = "shards:"
TASK = "evaluate"
_MISSING = "???"  # Hydra's word for a setting that must be given


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to evaluate, on what, and how.

    Attributes:
        checkpoint: weight file, run directory, id of a released model, or "random".
        dataset: a benchmark's name, or shards:PATH for videos of one's own.
        root: folder of the benchmark's download.
        out: folder for the masks and results; null: runs/eval/DATASET-WEIGHTS-PROMPT-POLICY.
        model: its name or configuration file, where the weights do not tell.
        prompt: how objects are pointed at on their first frame: mask, box, click1, click3 or click5.
        policy: memory policy, by name or YAML file.
        image_size: side of the model's input in pixels; null: the model's own.
        precision: of the model's arithmetic; null: bfloat16 on a GPU, float32 elsewhere.
        device: null: a GPU if there is one.
        max_rows: objects that go through the model together; null: as the device likes it.
        frames: folder of frames in place of the benchmark's, such as the same videos at their full rate.
        sequences: names of videos with commas, or a file of names: evaluate these alone.
        unofficial: take a folder that is not the benchmark as published; the results say so.
        share: K/N: predict the K-th of N shares alone; whoever finishes last scores. Null: as torchrun or srun say.
        workers: processes that score.
        archive: also make the zip file that the benchmark's server takes.
        overwrite: replace predictions that were made in another way.
    """

    checkpoint: str
    dataset: str
    root: Path | None = None
    out: Path | None = None
    model: str | None = None
    prompt: str = "mask"
    policy: str = "reference"
    image_size: int | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    device: str | None = None
    max_rows: int | None = None
    frames: Path | None = None
    sequences: str | None = None
    unofficial: bool = False
    share: str | None = None
    workers: int = 1
    archive: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.prompt not in PROMPTS:
            raise ValueError(f"prompt is {self.prompt!r}; choose one of {', '.join(PROMPTS)}")
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}; it must be at least 1")
        if self.is_shards == (self.root is not None):
            raise ValueError(
                "root belongs to a benchmark, shards:PATH is a folder itself; leave root out"
                if self.root
                else f"root is not set: name the folder of the download of {self.dataset}"
            )
        if self.is_shards and (self.frames or self.unofficial):
            raise ValueError("frames and unofficial belong to a benchmark, not to shards:PATH")

    @property
    def is_shards(self) -> bool:
        """Whether the videos are one's own."""
        return self.dataset.startswith(SHARDS)


def is_evaluation(values: Mapping[str, Any]) -> bool:
    """Whether composed settings are those of an evaluation, which `task` says.

    Raises:
        ConfigError: `task` is something else.
    """
    task = values.get("task")
    if task not in (None, TASK):
        raise ConfigError(f"task is {task!r}; expected {TASK}, or leave it out to train")
    return task == TASK


def resolve_evaluation(values: Mapping[str, Any]) -> BenchmarkConfig:
    """Typed settings.

    Raises:
        ConfigError: a key is unknown or missing, a value has the wrong type or makes no sense.
    """
    return from_mapping(BenchmarkConfig, {key: value for key, value in values.items() if key != "task"})


def shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """All settings for a look; what must still be given stands there as `???`.

    Raises:
        ConfigError: as `resolve_evaluation`, but for what is missing.
    """
    missing = {key: value for key, value in values.items() if value == _MISSING}
    stand_ins = {key: f"{SHARDS}given" if key == "dataset" else "given" for key in missing}
    complete = resolve_evaluation({**values, **stand_ins})
    return {"task": TASK, **to_plain(complete), **missing}
