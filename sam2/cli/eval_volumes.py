"""`sam2 eval volumes`: how good masks of volumes are, in percent and millimetres."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from sam2.cli.eval_options import failed, options_of, refuse_to_overwrite, scoring
from sam2.cli.sequence_names import sequence_names
from sam2.counted import counted
from sam2.training.evaluation_config import Intervals
from sam2.training.option import Option

EPILOG = (
    "Examples:\n\n`sam2 eval volumes --gt truth --pred masks --spacing 5,0.8,0.8 --tolerance 2`"
    "\n\n`sam2 eval volumes --gt truth --pred masks --spacing 1,1,1 --out results.json --rows 100`"
)


@dataclass(frozen=True, kw_only=True)
class VolumesOptions(Intervals):
    """What to score, and how."""

    PANEL: ClassVar[str | None] = None

    gt: Annotated[Path, Option("DIR", "Ground truth, one folder a sequence.")]
    pred: Annotated[Path, Option("DIR", "Predictions, laid out as the ground truth.")]
    spacing: Annotated[
        str, Option("Z,Y,X", "Millimetres from slice to slice, row to row, column to column.")
    ] = "1,1,1"
    tolerance: Annotated[float, Option("MM", "How far apart surfaces may lie for NSD, in millimetres.")] = 1.0
    sequences: Annotated[str | None, Option("FILE|A,B", "Score these alone: a file of names, or names.")] = (
        None
    )
    out: Annotated[Path | None, Option("FILE", "Write all numbers as JSON.")] = None
    rows: Annotated[int, Option("N", "How many objects to show at most, worst first.")] = 25
    overwrite: Annotated[bool, Option(None, "Replace a file that exists.")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"--tolerance {self.tolerance:g}: expected millimetres, 0 or more")
        if self.rows < 0:
            raise ValueError(f"--rows {self.rows}: expected 0 or more")
        refuse_to_overwrite([] if self.out is None else [self.out], self.overwrite)


@options_of(VolumesOptions)
def volumes(options: VolumesOptions) -> None:
    """Dice, HD95, NSD and Boundary IoU of the volumes in PRED against those in GT.

    Both are folders of `SEQUENCE/FRAME.png`, palette images whose indices are object ids (or
    `SEQUENCE/OBJECT/FRAME.png`); the frames of a sequence are its slices, in order. Nothing is resized or skipped in
    silence: what does not fit stops with the file's name.
    """
    try:
        spacing, only = _spacing(options.spacing), sequence_names(options.sequences)
    except (ValueError, OSError) as error:
        raise failed(error, 2) from error
    with scoring():
        from rich.console import Console

        from sam2.evaluation.volumes import VolumeRules, evaluate_volumes
        from sam2.evaluation.volumes_card import table, write_json

        rules = VolumeRules(spacing, options.tolerance)
        with counted("scoring", "slices") as progress:
            found = evaluate_volumes(rules, options.gt, options.pred, only, progress, options.how)
        if options.out:
            write_json(options.out, found)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    Console(highlight=False, markup=False).print(table(found, options.rows))


def _spacing(words: str) -> tuple[float, float, float]:
    """Three positive numbers."""
    parts = words.split(",")
    try:
        z, y, x = map(float, parts)
    except ValueError as error:
        raise ValueError(
            f"--spacing {words}: expected three numbers with commas between, millimetres as Z,Y,X"
        ) from error
    if not all(math.isfinite(step) and step > 0 for step in (z, y, x)):
        raise ValueError(f"--spacing {words}: expected millimetres above 0")
    return z, y, x
