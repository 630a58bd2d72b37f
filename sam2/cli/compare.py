"""`sam2 compare`: which of several results is better, and how sure that is.

Exit codes: 0 done; 1 the files cannot be read, compared or written; 2 the command line cannot be meant; 130 after
Ctrl-C.
"""

from __future__ import annotations

from pathlib import Path

import typer

from sam2.cli.eval_options import OptionError, failed, refuse_to_overwrite


def compare_files(
    files: list[Path], out: Path | None, seed: int, resamples: int, rows: int, overwrite: bool
) -> None:
    """Compare each file with the first one; print, and write where that is asked for."""
    try:
        _check(files, out, overwrite)
    except (ValueError, OSError) as error:
        raise failed(error, 2) from error
    try:
        from rich.console import Console

        from sam2.evaluation.comparison import compare, refuse_unlike, write_json
        from sam2.evaluation.comparison_table import table
        from sam2.evaluation.results_file import read_results
        from sam2.evaluation.uncertainty import Bootstrap

        first, *others = (read_results(path) for path in files)
        for other in others:
            refuse_unlike(first, other)  # before any number is made
        how = Bootstrap(resamples=resamples, seed=seed)
        found = [compare(first, other, how) for other in others]
        if out:
            write_json(out, found, how)
    except (ValueError, OSError) as error:
        raise failed(error, 1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped; nothing was written", err=True)
        raise typer.Exit(130) from error
    console = Console(highlight=False, markup=False)
    for each in found:
        console.print(table(each, rows))


def _check(files: list[Path], out: Path | None, overwrite: bool) -> None:
    if len(files) < 2:
        raise OptionError(f"{files[0]} is alone; name the files to compare with it, too")
    if out is None:
        return
    if out.resolve() in {path.resolve() for path in files}:
        raise OptionError(f"{out} is one of the files to compare; choose another name")
    refuse_to_overwrite([out], overwrite)
