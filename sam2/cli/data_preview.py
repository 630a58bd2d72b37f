"""`sam2 data preview`: training clips as training sees them, on one page."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from sam2.cli.data_options import errors, examples

EPILOG = examples(
    "sam2 data preview /path/to/shards clips.html",
    "sam2 data preview /path/to/shards clips.png --count 4 --seed 1",
    "sam2 data preview /path/to/shards clips.html --recipe finetune_mose data.frames=4 prompts=clicks",
)
_SUFFIXES = (".html", ".png")


def preview(
    root: Annotated[str, typer.Argument(metavar="PATH", help="Folder of shards, or its address.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.html|OUT.png", help="What to write; replaced.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="Settings of the recipe.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="A recipe for training.")] = "finetune_video",
    count: Annotated[int, typer.Option(min=1, max=1000, help="Number of clips.")] = 8,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the run; by default the recipe's.")] = None,
    first: Annotated[int, typer.Option("--step", min=0, help="The micro-batch to begin with.")] = 0,
) -> None:
    """Draw the clips of the first training steps, augmented, with masks and the prompts that these steps simulate.

    They are those that one process sees with this recipe, these settings and this seed. No weights are needed.
    """
    with errors(2):
        if out.suffix.lower() not in _SUFFIXES:
            raise ValueError(f"{out}: give a name that ends in {' or '.join(_SUFFIXES)}")
        from sam2.training.preview import preview_config, training_clips

        config = preview_config(root, recipe, settings or [], seed)
    with errors(1):
        from data.plural import plural
        from data.storage.place import shown
        from sam2.training.clip_sheet import write_html, write_png

        clips = list(islice(training_clips(config, first), count))
        if out.suffix.lower() == ".png":
            write_png(out, clips)
        else:
            facts = {"shards": shown(root), "recipe": config.name, "seed": str(config.seed)}
            write_html(out, clips, facts | {"settings": " ".join(settings)} if settings else facts)
        typer.echo(f"{out}: {plural(len(clips), 'clip')} of {shown(root)}")
