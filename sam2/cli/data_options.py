"""What the verbs of `sam2 data` have in common: options, and how mistakes are told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from data.sources import VideoSource

Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another option; repeatable.")
]
Workers = Annotated[
    int, typer.Option(min=1, help="How many to work on at the same time; the result is the same.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what OUT holds if it was made from something else.")
]
Data = Annotated[str, typer.Argument(metavar="PATH", help="Folder of shards, or what a source reads.")]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="SOURCE",
        help="What PATH is, if it is not shards; often its layout tells. `sam2 data sources` lists all.",
    ),
]
AllCores = Annotated[
    int | None, typer.Option(min=1, help="How many to work on at the same time; by default all cores.")
]


def examples(*lines: str) -> str:
    """The end of a verb's help."""
    return "Examples:\n\n" + "\n\n".join(f"`{line}`" for line in lines)


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def source_of(root: str, name: str | None, settings: list[str] | None) -> VideoSource | None:
    """The source that reads `root`, None if it is a folder of shards or the address of one.

    Raises:
        DataError: no such source, folder or option, or the layout does not tell which source it is.
    """
    from data.checking.check_source import open_source
    from data.recognise import SHARDS, tell_source
    from data.storage.place import is_url, shown

    name = name or (SHARDS if is_url(root) else tell_source(Path(root)))
    options = parse(settings)
    if name == SHARDS and options:
        raise ValueError(f"{shown(root)}: --set gives options of a source, but this is a folder of shards")
    return None if name == SHARDS else open_source(name, root, **options)


def parse(settings: list[str] | None) -> dict[str, Any]:
    """`key=value` words; a value that is JSON is read as JSON, anything else is a string."""
    import json

    values: dict[str, Any] = {}
    for word in settings or []:
        key, equals, text = word.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"--set expects KEY=VALUE, got {word!r}")
        try:
            values[key] = json.loads(text)
        except ValueError:
            values[key] = text
    return values


@contextmanager
def errors(code: int) -> Iterator[None]:
    """A user's mistake is one line and an exit code, not a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"error: {_told(error)}", err=True)
        raise typer.Exit(code) from error


def _told(error: ValueError | OSError) -> str:
    """An error of the system without its number: "out: Read-only file system"."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)
