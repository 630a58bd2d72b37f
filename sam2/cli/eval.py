"""`sam2 eval ...`: how good masks are, by the rules of a benchmark.

Exit codes: 0 done; 1 the masks cannot be scored or written; 2 the command line cannot be meant; 130 after Ctrl-C.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam2.cli.eval_image import EPILOG as IMAGE_EPILOG
from sam2.cli.eval_image import image
from sam2.cli.eval_interactive import EPILOG as INTERACTIVE_EPILOG
from sam2.cli.eval_interactive import interactive
from sam2.cli.eval_options import Resamples, Seed, failed
from sam2.cli.eval_run import EPILOG, make, run
from sam2.cli.eval_volumes import EPILOG as VOLUMES_EPILOG
from sam2.cli.eval_volumes import volumes
from sam2.cli.sequence_names import sequence_names
from sam2.counted import counted

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


class OptionError(ValueError):
    """Words that cannot be meant."""


@app.callback()
def options() -> None:
    """Run models on benchmarks, score masks."""


app.command(epilog=EPILOG)(run)
app.command(epilog=INTERACTIVE_EPILOG)(interactive)
app.command(epilog=IMAGE_EPILOG)(image)
app.command(epilog=VOLUMES_EPILOG)(volumes)
app.command()(make)


@app.command(
    epilog="Examples:\n\n`sam2 eval score --protocol davis2017 --gt Annotations/480p --sequences val.txt --pred masks`"
    "\n\n`sam2 eval score --protocol sav --gt sav_val/Annotations_6fps --pred masks --out results.json --workers 8`"
)
def score(
    protocol: Annotated[
        str,
        typer.Option(metavar="NAME", help="davis2017, sav, vos, lvos, mosev2 or ytvos: docs/evaluation.md."),
    ],
    gt: Annotated[Path, typer.Option(metavar="DIR", help="Ground truth, one folder a sequence.")],
    pred: Annotated[Path, typer.Option(metavar="DIR", help="Predictions, laid out as the ground truth.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all numbers as JSON.")] = None,
    per_frame: Annotated[
        bool, typer.Option("--per-frame", help="Add the values of every frame to --out.")
    ] = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the files that the published tool writes.")
    ] = None,
    worst_first: Annotated[bool, typer.Option("--worst-first", help="Show objects by rising J&F.")] = False,
    rows: Annotated[int, typer.Option(min=0, help="How many objects to show at most.")] = 25,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the numbers are the same.")] = 1,
    sequences: Annotated[
        str | None, typer.Option(metavar="FILE|A,B", help="Score these alone: a file of names, or names.")
    ] = None,
    meta: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|none",
            help="The benchmark's meta JSON; by default the one beside or above the ground truth.",
        ),
    ] = None,
    unseen: Annotated[
        str | None,
        typer.Option(metavar="FILE|none", help="Unseen videos or categories, one a line (lvos, ytvos)."),
    ] = None,
    all_frames: Annotated[
        bool, typer.Option("--all-frames", help="Score the first and last frame, too (sav, vos).")
    ] = False,
    as_published: Annotated[
        bool, typer.Option("--as-published", help="Give the published tool's number where it is faulty.")
    ] = False,
    seed: Seed = 0,
    resamples: Resamples = 2000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Score the masks in PRED against those in GT.

    Both are folders of `SEQUENCE/FRAME.png`, palette images whose indices are object ids; for sav also
    `SEQUENCE/OBJECT/FRAME.png`. Nothing is resized, converted or skipped in silence: what does not fit stops with the
    file's name. `--meta none` takes objects and ranges from the ground truth, `--unseen none` leaves out the numbers of
    seen and unseen.
    """
    try:
        _refuse_to_overwrite(protocol, out, csv, per_frame, overwrite)
        rules = _rules(protocol, gt, meta, unseen, all_frames, as_published)
        only = sequence_names(sequences)
    except (ValueError, OSError) as error:
        raise failed(error, 2) from error
    try:
        from rich.console import Console

        from sam2.evaluation.files import write_atomically
        from sam2.evaluation.official_files import official_files
        from sam2.evaluation.score import evaluate
        from sam2.evaluation.scorecard import table, write_json
        from sam2.evaluation.uncertainty import Bootstrap

        with counted("scoring", "frames") as progress:
            how = Bootstrap(resamples=resamples, seed=seed)
            found = evaluate(rules, gt, pred, only, workers, progress, how)
        if out:
            write_json(out, found, per_frame)
        if csv:
            for name, content in official_files(found).items():
                write_atomically(csv / name, content)
    except (ValueError, OSError) as error:
        raise failed(error, 1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped; nothing was written", err=True)
        raise typer.Exit(130) from error
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    Console(highlight=False, markup=False).print(table(found, worst_first, rows))


def _refuse_to_overwrite(
    protocol: str, out: Path | None, csv: Path | None, per_frame: bool, overwrite: bool
) -> None:
    from sam2.evaluation.official_files import file_names

    if per_frame and out is None:
        raise OptionError("--per-frame adds to the JSON file; name one with --out")
    files = [] if out is None else [out]
    files += [] if csv is None else [csv / name for name in file_names(protocol)]
    for path in files:
        if path.is_dir():
            raise OptionError(f"{path} is a folder, expected the name of a file to write")
        if path.exists() and not overwrite:
            raise OptionError(f"{path} exists; choose another name or add --overwrite")


def _rules(
    name: str, gt: Path, meta: str | None, unseen: str | None, all_frames: bool, as_published: bool
) -> Protocol:
    """The protocol with what the benchmark says beside its masks."""
    from sam2.evaluation.meta import find_meta, find_unseen, read_meta, read_names
    from sam2.evaluation.protocols import PROTOCOLS

    kind = PROTOCOLS.get(name)
    if kind is None:
        raise OptionError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    if all_frames and not kind.can_keep_ends:
        able = ", ".join(other.name for other in PROTOCOLS.values() if other.can_keep_ends)
        raise OptionError(f"--all-frames is for {able}; {name} fixes its frames")
    about = _source("--meta", meta, name, kind.uses_meta, lambda: find_meta(gt), "a *meta*.json")
    names = _source("--unseen", unseen, name, kind.uses_unseen, lambda: find_unseen(gt), "unseen_videos.txt")
    return kind(
        as_published,
        all_frames,
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
