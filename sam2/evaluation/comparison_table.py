"""A comparison for the terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table

from sam2.evaluation.comparison import Comparison, Difference
from sam2.evaluation.uncertainty import MIN_VIDEOS

_MAX_WIDTH = 60  # of a setting


def table(found: Comparison, rows: int) -> Group:
    """Differences of the numbers, videos (images, volumes) won and lost, and the settings that differ.

    Args:
        found: the comparison.
        rows: how many videos to show at most that gained, and that lost.
    """
    protocol, unit = found.first.test["protocol"], found.first.kind.unit
    counts = f"{len(found.videos)} {unit}, {len(found.first.objects)} objects"
    outcome = found.outcome
    lines: list[str | Table] = [
        f"{found.other.path} against {found.first.path} ({protocol}, {counts}), percent",
        _numbers(found),
        f"p: {_flips(found)}",
        *_remarks(found),
        f"{unit} by {found.differences[0].name}: {outcome['wins']} won, {outcome['losses']} lost, "
        f"{outcome['ties']} tied",
    ]
    if rows and outcome["wins"] + outcome["losses"]:
        lines.append(_videos(found, rows))
    if found.settings:
        lines.append(_settings(found))
    return Group(*lines)


def _numbers(found: Comparison) -> Table:
    each = Table()
    each.add_column("")
    for name in ("first", "other", "difference", "p"):
        each.add_column(name, justify="left" if name == "difference" else "right")
    for d in found.differences:
        about = [d.mean.unit] * (d.mean.unit != "percent") + ["less is better"] * d.mean.less_is_better
        name = f"{d.name} ({', '.join(about)})" if about else d.name
        each.add_row(name, f"{d.first:.1f}", f"{d.other:.1f}", _signed(d), f"{d.p:.4f}")
    return each


def _remarks(found: Comparison) -> list[str]:
    """What a reader might miss in the numbers."""
    unit, said = found.first.kind.unit, []
    bare = [d.name for d in found.differences if d.interval is None]
    if bare:
        said.append(
            f"no interval of {', '.join(bare)}: it needs {MIN_VIDEOS} {unit}, as many with objects of each part, and "
            "some that differ"
        )
    total, compared = len(found.first.objects), {d.name: d.objects for d in found.differences}
    for name in found.first.totals:
        if compared.get(name, 0) < total:
            said.append(
                f"{name}: over the {compared.get(name, 0)} of {total} objects that have it in both files"
            )
    return said


def _signed(found: Difference) -> str:
    if found.interval is None:
        return f"{found.difference:+6.2f}"
    low, high = found.interval
    return f"{found.difference:+6.2f} [{low:+.2f}, {high:+.2f}]"


def _flips(found: Comparison) -> str:
    how = "all patterns" if found.flips is None else f"{found.flips} random patterns"
    return f"sign flips of whole {found.first.kind.unit}, two-sided, {how}; not corrected for several comparisons"


def _videos(found: Comparison, rows: int) -> Table:
    gains, losses = found.gains(rows), found.losses(rows)
    left = found.outcome["wins"] + found.outcome["losses"] - len(gains) - len(losses)
    kind = found.first.kind
    caption = f"{left} more {kind.unit} differ; --rows shows more, --out keeps all" if left else None
    each = Table(caption=caption, caption_justify="left")
    each.add_column(kind.one)
    for name in ("first", "other", "difference"):
        each.add_column(name, justify="right")
    for shown in (gains, losses[::-1]):
        for video in shown:
            each.add_row(
                video.sequence, f"{video.first:.1f}", f"{video.other:.1f}", f"{video.difference:+.1f}"
            )
        each.add_section()
    return each


def _settings(found: Comparison) -> Table:
    each = Table(title="settings that differ", title_justify="left")
    for name in ("setting", "first", "other"):
        each.add_column(name, overflow="fold")
    for name, pair in found.settings.items():
        each.add_row(*(_printable(value) for value in (name, *pair)))
    return each


def _printable(value: object) -> str:
    """Files from anywhere must not steer the terminal."""
    text = "-" if value is None else str(value)
    text = text if text.isprintable() else ascii(text)
    half = (_MAX_WIDTH - 3) // 2  # paths differ at their ends
    return text if len(text) <= _MAX_WIDTH else f"{text[:half]}...{text[-half:]}"
