"""What an evaluation on a benchmark shows beside its scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from sam2.evaluation.benchmark import Manifest

_SPEED = (
    "fps",
    "model_fps",
    "p50_ms",
    "p95_ms",
    "peak_memory_gb",
    "state_growth_mb",
    "process_growth_mb",
    "device_growth_mb",
    "growth_videos",
)


def tables(results: Mapping[str, Any]) -> list[Table]:
    """For the terminal: what the model knows of itself, J&F by kind of object, published numbers if there are any."""
    shown = [_beyond(results), _by_kind(results)]
    return [*shown, _comparison(results)] if results["published"] else shown


def published(about: Manifest | None, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What others have reported for this benchmark and prompt, the same model first."""
    rows = () if about is None else (row for row in about.published if row.prompt == settings["prompt"])
    ordered = sorted(rows, key=lambda row: row.model != settings["model"])
    return [{"model": row.model, "J&F": row.jf, "source": row.source} for row in ordered]


def _beyond(results: Mapping[str, Any]) -> Table:
    """What J&F leaves out, as a table."""
    each = Table(title="beside the masks", title_justify="left", show_header=False)
    each.add_column()
    each.add_column()
    each.add_column(justify="right")
    speed = {name: results["run"]["speed"][name] for name in _SPEED}
    for group, numbers in (
        *((name, results[name]) for name in ("visibility", "calibration")),
        ("speed", speed),
    ):
        for name, value in numbers.items():
            each.add_row(group, name, "n/a" if value is None else f"{value:.4g}")
    return each


def _by_kind(results: Mapping[str, Any]) -> Table:
    """J&F of every group of objects."""
    each = Table(title="by kind of object, as told from the true masks", title_justify="left")
    for name in ("by", "group", "objects", "J&F"):
        each.add_column(name, justify="right" if name in ("objects", "J&F") else "left")
    for kind, content in results["by"].items():
        for group, numbers in content["groups"].items():
            each.add_row(
                f"{kind} ({content['unit']})", group, str(numbers["objects"]), f"{numbers['J&F']:.1f}"
            )
    return each


def _comparison(results: Mapping[str, Any]) -> Table:
    """What others have reported."""
    official = "" if results["run"]["official"] else " (not on the whole benchmark: no comparison)"
    sources = list(dict.fromkeys(row["source"] for row in results["published"]))
    one = f"source: {sources[0]}" if len(sources) == 1 else None  # said once
    each = Table(title=f"published{official}", title_justify="left", caption=one, caption_justify="left")
    for name in ("model", "J&F", "ours", *([] if one else ["source"])):
        each.add_column(name, justify="right" if name in ("J&F", "ours") else "left")
    for row in results["published"]:
        same = row["model"] == results["run"]["model"]
        numbers = row["model"], f"{row['J&F']:.1f}", f"{results['J&F']:.1f}" if same else ""
        each.add_row(*numbers, *([] if one else [row["source"]]))
    return each
