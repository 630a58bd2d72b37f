"""Where a data set lives: a folder, or an address of one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from data.clip import DataError

PIPE = "pipe:"
SCHEMES = ("s3", "gs", "https", "http")


class StorageError(DataError):
    """Bytes that should be there cannot be had now: no network, no permission, no room. No sample is to blame."""


class Url(str):
    """An address of a folder of shards, or `pipe:` and a command that writes shards."""


def is_pipe(place: str | Path) -> bool:
    """Whether `place` is a command that writes shards."""
    return isinstance(place, str) and place.startswith(PIPE)


def is_url(place: str | Path) -> bool:
    """Whether `place` is an address or a command, not a folder."""
    return isinstance(place, str) and ("://" in place or is_pipe(place))


def checked(url: str) -> str:
    """The address itself.

    Raises:
        DataError: it names no place that shards can be read from.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise DataError(f"{shown(url)}: not an address of shards; they begin with {known} or {PIPE}")
    return url


def join(url: str, name: str) -> str:
    """The address of a file in the folder `url`; a query (a signature for instance) stays behind the path."""
    parts = urlsplit(url)
    last = quote(name) if parts.scheme.startswith("http") else name
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{last}"))


def without_secrets(text: str, url: str) -> str:
    """`text` without what `shown` leaves out of `url`."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    for secret in (user, parts.password, parts.query):
        text = text.replace(secret, "...") if secret else text
    return text


def shown(place: str | Path) -> str:
    """`place` as messages name it, without what could be a secret: user, password, query."""
    if not isinstance(place, str) or "://" not in place or is_pipe(place):
        return str(place)
    parts = urlsplit(place)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
