"""Whether an evaluation has its results already; asked on a login node, before a job is submitted for it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam2.evaluation.benchmark_run import RESULTS, SETTINGS
from sam2.evaluation.errors import EvaluationError
from sam2.training.evaluation_config import (
    BenchmarkConfig,
    EvaluationConfig,
    ImageConfig,
    InteractiveConfig,
)


def results_at_hand(config: EvaluationConfig, out: Path) -> Path | None:
    """The results file in `out`, if it is that of these settings, data and weights; None if there is work to do.

    Raises:
        EvaluationError, CheckpointError, ...: data or weights are not as they should be, as in the evaluation itself.
    """
    results = out / RESULTS
    if config.overwrite or not results.is_file() or not (out / SETTINGS).is_file():
        return None
    found = {key: value for key, value in _read(results).items() if key in ("run", "interval")}
    run, interval = found.get("run"), found.get("interval")
    if not isinstance(run, Mapping) or not isinstance(interval, Mapping):
        return None
    draws = {"seed": config.seed, "resamples": config.resamples}
    if draws != {key: interval.get(key) for key in draws}:
        return None
    # a job has other devices than this machine: what depends on them is looked at below
    wanted = json.loads(json.dumps(_asked(dataclasses.replace(config, device="cpu", share=None))))
    if config.precision is None:
        unset = run.get("precision") if config.device is None else None
        wanted["precision"] = unset or ("float32" if str(config.device).startswith("cpu") else "bfloat16")
    return results if wanted == {key: run.get(key) for key in wanted} else None


def _asked(config: EvaluationConfig) -> Mapping[str, Any]:
    """What the evaluation would note of itself; imported when needed, because models come with it."""
    from sam2.training.benchmark_job import open_evaluation
    from sam2.training.image_job import open_images
    from sam2.training.interactive_job import open_interactive

    match config:
        case BenchmarkConfig():
            return open_evaluation(config, config.prompt).settings
        case InteractiveConfig():
            return open_interactive(config)[1]
        case ImageConfig():
            return open_images(config).settings
    raise TypeError(f"there is no evaluation with a {type(config).__name__}")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise EvaluationError(f"{path}: cannot be read ({error}); remove it and submit again") from error
    return content if isinstance(content, dict) else {}
