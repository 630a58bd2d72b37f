"""`sam2 eval ...`: how good masks are, by the rules of a benchmark.

Exit codes: 0 done; 1 the masks cannot be scored or written; 2 the command line cannot be meant; 130 after Ctrl-C.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from sam2.cli.eval_image import EPILOG as IMAGE_EPILOG
from sam2.cli.eval_image import image
from sam2.cli.eval_interactive import EPILOG as INTERACTIVE_EPILOG
from sam2.cli.eval_interactive import interactive
from sam2.cli.eval_options import OptionError, failed, options_of, refuse_to_overwrite, scoring
from sam2.cli.eval_run import EPILOG, make, run
from sam2.cli.eval_volumes import EPILOG as VOLUMES_EPILOG
from sam2.cli.eval_volumes import volumes
from sam2.cli.sequence_names import sequence_names
from sam2.counted import counted
from sam2.training.evaluation_config import Intervals
from sam2.training.option import Option

if TYPE_CHECKING:
    from sam2.evaluation.protocols import Protocol

app = typer.Typer(
    name="eval",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Run models on benchmarks, score masks.",
)
NONE = "none"


@app.callback()
def options() -> None:
    """Run models on benchmarks, score masks."""


app.command(epilog=EPILOG)(run)
app.command(epilog=INTERACTIVE_EPILOG)(interactive)
app.command(epilog=IMAGE_EPILOG)(image)
app.command(epilog=VOLUMES_EPILOG)(volumes)
app.command()(make)


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Intervals):
    """What to score, by which rules, and what to write."""

    PANEL: ClassVar[str | None] = None

    protocol: Annotated[
        str, Option("NAME", "davis2017, sav, vos, lvos, mosev2 or ytvos: docs/evaluation.md.")
    ]
    gt: Annotated[Path, Option("DIR", "Ground truth, one folder a sequence.")]
    pred: Annotated[Path, Option("DIR", "Predictions, laid out as the ground truth.")]
    out: Annotated[Path | None, Option("FILE", "Write all numbers as JSON.")] = None
    per_frame: Annotated[bool, Option(None, "Add the values of every frame to --out.")] = False
    csv: Annotated[Path | None, Option("DIR", "Write the files that the published tool writes.")] = None
    worst_first: Annotated[bool, Option(None, "Show objects by rising J&F.")] = False
    rows: Annotated[int, Option("N", "How many objects to show at most.")] = 25
    workers: Annotated[int, Option("N", "Processes; the numbers are the same.")] = 1
    sequences: Annotated[str | None, Option("FILE|A,B", "Score these alone: a file of names, or names.")] = (
        None
    )
    meta: Annotated[
        str | None,
        Option(
            "FILE|none", "The benchmark's meta JSON; by default the one beside or above the ground truth."
        ),
    ] = None
    unseen: Annotated[
        str | None, Option("FILE|none", "Unseen videos or categories, one a line (lvos, ytvos).")
    ] = None
    all_frames: Annotated[bool, Option(None, "Score the first and last frame, too (sav, vos).")] = False
    as_published: Annotated[bool, Option(None, "Give the published tool's number where it is faulty.")] = (
        False
    )
    overwrite: Annotated[bool, Option(None, "Replace files that exist.")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows < 0:
            raise ValueError(f"--rows {self.rows}: expected 0 or more")
        if self.workers < 1:
            raise ValueError(f"--workers {self.workers}: expected 1 or more")
        if self.per_frame and self.out is None:
            raise ValueError("--per-frame adds to the JSON file; name one with --out")


@app.command(
    epilog="Examples:\n\n`sam2 eval score --protocol davis2017 --gt Annotations/480p --sequences val.txt --pred masks`"
    "\n\n`sam2 eval score --protocol sav --gt sav_val/Annotations_6fps --pred masks --out results.json --workers 8`"
)
@options_of(ScoreOptions)
def score(options: ScoreOptions) -> None:
    """Score the masks in PRED against those in GT.

    Both are folders of `SEQUENCE/FRAME.png`, palette images whose indices are object ids; for sav also
    `SEQUENCE/OBJECT/FRAME.png`. Nothing is resized, converted or skipped in silence: what does not fit stops with the
    file's name. `--meta none` takes objects and ranges from the ground truth, `--unseen none` leaves out the numbers of
    seen and unseen.
    """
    try:
        refuse_to_overwrite(_files(options), options.overwrite)
        rules, only = _rules(options), sequence_names(options.sequences)
    except (ValueError, OSError) as error:
        raise failed(error, 2) from error
    with scoring():
        from rich.console import Console

        from sam2.evaluation.files import write_atomically
        from sam2.evaluation.official_files import official_files
        from sam2.evaluation.score import evaluate
        from sam2.evaluation.scorecard import table, write_json

        with counted("scoring", "frames") as progress:
            found = evaluate(rules, options.gt, options.pred, only, options.workers, progress, options.how)
        if options.out:
            write_json(options.out, found, options.per_frame)
        if options.csv:
            for name, content in official_files(found).items():
                write_atomically(options.csv / name, content)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    Console(highlight=False, markup=False).print(table(found, options.worst_first, options.rows))


def _files(options: ScoreOptions) -> list[Path]:
    """All that is to be written."""
    from sam2.evaluation.official_files import file_names

    files = [] if options.out is None else [options.out]
    return files + ([] if options.csv is None else [options.csv / n for n in file_names(options.protocol)])


def _rules(options: ScoreOptions) -> Protocol:
    """The protocol with what the benchmark says beside its masks."""
    from sam2.evaluation.meta import find_meta, find_unseen, read_meta, read_names
    from sam2.evaluation.protocols import PROTOCOLS

    name, gt = options.protocol, options.gt
    kind = PROTOCOLS.get(name)
    if kind is None:
        raise OptionError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    if options.all_frames and not kind.can_keep_ends:
        able = ", ".join(other.name for other in PROTOCOLS.values() if other.can_keep_ends)
        raise OptionError(f"--all-frames is for {able}; {name} fixes its frames")
    about = _source("--meta", options.meta, name, kind.uses_meta, lambda: find_meta(gt), "a *meta*.json")
    names = _source(
        "--unseen", options.unseen, name, kind.uses_unseen, lambda: find_unseen(gt), "unseen_videos.txt"
    )
    return kind(
        options.as_published,
        options.all_frames,
        None if about is None else read_meta(about),
        None if names is None else read_names(names),
    )


def _source(option, given, protocol, used, find, what) -> Path | None:  # type: ignore[no-untyped-def]
    """The file that an option names, or that lies by the ground truth; None where it is not used or not wanted."""
    if not used:
        if given is not None:
            raise OptionError(f"{option} is not used by {protocol}; leave it out")
        return None
    if given == NONE:
        return None
    path: Path | None = find() if given is None else Path(given)
    if path is None:
        raise OptionError(
            f"{protocol} needs {what}, and there is none in the folder of the ground truth or above it; name it with "
            f"{option} FILE, or go without by {option} none"
        )
    return path
