"""`sam2 data stats`: what a data set is like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sam2.cli.data_options import AllCores, Data, From, Settings, cores, errors, examples, source_of
from sam2.counted import counted

if TYPE_CHECKING:
    from rich.table import Table

    from data.stats import Distribution, Statistics

EPILOG = examples(
    "sam2 data stats /path/to/shards",
    "sam2 data stats /path/to/DAVIS --from davis --json",
    "sam2 data stats --fast /path/to/many_shards",
)
_BARS = " ▁▂▃▄▅▆▇█"


def stats(
    root: Data,
    source: From = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Measure no mask; of shards nothing but the index is read.")
    ] = False,
    workers: AllCores = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the bins' edges.")] = False,
) -> None:
    """Say how many clips, frames and objects there are, how large, how long, how often hidden and how fast.

    No picture is decoded. `--set` gives options of the source. Exit code 1 if a clip cannot be read.
    """
    with errors(2):
        reader = source_of(root, source, settings)
    with errors(1), counted("measuring", "clips") as progress:
        from data.facts import facts_of_shards, facts_of_source
        from data.index import ShardIndex
        from data.stats import gather
        from data.storage.access import Access

        count = workers or cores()
        if reader is None:
            found = gather(
                facts_of_shards(ShardIndex.load(root, Access(remote="range")), fast, count, progress)
            )
        else:
            found = gather(facts_of_source(reader, fast, count, progress))
    if as_json:
        import json

        typer.echo(json.dumps(found.summary(), indent=1))
    else:
        _show(root, found)
    if found.unreadable:
        for line in found.unreadable[:10]:
            typer.echo(f"not counted: {line}", err=True)
        raise typer.Exit(1)


def _show(root: str, found: Statistics) -> None:
    from rich.console import Console

    from data.plural import plural
    from data.storage.place import shown

    console = Console()
    videos = found.clips - found.images
    console.print(
        f"{shown(root)}: {plural(found.clips, 'clip')} ({plural(videos, 'video')}, {plural(found.images, 'image')}), "
        f"{plural(found.annotated_frames, 'annotated frame')}, {plural(found.objects, 'object')}, "
        f"{plural(found.masks, 'mask')}; {plural(len(found.unreadable), 'clip')} not readable",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_table(found.distributions()))
    for name, labels in found.labels.items():
        parts = [f"{label} {count}" for label, count in labels.most_common(20)]
        console.print(f"{name}: {', '.join(parts)}", highlight=False, markup=False, soft_wrap=True)


def _table(distributions: dict[str, Distribution]) -> Table:
    from rich.table import Table

    from data.stats import QUANTITIES

    table = Table()
    table.add_column("")
    for heading in ("min", "median", "max"):
        table.add_column(heading, justify="right")
    table.add_column("spread")
    for quantity in QUANTITIES:
        if quantity.name in distributions:
            found = distributions[quantity.name]
            numbers = [f"{value:.4g}" for value in (found.min, found.median, found.max)]
            scale = " (log)" if quantity.is_log else ""
            table.add_row(quantity.meaning, *numbers, _bars(found.counts) + scale)
    return table


def _bars(counts: tuple[int, ...]) -> str:
    """A histogram of one line; what is not empty can be seen."""
    most = max(counts)
    return "".join(_BARS[-(-count * 8 // most)] for count in counts)
