"""An evaluation of volumes as JSON and as a table. The format: docs/evaluation.md."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from sam2.evaluation.files import write_atomically
from sam2.evaluation.scorecard import brackets, interval_as_json
from sam2.evaluation.uncertainty import SCORE, Bootstrap, Interval, Kind, Uncertainty, VideoSums, intervals
from sam2.evaluation.volumes import NUMBERS, VolumeEvaluation, VolumeScore

FORMAT = "sam2-train/volumes/1"
_LENGTH = Kind(SCORE.method, (0.0, math.inf), SCORE.cut)  # what a distance can be


def as_json(found: VolumeEvaluation) -> dict[str, Any]:
    """The content of a results file."""
    spread = _uncertainty(found)
    return {
        "format": FORMAT,
        "spacing_mm": list(found.rules.spacing),
        "tolerance_mm": found.rules.tolerance,
        **found.totals,
        "without_HD95": found.without_hd95,
        "interval": {name: None for name in NUMBERS} | interval_as_json(spread),
        "sequences": spread.videos,
        "slices": len(found.slices),
        "slices_sha256": found.slices_hash,
        "notes": list(found.notes),
        "objects": [
            {"sequence": o.sequence, "object": o.object_id, **o.numbers, "slices": o.slices}
            for o in found.objects
        ],
    }


def write_json(path: Path, found: VolumeEvaluation) -> None:
    """Write `as_json`, whole or not at all."""
    write_atomically(path, json.dumps(as_json(found), indent=1, allow_nan=False) + "\n")


def table(found: VolumeEvaluation, rows: int) -> Group:
    """For the terminal: the means, then at most `rows` objects by rising Dice."""
    spread = _uncertainty(found)
    total = Table(show_header=False)
    for name, value in found.totals.items():
        total.add_row(name, f"{_cell(value):>5} {brackets(spread.intervals.get(name))}".rstrip())
    steps = " x ".join(f"{step:g}" for step in found.rules.spacing)
    left = found.without_hd95
    return Group(
        f"volumes, percent, HD95 in mm; spacing {steps} mm (z, y, x), NSD within {found.rules.tolerance:g} mm",
        total,
        *([f"{left} of {len(found.objects)} objects without HD95: nothing was predicted"] if left else []),
        spread.remark,
        _objects_table(found.objects, rows),
    )


def _objects_table(objects: tuple[VolumeScore, ...], rows: int) -> Table:
    left = len(objects) - rows
    caption = f"{left} more objects; --rows shows more, --out keeps all" if left > 0 else None
    each = Table(caption=caption, caption_justify="left")
    each.add_column("sequence")
    for name in ("object", *NUMBERS, "slices"):
        each.add_column(name, justify="right")
    for o in sorted(objects, key=lambda o: o.numbers["Dice"] or 0.0)[:rows]:
        cells = (_cell(o.numbers[name]) for name in NUMBERS)
        each.add_row(o.sequence, str(o.object_id), *cells, str(o.slices))
    return each


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _uncertainty(found: VolumeEvaluation) -> Uncertainty:
    """Intervals over sequences of the numbers that have one."""
    how = Bootstrap()
    sums = {name: _sums(found, name) for name in NUMBERS}
    hd95 = {"HD95": sums.pop("HD95")}
    ends = {**intervals(sums, SCORE, how), **intervals(hd95, _LENGTH, how)}
    ready: dict[str, Interval | None] = {
        name: pair for name in NUMBERS if (pair := ends[name]) is not None and math.isfinite(pair[1])
    }
    return Uncertainty(ready, len({o.sequence for o in found.objects}), how)


def _sums(found: VolumeEvaluation, name: str) -> VideoSums:
    """Sums and numbers of the values of each sequence."""
    video = {sequence: v for v, sequence in enumerate(sorted({o.sequence for o in found.objects}))}
    sums, numbers = np.zeros((len(video), 1)), np.zeros((len(video), 1))
    for o in found.objects:
        value = o.numbers[name]
        if value is not None:
            sums[video[o.sequence]] += value
            numbers[video[o.sequence]] += 1
    return VideoSums(sums, numbers)
