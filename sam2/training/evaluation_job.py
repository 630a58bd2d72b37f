"""Evaluations of every kind, told apart by their settings."""

from __future__ import annotations

from rich.console import Console

from sam2.training.benchmark_job import run_benchmark
from sam2.training.evaluation_config import (
    BenchmarkConfig,
    EvaluationConfig,
    ImageConfig,
    InteractiveConfig,
)
from sam2.training.image_job import run_images
from sam2.training.interactive_job import run_interactive
from sam2.training.pieces import Ended


def run_evaluation(config: EvaluationConfig, console: Console) -> Ended:
    """Do this process's part of an evaluation, and all that is left to do if it is the last one.

    Raises:
        EvaluationError, ...: see the three.
    """
    match config:
        case BenchmarkConfig():
            return run_benchmark(config, console)
        case InteractiveConfig():
            return run_interactive(config, console)
        case ImageConfig():
            return run_images(config, console)
    raise TypeError(f"there is no evaluation with a {type(config).__name__}")
