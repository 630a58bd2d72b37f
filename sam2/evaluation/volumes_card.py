"""An evaluation of volumes as JSON and as a table. The format: docs/evaluation.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from sam2.evaluation.files import write_atomically
from sam2.evaluation.kinds import VOLUME_MEANS, VOLUMES
from sam2.evaluation.scorecard import brackets, interval_as_json
from sam2.evaluation.uncertainty import Uncertainty, uncertainty
from sam2.evaluation.volumes import NUMBERS, VolumeEvaluation, VolumeScore

PROTOCOL, VERSION = "volumes", 1


def as_json(found: VolumeEvaluation) -> dict[str, Any]:
    """The content of a results file."""
    spread = _uncertainty(found)
    return {
        "format": VOLUMES.format,
        "protocol": PROTOCOL,
        "protocol_version": VERSION,
        "spacing_mm": list(found.rules.spacing),
        "tolerance_mm": found.rules.tolerance,
        **found.totals,
        "without_HD95": found.without_hd95,
        "interval": interval_as_json(spread),
        "sequences": spread.videos,
        "slices": len(found.slices),
        "slices_sha256": found.slices_hash,
        "notes": list(found.notes),
        "objects": [
            {"sequence": o.sequence, "object": o.object_id, **o.values, "slices": o.slices}
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
    for o in sorted(objects, key=lambda o: o.values["Dice"] or 0.0)[:rows]:
        cells = (_cell(o.values[name]) for name in NUMBERS)
        each.add_row(o.sequence, str(o.object_id), *cells, str(o.slices))
    return each


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _uncertainty(found: VolumeEvaluation) -> Uncertainty:
    return uncertainty(found.objects, VOLUME_MEANS, found.totals, found.how, VOLUMES.unit)
