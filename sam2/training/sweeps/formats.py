"""A sweep's table for a terminal, in Markdown, as CSV and as a page of its own."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from rich.table import Table

from sam2.evaluation.curves import number
from sam2.evaluation.files import write_atomically
from sam2.evaluation.page import STYLE
from sam2.training.sweeps.factors import shown
from sam2.training.sweeps.runs import SCORES
from sam2.training.sweeps.student import Estimate
from sam2.training.sweeps.table import Row, SweepTable
from sam2.training.typed import ConfigError

SUFFIXES = (".md", ".csv", ".html")
_NONE = "—"
_LEGEND = (
    "[..]: 95 % interval; over seeds by Student's t, over videos by bootstrap. Differences are paired with the "
    "baseline. Hours are of a run."
)


def write_table(path: Path, table: SweepTable) -> None:
    """Write the table in the format that the file's name asks for.

    Raises:
        ConfigError: its ending is none of SUFFIXES.
    """
    makers = {".md": as_markdown, ".csv": as_csv, ".html": as_page}
    maker = makers.get(path.suffix.lower())
    if maker is None:
        raise ConfigError(
            f"{path}: a table is written as {', '.join(SUFFIXES)}, not as {path.suffix or 'that'}"
        )
    write_atomically(path, maker(table))


def as_terminal(table: SweepTable) -> Table:
    """For a terminal of 80 columns; the baseline is bold, what is the same in all rows is said once."""
    made = Table(title=_title(table), title_justify="left", caption_justify="left")
    headings, names = _headings(table), len(table.factors.names)
    rows = [_cells(table, row) for row in table.rows]
    said_once = {
        place: _only(row[place] for row in rows) for place in map(headings.index, ("over", "paired over"))
    }
    for place, heading in enumerate(headings):
        if said_once.get(place) is None:
            is_factor = place < names
            made.add_column(heading, justify="left" if is_factor else "right", overflow="fold")
    for row, cells in zip(table.rows, rows, strict=True):
        kept = [cell.replace(" [", "\n[") for place, cell in enumerate(cells) if said_once.get(place) is None]
        made.add_row(*kept, style="bold" if row.is_baseline else None)
    once = [f"{headings[place]} {text}" for place, text in said_once.items() if text]
    made.caption = "\n".join([_LEGEND, *once, *table.notes])
    return made


def _only(cells: Iterable[str]) -> str | None:
    """What all cells say that say anything; None where they differ."""
    different = {cell for cell in cells if cell}
    return different.pop() if len(different) == 1 else None if different else ""


def as_markdown(table: SweepTable) -> str:
    """A table of GitHub's Markdown, with what a reader has to know below it."""
    headings = _headings(table)
    rules = ["---"] * len(table.factors.names) + ["---:"] * (len(headings) - len(table.factors.names))
    rows = [_cells(table, row) for row in table.rows]
    lines = [_line(headings), _line(rules), *map(_line, rows), "", _LEGEND]
    lines += [f"- {note}" for note in table.notes]
    if table.unfinished:
        lines += ["", "Not in the table:", "", *(f"- {each}" for each in table.unfinished)]
    return f"**{_title(table)}**\n\n" + "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def as_csv(table: SweepTable) -> str:
    """All numbers, unrounded; a line for each run that is not finished follows those of the rows."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ends = ("low", "high", "over")
    metric = table.metric
    cost = [f"{table.device.lower()}_hours", "peak_memory_gb"]
    writer.writerow(
        [
            *table.factors.names,
            *(metric, *(f"{metric}_{end}" for end in ends)),
            *("difference", *(f"difference_{end}" for end in ends)),
            *("baseline", "finished", "asked", *cost, "unfinished"),
        ]
    )
    for row in table.rows:
        counts = (int(row.is_baseline), row.finished, row.asked)
        writer.writerow(
            [
                *(shown(value) if value is not None else "" for value in row.values),
                *_fields(row.score),
                *_fields(row.difference),
                *(*counts, row.device_hours, row.memory_gb, ""),
            ]
        )
    blank = [""] * (len(table.factors.names) + 13)
    for each in table.unfinished:
        writer.writerow([*blank, each])
    return out.getvalue()


def _fields(found: Estimate | None) -> list[object]:
    if found is None:
        return ["", "", "", ""]
    low, high = found.interval or ("", "")
    return [found.value, low, high, found.over]


def as_page(table: SweepTable) -> str:
    """One HTML file that needs no network; scores are drawn with their intervals on one scale."""
    heads = "".join(f"<th>{escape(text)}</th>" for text in (*_headings(table), "on one scale"))
    scale = _scale(table)
    rows = []
    for row in table.rows:
        first, *others = _cells(table, row) or [""]
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        kind = ' class="main"' if row.is_baseline else ""
        rows.append(
            f'<tr{kind}><th>{escape(first)}</th>{cells}<td class="strip">{_strip(row, scale)}</td></tr>'
        )
    remarks = "".join(f"<p><small>{escape(text)}</small></p>" for text in (_LEGEND, *table.notes))
    left = "".join(f"<li>{escape(each)}</li>" for each in table.unfinished)
    missing = f"<section><h2>Not in the table</h2><ul>{left}</ul></section>" if left else ""
    title = escape(_title(table))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main><header><h1>{title}</h1></header>"
        f'<section><div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        f"</div>{remarks}</section>{missing}</main></body></html>\n"
    )


def _scale(table: SweepTable) -> tuple[float, float]:
    """Least and greatest of all scores and their intervals."""
    scores = [row.score for row in table.rows if row.score]
    ends = [end for score in scores for end in (score.value, *(score.interval or ()))]
    low, high = min(ends), max(ends)
    return (low, high) if high > low else (low - 1, high + 1)


def _strip(row: Row, scale: tuple[float, float]) -> str:
    if row.score is None:
        return ""
    low, high = scale

    def at(value: float) -> str:
        return f"{4 + 292 * (value - low) / (high - low):.1f}"

    least, most = row.score.interval or (row.score.value, row.score.value)
    bar = f'<line class="mean" x1="{at(least)}" x2="{at(most)}" y1="10" y2="10"/>'
    return f'<svg viewBox="0 0 300 20">{bar}<circle cx="{at(row.score.value)}" cy="10" r="4"/></svg>'


def _title(table: SweepTable) -> str:
    finished, asked = (
        sum(counts) for counts in zip(*((r.finished, r.asked) for r in table.rows), strict=True)
    )
    return f"{table.metric}, {finished} of {asked} runs"


def _headings(table: SweepTable) -> list[str]:
    cost = [f"{table.device} hours", "peak GB"]
    return [*table.factors.names, table.metric, "over", "difference", "paired over", "runs", *cost]


def _cells(table: SweepTable, row: Row) -> list[str]:
    digits = table.metric in SCORES
    difference = "baseline" if row.is_baseline else _text(row.difference, digits, "+")
    return [
        *map(shown, row.values),
        _text(row.score, digits),
        row.score.over if row.score else _NONE,
        difference,
        row.difference.over if row.difference else "",
        str(row.finished) if row.finished == row.asked else f"{row.finished} of {row.asked}",
        _NONE if row.device_hours is None else f"{row.device_hours:.3g}",
        _NONE if row.memory_gb is None else f"{row.memory_gb:.2f}",
    ]


def _text(found: Estimate | None, is_percent: bool, sign: str = "") -> str:
    """A number with its interval; percent with one decimal, others with four digits."""
    if found is None:
        return _NONE

    def text(value: float) -> str:
        plain = f"{value:{sign}.1f}" if is_percent else number(value)
        return f"+{plain}" if sign and not is_percent and value > 0 else plain

    if found.interval is None:
        return text(found.value)
    return f"{text(found.value)} [{', '.join(map(text, found.interval))}]"
