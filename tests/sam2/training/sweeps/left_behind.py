"""Run directories as runs leave them, made in a moment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sam2.evaluation.report import ObjectResult, Report, Result, write_results


def leave_run(
    path: Path,
    settings: Mapping[str, Any],
    scores: Sequence[float] | Mapping[str, float] = (),
    *,
    log: str = "",
    metrics: str = "",
    **record: Any,
) -> Path:
    """A run with the J&F of each video (one object each); finished if it has any.

    `record` goes into `run.json`; `metrics` is the text of `metrics.csv`.
    """
    (path / "log").mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(dict(settings)))
    (path / "log" / "rank-0.txt").write_text(log)
    by_video = scores if isinstance(scores, Mapping) else {f"v{k:02d}": s for k, s in enumerate(scores)}
    if by_video:
        objects = tuple(ObjectResult(name, 1, jf - 1, jf + 1, 5) for name, jf in by_video.items())
        write_results(path / "eval" / "results.json", Report((Result("trained", objects),)))
    if metrics:
        (path / "metrics.csv").write_text(metrics)
    finished = {"time": "2026-01-01T00:00:00", "step": 4} if by_video else None
    (path / "run.json").write_text(json.dumps({"finished": finished, **record}))
    return path


def cost(seconds: float, devices: int = 1, device: str = "GPU") -> dict[str, Any]:
    """An entry of the starts in `run.json`."""
    return {"cost": {"seconds": seconds, "devices": devices, "device": device}}
