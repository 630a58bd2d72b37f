"""`sam2 data check`: what is wrong with shards, or with files that are yet to become shards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam2.cli.data_options import AllCores, Data, From, Settings, cores, errors, examples, source_of
from sam2.counted import counted

if TYPE_CHECKING:
    from data.checking.finding import Finding

EPILOG = examples(
    "sam2 data check /path/to/shards",
    "sam2 data check /path/to/DAVIS --from davis",
    "sam2 data check --fast --json /path/to/shards",
)


def check(
    root: Data,
    source: From = None,
    fast: Annotated[bool, typer.Option("--fast", help="Decode no pictures.")] = False,
    workers: AllCores = None,
    settings: Settings = None,
    most: Annotated[int, typer.Option("--show", min=0, help="Say at most so many of each kind.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print all findings as JSON.")] = False,
) -> None:
    """Find what is wrong with shards, or with files of any source, and say what to do about it.

    Of shards everything is read, from the first tar header to the last frame; of a source all that a conversion would
    read. `--set` gives options of the source. Exit code 1 if there is an error.
    """
    workers = workers or cores()
    with errors(2):
        from data.storage.place import is_url, shown

        if is_url(root):
            raise ValueError(
                f"{shown(root)}: check shards where they lie in a folder, before they are copied"
            )
        reader = source_of(root, source, settings)
    unit = ("MB", 1e-6) if reader is None else ("clips", 1)
    with errors(1), counted("checking", *unit) as progress:
        if reader is None:
            from data.checking.check import check as check_shards

            findings = check_shards(Path(root), not fast, workers, progress)
        else:
            from data.checking.check_source import check_source

            findings = check_source(reader, not fast, workers, progress)
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        _tell(root, findings, most)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


def _tell(root: str, findings: list[Finding], most: int) -> None:
    """Every finding on a line, at most so many of a kind, and how many there are."""
    from data.plural import plural

    told: Counter[tuple[str, str]] = Counter()
    for finding in findings:
        kind = finding.severity, finding.code
        told[kind] += 1
        if told[kind] <= most:
            text = f"{finding.where}: {finding.message}; {finding.remedy}"
            typer.echo(f"{finding.severity}: {text} [{finding.code}]")
    for (severity, code), count in told.items():
        if count > most:
            typer.echo(
                f"{severity}: ... and {count - most} more [{code}]; --show {count} or --json lists all"
            )
    severities = Counter(finding.severity for finding in findings)
    counts = [plural(severities[severity], severity) for severity in ("error", "warning")]
    counts += [plural(severities["note"], "note")] if severities["note"] else []
    typer.echo(f"{root}: {', '.join(counts)}")
