"""What the verbs of `sam2 eval` that run a model have in common: their options, and how mistakes are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT", help="Weight file, run directory, id of a released model, or random."
    ),
]
Dataset = Annotated[
    str,
    typer.Option(metavar="NAME", help="davis2017, mose, lvos, ytvos, sav_val, sav_test or shards:PATH."),
]
Root = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the benchmark's download.")]
PolicyName = Annotated[str, typer.Option(metavar="NAME", help="Memory policy, by name or YAML file.")]
ModelName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which model, where the weights do not tell.")
]
Size = Annotated[
    int | None, typer.Option(metavar="PX", help="Side of the model's input; by default the model's own.")
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="KIND", help="float32 or bfloat16; by default bfloat16 on a GPU, float32 elsewhere."
    ),
]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="By default a GPU if there is one.")]
FramesFolder = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Frames from elsewhere, such as the same videos at full rate."),
]
Sequences = Annotated[
    str | None, typer.Option(metavar="FILE|A,B", help="These videos alone: a file of names, or names.")
]
Unofficial = Annotated[
    bool, typer.Option("--unofficial", help="Take data that are not the benchmark as published.")
]
Share = Annotated[
    str | None,
    typer.Option(
        metavar="K/N", help="Do the K-th of N shares; torchrun and srun say so without being asked."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the intervals: another seed, other draws of the videos.")]
Resamples = Annotated[
    int, typer.Option(min=100, max=1_000_000, help="How often the videos are drawn for an interval.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what was made in another way.")]


def failed(error: Exception, code: int) -> typer.Exit:
    """One line for a mistake, and the exit."""
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(code)


@contextmanager
def one_line_for_mistakes(what: str) -> Iterator[None]:
    """Exit with 2 for settings that make no sense, 1 for what cannot be done, 130 after Ctrl-C.

    Args:
        what: is left to do after Ctrl-C ("videos").
    """
    from sam2.training.benchmark_job import MISTAKES
    from sam2.training.typed import ConfigError

    try:
        yield
    except ConfigError as error:
        raise failed(error, 2) from error
    except MISTAKES as error:
        raise failed(error, 1) from error
    except KeyboardInterrupt as error:
        typer.echo(f"stopped; the same command goes on with the {what} that are missing", err=True)
        raise typer.Exit(130) from error
