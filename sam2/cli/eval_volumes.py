"""`sam2 eval volumes`: how good masks of volumes are, in percent and millimetres."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from sam2.cli.eval_options import Resamples, Seed, failed
from sam2.cli.sequence_names import sequence_names
from sam2.counted import counted

EPILOG = (
    "Examples:\n\n`sam2 eval volumes --gt truth --pred masks --spacing 5,0.8,0.8 --tolerance 2`"
    "\n\n`sam2 eval volumes --gt truth --pred masks --spacing 1,1,1 --out results.json --rows 100`"
)


def volumes(
    gt: Annotated[Path, typer.Option(metavar="DIR", help="Ground truth, one folder a sequence.")],
    pred: Annotated[Path, typer.Option(metavar="DIR", help="Predictions, laid out as the ground truth.")],
    spacing: Annotated[
        str,
        typer.Option(metavar="Z,Y,X", help="Millimetres from slice to slice, row to row, column to column."),
    ] = "1,1,1",
    tolerance: Annotated[
        float, typer.Option(metavar="MM", help="How far apart surfaces may lie for NSD, in millimetres.")
    ] = 1.0,
    sequences: Annotated[
        str | None, typer.Option(metavar="FILE|A,B", help="Score these alone: a file of names, or names.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all numbers as JSON.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="How many objects to show at most, worst first.")] = 25,
    seed: Seed = 0,
    resamples: Resamples = 2000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Dice, HD95, NSD and Boundary IoU of the volumes in PRED against those in GT.

    Both are folders of `SEQUENCE/FRAME.png`, palette images whose indices are object ids (or
    `SEQUENCE/OBJECT/FRAME.png`); the frames of a sequence are its slices, in order. Nothing is resized or skipped in
    silence: what does not fit stops with the file's name.
    """
    try:
        from sam2.evaluation.volumes import VolumeRules

        steps = _spacing(spacing)
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise ValueError(f"--tolerance {tolerance:g}: expected millimetres, 0 or more")
        if out is not None and out.is_dir():
            raise ValueError(f"{out} is a folder, expected the name of a file to write")
        if out is not None and out.exists() and not overwrite:
            raise ValueError(f"{out} exists; choose another name or add --overwrite")
        rules, only = VolumeRules(steps, tolerance), sequence_names(sequences)
    except (ValueError, OSError) as error:
        raise failed(error, 2) from error
    try:
        from rich.console import Console

        from sam2.evaluation.uncertainty import Bootstrap
        from sam2.evaluation.volumes import evaluate_volumes
        from sam2.evaluation.volumes_card import table, write_json

        with counted("scoring", "slices") as progress:
            how = Bootstrap(resamples=resamples, seed=seed)
            found = evaluate_volumes(rules, gt, pred, only, progress, how)
        if out:
            write_json(out, found)
    except (ValueError, OSError) as error:
        raise failed(error, 1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped; nothing was written", err=True)
        raise typer.Exit(130) from error
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    Console(highlight=False, markup=False).print(table(found, rows))


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
