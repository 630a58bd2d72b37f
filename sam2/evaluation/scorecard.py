"""An evaluation as JSON, as a table for the terminal, and as the files that the published tools write.

Means are percent, per-frame values fractions between 0 and 1 with nothing rounded. The format: docs/evaluation.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from sam2.evaluation.files import write_atomically
from sam2.evaluation.kinds import MASKS
from sam2.evaluation.score import Evaluation
from sam2.evaluation.scores import Numbers, ObjectScore
from sam2.evaluation.uncertainty import SCORE, Interval, Uncertainty

COLUMNS = (
    "J&F",
    "J",
    "F",
    "J&F_dot",
    "F_dot",
    "V",
)  # of the objects' table, as far as there are such numbers


def as_json(found: Evaluation, per_frame: bool = False) -> dict[str, Any]:
    """The content of a results file.

    Args:
        found: what came out.
        per_frame: add each object's values on each of its frames.
    """
    protocol = found.protocol
    return {
        "format": MASKS.format,
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "source": protocol.source,
        "as_published": protocol.as_published,
        "all_frames": protocol.keep_ends,
        **_finite(found.totals),
        "interval": interval_as_json(found.uncertainty),
        "sequences": len({o.sequence for o in found.objects}),
        "frames": len(found.frames),
        "frames_sha256": found.frames_hash,
        "notes": list(found.notes),
        "objects": [_object(o, per_frame) for o in found.objects],
    }


def interval_as_json(found: Uncertainty) -> dict[str, Any]:
    """The intervals of a results file and how they were made."""
    return {
        **{name: None if ends is None else list(ends) for name, ends in found.intervals.items()},
        "level": found.how.level,
        "resamples": found.how.resamples,
        "seed": found.how.seed,
        "unit": found.unit,
        found.unit: found.videos,
        "method": SCORE.method,
        "remark": found.remark,
    }


def _object(o: ObjectScore, per_frame: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"sequence": o.sequence, "object": o.object_id}
    content |= {} if o.part is None else {"part": o.part}
    content |= _finite(o.numbers())
    content["frames"] = len(o.frames)
    if per_frame:
        values = {name: values.tolist() for name, values in o.per_frame.items()}
        content["per_frame"] = {"frame": list(o.frames), **values}
    return content


def _finite(numbers: Numbers) -> Numbers:
    """JSON has no NaN; a number that does not exist is null."""
    return {name: None if value is None or math.isnan(value) else value for name, value in numbers.items()}


def write_json(path: Path, found: Evaluation, per_frame: bool = False) -> None:
    """Write `as_json`, whole or not at all."""
    write_atomically(path, json.dumps(as_json(found, per_frame), indent=1, allow_nan=False) + "\n")


def table(found: Evaluation, worst_first: bool, rows: int) -> Group:
    """For the terminal: the benchmark's numbers, then objects.

    Args:
        found: what came out.
        worst_first: objects by rising J&F instead of by name.
        rows: how many objects to show at most.
    """
    protocol = found.protocol
    flags = ", as published" * protocol.as_published + ", all frames" * protocol.keep_ends
    total = Table(show_header=False)
    for name, value in found.totals.items():
        total.add_row(name, f"{_cell(value):>5} {brackets(found.uncertainty.intervals.get(name))}".rstrip())
    return Group(
        f"{protocol.name} ({protocol.source}){flags}, percent",
        total,
        found.uncertainty.remark,
        _objects_table(found.objects, worst_first, rows),
    )


def _objects_table(objects: Sequence[ObjectScore], worst_first: bool, rows: int) -> Table:
    shown = sorted(objects, key=lambda o: o.jf) if worst_first else list(objects)
    left = len(shown) - rows
    caption = f"{left} more objects; --rows shows more, --out keeps all" if left > 0 else None
    each = Table(caption=caption, caption_justify="left")
    each.add_column("sequence")
    each.add_column("object", justify="right")
    names = [name for name in COLUMNS if name in objects[0].numbers()]
    for name in (*names, "frames"):
        each.add_column(name, justify="right")
    for o in shown[:rows]:
        numbers = o.numbers()
        each.add_row(o.sequence, str(o.object_id), *(_cell(numbers[n]) for n in names), str(len(o.frames)))
    return each


def brackets(interval: Interval | None) -> str:
    """`[low, high]`, or nothing."""
    return "" if interval is None else f"[{interval[0]:.1f}, {interval[1]:.1f}]"


def _cell(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"
