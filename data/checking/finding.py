"""What a look at data finds: one thing that is not as it should be, where, and what to do about it.

What a source notices while it reads and can live with, it says by `notice`; nobody hears it but `sam2 data check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from data.clip import DataError

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        severity: "error", training would fail or learn from wrong data; "warning", worth a look; "note", usual in some
            data sets and a mistake in others.
        code: kind of finding, stable, for scripts; docs/data.md lists all.
        where: shard and clip, or file.
        message: what was found and what was expected.
        remedy: what to do.
    """

    severity: str
    code: str
    where: str
    message: str
    remedy: str


_heard: ContextVar[list[Finding] | None] = ContextVar("findings", default=None)


def notice(severity: str, code: str, where: object, message: str, remedy: str) -> None:
    """Say something that is no reason to leave a clip out; fields as of `Finding`."""
    found = _heard.get()
    if found is not None:
        found.append(Finding(severity, code, str(where), message, remedy))


def tell_of_bare(media: Iterable[object]) -> None:
    """Say which videos or images have no masks and are left out."""
    for place in media:
        notice(
            "warning", "image-without-mask", place, "has no masks, it is left out", "annotate or remove it"
        )


@contextmanager
def listening() -> Iterator[list[Finding]]:
    """What is noticed in this block by this thread; each thing once."""
    found: list[Finding] = []
    token = _heard.set(found)
    try:
        yield found
    finally:
        _heard.reset(token)
        found[:] = dict.fromkeys(found)


def of_error(error: DataError, where: str, code: str, remedy: str) -> Finding:
    """An error as a finding: what comes before says where, its last clause what to do.

    Args:
        error: its own `code` goes before the one given.
        where: as its text may begin.
        code: what kind it is, if it does not say.
        remedy: what to do, if it does not say.
    """
    text = str(error).removeprefix(f"{where}: ").removeprefix(f"{where}, ")
    message, _, last = text.rpartition("; ")
    found = error.code or code
    severity = "warning" if found in _TOLERABLE else "error"
    return Finding(severity, found, where, *((message, last) if message else (last, remedy)))


_TOLERABLE = ("image-without-mask", "nothing-visible")  # left out of training, which harms nothing
