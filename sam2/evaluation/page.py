"""`report.html`: a run on one page that needs no network: scores, curves, videos, pictures, configuration."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from sam2.evaluation.curves import Curve, Line, draw, number, read_metrics
from sam2.evaluation.files import write_atomically
from sam2.evaluation.report import Report, Result, read_results

MEDIA = {".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4"}
_NO_FACTS = ("format", "name")  # of run.json: for machines, and in the title
STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Figure:
    """A picture (.png, .jpg) or video (.mp4) and what it shows."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Page:
    """What stands on the page; what is empty is left out.

    `facts` are short lines under the title ("commit": "1a2b3c"), `config` the resolved configuration as text.
    """

    title: str
    report: Report | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    curves: Sequence[Curve] = ()
    figures: Sequence[Figure] = ()
    config: str = ""


def page_of_run(folder: Path, title: str | None = None) -> Page:
    """The page of a run directory, from whatever of its files is there.

    Reads `eval/results.json`, `metrics.csv`, `config.yaml`, the top-level texts and numbers of `run.json`, and the
    videos and pictures in `eval/` by name, a file's name being its caption.
    """
    results, metrics, config, facts = (
        folder / name for name in ("eval/results.json", "metrics.csv", "config.yaml", "run.json")
    )
    known = json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else {}
    found = [path for path in (folder / "eval").glob("*") if path.suffix.lower() in MEDIA]
    pictures = sorted(found, key=lambda path: (path.suffix.lower() != ".mp4", path.name))
    return Page(
        title=title or folder.name,
        report=read_results(results) if results.is_file() else None,
        facts={
            k: str(v)
            for k, v in known.items()
            if k not in _NO_FACTS and isinstance(v, str | int | float) and len(str(v)) <= 80
        },
        curves=read_metrics(metrics) if metrics.is_file() else (),
        figures=[Figure(path, path.stem.replace("_", " ")) for path in pictures],
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
    )


def write_page(path: Path, page: Page) -> None:
    """Write the page as one HTML file, atomically; pictures are embedded.

    Raises:
        ValueError: a figure is of a kind that browsers do not show.
    """
    write_atomically(path, render(page))


def render(page: Page) -> str:
    """The page as HTML."""
    sections = [_header(page)]
    if page.report is not None:
        sections += [_section("Scores", _scores(page.report), page.report.protocol)]
    if page.figures:
        sections += [_section("Predictions", "".join(map(_figure, page.figures)))]
    if page.curves:
        sections += [_section("Curves", _curves(page.curves, page.report))]
    if page.report is not None:
        sections += [_section("Videos, worst first", _videos(page.report))]
    if page.config:
        sections += [
            _section(
                "Configuration",
                f"<details><summary>config.yaml</summary><pre>{escape(page.config)}</pre></details>",
            )
        ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(page.title)}</title><style>{STYLE}</style></head><body><main>"
        f"{''.join(sections)}</main></body></html>\n"
    )


def _section(title: str, body: str, note: str = "") -> str:
    small = f"<small>{escape(note)}</small>" if note else ""
    return f"<section><h2>{escape(title)}{small}</h2>{body}</section>"


def _header(page: Page) -> str:
    headline = ""
    if page.report is not None:
        main, best = page.report.main, page.report.best_baseline
        against = "" if best is None else f"<span>{main.jf - best.jf:+.1f} over {escape(best.name)}</span>"
        headline = f'<p class="headline"><b>{main.jf:.1f}</b> J&amp;F, {escape(main.name)}{against}</p>'
    facts = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in page.facts.items())
    return f"<header><h1>{escape(page.title)}</h1>{headline}<dl>{facts}</dl></header>"


# ------------------------------------------------------------------------------------------------ scores


def _scores(report: Report) -> str:
    """A row for each result: numbers, and every object as a dot on a line from 0 to 100."""
    best = report.best_baseline
    rows = []
    for result in report.results:
        kind = "main" if result is report.main else "baseline" if result.is_baseline else ""
        margin = "" if best is None or result.is_baseline else f"{result.jf - best.jf:+.1f}"
        seconds = "" if result.seconds is None else f"{result.seconds:.1f} s"
        numbers = "".join(f"<td>{value:.1f}</td>" for value in (result.jf, result.j, result.f))
        rows.append(
            f'<tr class="{kind}"><th>{escape(result.name)}</th>{numbers}<td>{margin}</td>'
            f'<td class="strip">{_strip(result)}</td><td>{len(result.objects)}</td><td>{seconds}</td></tr>'
        )
    heads = (
        "masks from",
        "J&amp;F",
        "J",
        "F",
        "over best baseline",
        "each object's J&amp;F, 0 to 100",
        "objects",
        "time",
    )
    return _table(heads, rows)


def _strip(result: Result) -> str:
    dots = "".join(
        f'<circle cx="{4 + 2.92 * o.jf:.1f}" cy="10" r="3"><title>{escape(o.sequence)}, object {o.object_id}: '
        f"{o.jf:.1f}</title></circle>"
        for o in result.objects
    )
    mean = 4 + 2.92 * result.jf
    ticks = "".join(f'<line class="grid" x1="{x}" x2="{x}" y1="4" y2="16"/>' for x in (4, 77, 150, 223, 296))
    middle = f'<line class="mean" x1="{mean:.1f}" x2="{mean:.1f}" y1="1" y2="19"/>'
    return f'<svg viewBox="0 0 300 20">{ticks}{dots}{middle}</svg>'


def _videos(report: Report) -> str:
    """A row for each video, worst first by the main result; the other results' J&F beside it."""
    main = report.main
    others = [(result, result.by_sequence()) for result in report.results if result is not main]
    rows = []
    for name, part in main.by_sequence().items():
        objects = " ".join(
            f"<i>{o.object_id}</i>{o.jf:.0f}" for o in sorted(part.objects, key=lambda o: o.jf)
        )
        beside = "".join(
            f"<td>{table[name].jf:.1f}</td>" if name in table else "<td></td>" for _, table in others
        )
        rows.append(
            f"<tr><th>{escape(name)}</th><td>{_bar(part.jf)}</td><td>{part.jf:.1f}</td><td>{part.j:.1f}</td>"
            f'<td>{part.f:.1f}</td>{beside}<td class="objects">{objects}</td></tr>'
        )
    heads = [
        "video",
        "",
        "J&amp;F",
        "J",
        "F",
        *(escape(result.name) for result, _ in others),
        "each object's J&amp;F",
    ]
    return _table(heads, rows)


def _bar(percent: float) -> str:
    return f'<div class="bar"><div style="width:{percent:.1f}%"></div></div>'


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{text}</th>" for text in heads)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


# ------------------------------------------------------------------------------------------------ curves and pictures


def _curves(curves: Sequence[Curve], report: Report | None) -> str:
    """Small charts by group, the validation's group first; J&F (in percent) is compared with the best baseline."""
    groups = dict.fromkeys(curve.group for curve in curves)
    parts = []
    for group in sorted(groups, key=lambda name: not name.startswith("val")):
        charts = "".join(_chart(curve, report) for curve in curves if curve.group == group)
        title = f"<h3>{escape(group)}</h3>" if group else ""
        parts.append(f'{title}<div class="charts">{charts}</div>')
    return "".join(parts)


def _chart(curve: Curve, report: Report | None) -> str:
    is_jf = curve.name.rsplit("/", 1)[-1].lower() in ("jf", "j&f", "j_and_f")
    best = report.best_baseline if report is not None and is_jf else None
    lines = [] if best is None else [Line(best.name, best.jf)]
    name = curve.name.removeprefix(curve.group + "/")
    return (
        f"<figure><figcaption>{escape(name)}<b>{number(curve.values[-1])}</b></figcaption>"
        f"{draw(curve, lines)}</figure>"
    )


def _figure(figure: Figure) -> str:
    kind = MEDIA.get(figure.path.suffix.lower())
    if kind is None:
        raise ValueError(f"{figure.path}: a page shows {', '.join(MEDIA)}, not {figure.path.suffix!r}")
    data = f"data:{kind};base64,{base64.b64encode(figure.path.read_bytes()).decode()}"
    shown = (
        f'<video controls loop muted autoplay src="{data}"></video>'
        if kind.startswith("video")
        else f'<img alt="{escape(figure.caption, quote=True)}" src="{data}">'
    )
    return f'<figure class="wide picture">{shown}<figcaption>{escape(figure.caption)}</figcaption></figure>'
