"""The settings of evaluations: options of the verbs of `sam2 eval`, keys of recipes with `task: evaluate...`.

Each is written once, with what it means: sam2/cli/eval_options.py makes a command line of a class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from sam2.evaluation.benchmark_names import benchmarks, no_benchmark
from sam2.evaluation.interactive import Rules
from sam2.evaluation.interactive_way import Way
from sam2.evaluation.kinds import AFTER
from sam2.evaluation.prompts import PROMPTS
from sam2.evaluation.uncertainty import MAX_RESAMPLES, MIN_RESAMPLES, Bootstrap
from sam2.slurm.profile import Cluster
from sam2.training.launcher_config import LauncherConfig
from sam2.training.option import Option
from sam2.training.typed import ConfigError, from_mapping, to_plain

SHARDS = "shards:"
_MISSING = "???"  # Hydra's word for a setting that must be given
_FRAMES_FOLDER = "Frames from elsewhere, such as the same videos at full rate."


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """How intervals are made of the scores."""

    # the heading of a class's own options in help
    PANEL: ClassVar[str | None] = "Intervals"

    seed: Annotated[int, Option("N", "Another seed, other draws of the videos (images, volumes).")] = 0
    resamples: Annotated[int, Option("N", "How often they are drawn.")] = Bootstrap.resamples

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be at least 0")
        if not MIN_RESAMPLES <= self.resamples <= MAX_RESAMPLES:
            raise ValueError(
                f"resamples is {self.resamples}; expected {MIN_RESAMPLES} to {MAX_RESAMPLES} draws"
            )

    @property
    def how(self) -> Bootstrap:
        """Level, number and seed of the draws."""
        return Bootstrap(resamples=self.resamples, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Intervals):
    """Which model to evaluate, and where."""

    PANEL: ClassVar[str | None] = "Model and machine"

    checkpoint: Annotated[
        str,
        Option(
            "CHECKPOINT", "Weight file, run directory, id of a released model, or random.", is_named=False
        ),
    ]
    model: Annotated[
        str | None, Option("NAME", "Which model (or its file), where the weights do not tell.")
    ] = None
    image_size: Annotated[
        int | None, Option("PX", "Side of the model's input; by default the model's own.", name="size")
    ] = None
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        Option("KIND", "float32 or bfloat16; by default bfloat16 on a GPU, float32 elsewhere."),
    ] = None
    device: Annotated[str | None, Option("NAME", "By default a GPU if there is one.")] = None
    share: Annotated[
        str | None,
        Option("K/N", "Do the K-th of N shares; torchrun and srun say so without being asked."),
    ] = None
    overwrite: Annotated[bool, Option(None, "Replace what was made in another way.")] = False
    # of recipes alone: on a command line a verb of `sam2 eval` runs here and now
    launcher: LauncherConfig = LauncherConfig()
    cluster: Cluster = field(default_factory=Cluster)


@dataclass(frozen=True, kw_only=True)
class VideosConfig(EvaluationConfig):
    """Which videos, and by which memory objects are followed."""

    PANEL: ClassVar[str | None] = "Videos"

    dataset: Annotated[str, Option("NAME", "davis2017, mose, lvos, ytvos, sav_val, sav_test or shards:PATH.")]
    root: Annotated[Path | None, Option("DIR", "Folder of the benchmark's download.")] = None
    frames: Annotated[Path | None, Option("DIR", _FRAMES_FOLDER)] = None
    sequences: Annotated[str | None, Option("FILE|A,B", "These videos alone: a file of names, or names.")] = (
        None
    )
    unofficial: Annotated[bool, Option(None, "Take data that are not the benchmark as published.")] = False
    policy: Annotated[str, Option("NAME", "Memory policy, by name or YAML file.")] = "reference"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.is_shards and self.dataset not in (_MISSING, *benchmarks()):
            raise ValueError(no_benchmark(self.dataset))
        if self.is_shards == (self.root is not None):
            raise ValueError(
                "root belongs to a benchmark, shards:PATH is a folder itself; leave root out"
                if self.root
                else f"root is not set: name the folder of the download of {self.dataset}"
            )
        if self.is_shards and (self.frames or self.unofficial):
            wrong = "frames" if self.frames else "unofficial"
            raise ValueError(f"{wrong} belongs to a benchmark, not to shards:PATH; leave {wrong} out")

    @property
    def is_shards(self) -> bool:
        """Whether the videos are one's own."""
        return self.dataset.startswith(SHARDS)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(VideosConfig):
    """Follow objects through videos: `sam2 eval run`, `task: evaluate`."""

    PANEL: ClassVar[str | None] = None

    out: Annotated[Path | None, Option("DIR", "Folder for masks and results; by default in runs/eval.")] = (
        None
    )
    prompt: Annotated[
        str, Option("KIND", "mask, box, click1, click3 or click5, on an object's first frame.")
    ] = "mask"
    max_rows: Annotated[
        int | None, Option("N", "Objects that go through the model together; bounds memory.")
    ] = None
    workers: Annotated[int, Option("N", "Processes that score.")] = 1
    archive: bool = True  # also the zip file that the benchmark's server takes

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt not in PROMPTS:
            raise ValueError(f"prompt is {self.prompt!r}; choose one of {', '.join(PROMPTS)}")
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class InteractiveConfig(VideosConfig):
    """Correct objects in videos: `sam2 eval interactive`, `task: evaluate_interactive`."""

    PANEL: ClassVar[str | None] = None

    out: Annotated[Path, Option("DIR", "Folder for the results.")]
    mode: Annotated[
        str,
        Option(
            "KIND", "offline: watch all, correct the worst frame; online: stop below the threshold, go on."
        ),
    ] = "offline"
    frames_budget: Annotated[int, Option("N", "Frames to click on, at most.")] = 8
    clicks: Annotated[int, Option("N", "Clicks on each of them, at most.")] = 3
    threshold: Annotated[float, Option("IOU", "Online: stop at the first frame below it.")] = 0.75
    corrections: Annotated[
        str,
        Option(
            "KIND",
            "What corrected frames become in the memory: prompted, as in training, or (online) tracked, as in the "
            "released predictor.",
        ),
    ] = "prompted"
    cached_frames: Annotated[
        int,
        Option("N", "Videos of at most N frames go through the trunk once; 17 MB a frame at 1024 px."),
    ] = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.way  # checks

    @property
    def way(self) -> Way:
        """Mode and rules.

        Raises:
            ValueError: they make no sense.
        """
        rules = Rules(self.frames_budget, self.clicks, self.threshold)
        return Way(self.mode, rules, self.corrections, self.cached_frames)


@dataclass(frozen=True, kw_only=True)
class ImageConfig(EvaluationConfig):
    """Find objects in still images: `sam2 eval image`, `task: evaluate_image`."""

    PANEL: ClassVar[str | None] = None

    data: Annotated[
        Path,
        Option(
            "FILE|DIR",
            "A COCO file, or a folder with NAME.png of object ids (palette, 8 or 16 bits) or NAME/ with a PNG an "
            "object.",
        ),
    ]
    images: Annotated[Path, Option("DIR", "Folder of the images.")]
    out: Annotated[Path, Option("DIR", "Folder for the results.")]
    clicks: Annotated[int, Option("N", "Clicks on each object, at most.")] = 20
    void: Annotated[int | None, Option("ID", "With a folder of masks: an id that is no object.")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clicks < max(AFTER):
            raise ValueError(f"clicks is {self.clicks}; it must be at least {max(AFTER)}")
        if self.void is not None and self.is_coco:
            raise ValueError("void belongs to a folder of masks, not to a COCO file")

    @property
    def is_coco(self) -> bool:
        """Whether the masks are a COCO file's."""
        return self.data.suffix.lower() == ".json"


TASKS: Mapping[str, type[EvaluationConfig]] = {
    "evaluate": BenchmarkConfig,
    "evaluate_interactive": InteractiveConfig,
    "evaluate_image": ImageConfig,
}


def is_evaluation(values: Mapping[str, Any]) -> bool:
    """Whether composed settings are those of an evaluation, which `task` says.

    Raises:
        ConfigError: `task` is something else.
    """
    task = values.get("task")
    if task is not None and task not in TASKS:
        raise ConfigError(f"task is {task!r}; expected {', '.join(TASKS)}, or leave it out to train")
    return task is not None


def resolve_evaluation(values: Mapping[str, Any]) -> EvaluationConfig:
    """Typed settings of the kind that `task` says.

    Raises:
        ConfigError: a key is unknown or missing, a value has the wrong type or makes no sense.
    """
    return from_mapping(TASKS[values["task"]], {key: value for key, value in values.items() if key != "task"})


def shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """All settings for a look; what must still be given stands there as `???`.

    Raises:
        ConfigError: as `resolve_evaluation`, but for what is missing.
    """
    missing = {key: value for key, value in values.items() if value == _MISSING}
    stand_ins = {key: f"{SHARDS}given" if key == "dataset" else "given" for key in missing}
    complete = resolve_evaluation({**values, **stand_ins})
    return {"task": values["task"], **to_plain(complete), **missing}
