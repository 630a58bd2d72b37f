"""`sam2 data ...`: convert videos with masks to shards, check and look at data, make videos up.

Exit codes: 0 done; 1 the data is not as it should be; 2 the command line is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam2.cli.data_check import EPILOG as CHECK_EPILOG
from sam2.cli.data_check import check
from sam2.cli.data_options import Overwrite, Settings, Workers, errors, examples, parse
from sam2.cli.data_preview import EPILOG as PREVIEW_EPILOG
from sam2.cli.data_preview import preview
from sam2.cli.data_stats import EPILOG as STATS_EPILOG
from sam2.cli.data_stats import stats
from sam2.counted import counted

if TYPE_CHECKING:
    from data.clip import SourceClip
    from data.sources import VideoSource
    from data.split import Part
    from data.write import ConvertOptions, ConvertReport

app = typer.Typer(
    name="data",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Convert videos with masks to shards, check and look at data, make videos up.",
)


@app.command(
    epilog=examples(
        "sam2 data convert --from sav /path/to/sav_train /path/to/shards --workers 8",
        "sam2 data convert --from sav --media jpeg --set tracks=both /path/to/sav_train /path/to/shards",
        "sam2 data convert --from davis --size 1024 --split video-hash:0.9 /path/to/DAVIS /path/to/shards",
    )
)
def convert(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="Folder or file of the source.")],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Folder for the shards, new or from an earlier try; not in SRC."),
    ],
    source: Annotated[
        str, typer.Option("--from", metavar="SOURCE", help="What SRC is; `sam2 data sources` lists all.")
    ],
    media: Annotated[str, typer.Option(help="How frames are stored: proxy, jpeg or original.")] = "proxy",
    size: Annotated[
        int | None, typer.Option(help="Longest side of stored pictures, pixels; larger ones are shrunk.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="video-hash:SHARE",
            help="Make OUT/train of this share of the videos, OUT/val of the rest.",
        ),
    ] = None,
    shard_mb: Annotated[int, typer.Option(min=1, help="Size of a shard in MB.")] = 512,
    workers: Workers = 1,
    settings: Settings = None,
    max_skipped: Annotated[
        float, typer.Option(help="Share of clips that may be left out before it counts as failed.")
    ] = 0.01,
    overwrite: Overwrite = False,
) -> None:
    """Convert SRC to WebDataset shards in OUT, with an index beside them.

    A conversion that was interrupted goes on where it stopped when the same command runs again, and one that is
    finished stays as it is. If OUT holds shards of another source, of other settings, or of clips that have since been
    changed, removed from SRC or added to it, nothing is written; `--overwrite` then makes all shards again and removes
    the old ones, and nothing else, when the first new clip is ready.

    `--set` gives options of the source (`sam2 data sources NAME` lists them) and of the encoder (crf=19, gop=8,
    preset=medium, jpeg_quality=90).
    """
    with errors(2):
        from data.claim import keep_apart
        from data.encode import EncodeOptions
        from data.sources import load_source
        from data.split import parse_split
        from data.write import ConvertOptions

        values = parse(settings)
        encoder = {k: values.pop(k) for k in ("crf", "gop", "preset", "jpeg_quality") if k in values}
        options = ConvertOptions(
            EncodeOptions(media=media, size=size, **encoder), shard_mb << 20, workers, overwrite=overwrite
        )
        parts = parse_split(split) if split else ()
        clips = load_source(source, src, **values)
        keep_apart(src, out)
    listed = _listed(clips, parts) if parts else None
    reports = [
        _convert(clips, out / part.name if part else out, replace(options, part=part), listed)
        for part in parts or (None,)
    ]
    skipped = sum(len(report.skipped) for report in reports)
    if skipped > max_skipped * (skipped + sum(report.clips for report in reports)):
        typer.echo(
            f"error: more than {max_skipped:.1%} of the clips were left out (see --max-skipped)", err=True
        )
        raise typer.Exit(1)


def _listed(source: VideoSource, parts: Sequence[Part]) -> Sequence[SourceClip]:
    """The clips of a source of which every part gets one."""
    from data.split import refuse_empty

    with errors(1):
        clips = source.clips()
        refuse_empty(parts, clips, str(source.root))
    return clips


def _convert(
    source: VideoSource, out: Path, options: ConvertOptions, clips: Sequence[SourceClip] | None
) -> ConvertReport:
    """Fill one folder and say what is in it."""
    from data.plural import plural
    from data.write import convert as write

    with errors(1), counted("converting", "clips") as progress:
        report = write(source, out, options, progress, clips)
    for line in report.skipped:
        typer.echo(f"left out: {line}", err=True)
    kinds = f" ({plural(report.images, 'image')})" if report.images else ""
    typer.echo(
        f"{out}: {plural(report.clips, 'clip')}{kinds}, {plural(report.annotated_frames, 'annotated frame')}, "
        f"{plural(report.objects, 'object')} in {plural(report.shards, 'shard')}, {report.bytes / 1e6:.1f} MB; "
        f"{plural(len(report.skipped), 'clip')} left out; license: {', '.join(report.licenses)}"
    )
    return report


@app.command(epilog=examples("sam2 data sources", "sam2 data sources davis"))
def sources(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Say all of this one.")] = None,
) -> None:
    """What `sam2 data convert --from` can read, or the layout and the options of one."""
    with errors(2):
        from data.sources import describe, source_names

        names = source_names() if name is None else [name]
        for known in names:
            title, text = describe(known)
            typer.echo(text if name else f"{known:<16}{title}")


app.command(epilog=CHECK_EPILOG)(check)
app.command(epilog=STATS_EPILOG)(stats)
app.command(epilog=PREVIEW_EPILOG)(preview)


@app.command(
    epilog=examples(
        "sam2 data index /path/to/shards",
    )
)
def index(root: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of shards.")]) -> None:
    """Make the index of shards again, for instance after some were added or removed."""
    with errors(1):
        from data.claim import is_unfinished
        from data.index import ShardIndex
        from data.plural import plural

        built = ShardIndex.build(root)
        typer.echo(f"{built.save()}: {plural(len(built), 'sample')}, fingerprint {built.fingerprint[:16]}")
        if is_unfinished(root):
            again = "the same `sam2 data convert` again completes it"
            typer.echo(f"warning: {root}: its conversion was interrupted; {again}", err=True)


@app.command(
    epilog=examples(
        "sam2 data synth /path/to/videos --preset easy --count 200 --workers 2",
        "sam2 data synth /path/to/videos --set seed=7 --set height=128 --set width=128 --set objects=[2,3]",
    )
)
def synth(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder for the videos, new or from an earlier try.")
    ],
    preset: Annotated[str, typer.Option(help="Kind of videos: easy, medium, hard or demo.")] = "medium",
    split: Annotated[
        str, typer.Option(help="train, val or test; they share no texture and no shape.")
    ] = "train",
    count: Annotated[int, typer.Option(min=1, help="Number of videos.")] = 100,
    workers: Workers = 1,
    settings: Settings = None,
    overwrite: Overwrite = False,
) -> None:
    """Make up videos with exact masks, in the layout of SA-V. The same options give the same files.

    The same command again completes what was interrupted and leaves alone what is complete. If OUT holds videos that
    were made with other options, or another split, nothing is written; `--overwrite` removes those videos first. Videos
    that this command did not make are never removed.

    `--set` gives any field of `data.synthetic.SyntheticConfig`.
    """
    with errors(2):
        from data.plural import plural
        from data.synthetic import configure, generate

        config = configure(preset, **parse(settings))
    with errors(1), counted("drawing", "clips") as progress:
        videos = generate(config, split, count, out, workers, progress, overwrite)
    typer.echo(
        f"{out}: {plural(len(videos), 'video')}; convert them with `sam2 data convert --from sav {out} SHARDS`"
    )
