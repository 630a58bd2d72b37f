"""Files behind an address, read through fsspec with a bounded number of attempts."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from data.clip import DataError
from data.storage.place import StorageError, checked, join, shown, without_secrets

log = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK = 16 << 20  # bytes of one request
_LONGEST_PAUSE_S = 30.0
_TRY_AGAIN = {408, 425, 429}  # of the 4xx; all 5xx too
_NEEDS = {"s3": "s3fs", "gs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
_OUR_FAULT = (TypeError, AttributeError, NameError, NotImplementedError)


class NoRanges(Exception):
    """The server sends whole files only."""


@dataclass(frozen=True)
class Facts:
    """What a file is known by before it is read: bytes, and a tag that changes with its content ("": unknown)."""

    size: int
    version: str


@dataclass
class Remote:
    """The files of a folder behind an address.

    Safe with forked and spawned workers: connections belong to the process that opened them.

    Attributes:
        root: address of the folder.
        attempts: how often a request is made before it counts as failed.
        pause_s: before the second attempt; it doubles before each later one, up to half a minute.
        timeout_s: without any byte, after which an attempt has failed.
        retries: attempts that this process made beyond the first ones.
    """

    root: str
    attempts: int = 8
    pause_s: float = 0.5
    timeout_s: float = 60.0
    retries: int = 0
    # One for each process. A forked child must not even let go of its parent's: closing it would wait for a thread
    # that is not there.
    _systems: dict[int, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        checked(self.root)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_systems": {}, "retries": 0}

    def address(self, name: str) -> str:
        """What the cache tells files apart by."""
        return join(self.root, name)

    def shown(self, name: str) -> str:
        """The address of a file as messages name it."""
        return shown(self.address(name))

    def facts(self, name: str) -> Facts:
        """Size and version of a file.

        Raises:
            DataError: there is no such file, or the server does not tell its size.
            StorageError: the server cannot be asked.
        """
        found = self._try(name, lambda: self._system.info(self.address(name)))
        if not isinstance(found.get("size"), int):
            raise DataError(f"{self.shown(name)}: the server does not tell its size; use another server")
        tags = (
            str(found.get(tag) or "") for tag in ("ETag", "etag", "md5Hash", "Last-Modified", "LastModified")
        )
        return Facts(found["size"], next(filter(None, tags), ""))

    def read(self, name: str, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`.

        Raises:
            NoRanges: the server sends whole files only.
            DataError: there is no such file.
            StorageError: they could not be had in so many attempts.
        """
        return self._try(name, lambda: self._range(name, start, stop))

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        """All of a file of `size` bytes, in order; what arrived is not asked for again where the server has ranges.

        Raises:
            DataError: there is no such file.
            StorageError: it could not be had.
        """
        at = 0
        while at < size:
            try:
                part = self.read(name, at, min(at + CHUNK, size))
            except NoRanges:
                yield from self._whole(name, at, size)
                return
            at += len(part)
            yield part

    def _range(self, name: str, start: int, stop: int) -> bytes:
        url, system = self.address(name), self._system
        if url.startswith("http"):
            # Asks for a range and sees whether one comes; `cat_file` would take all that a server without ranges sends.
            with system.open(url, block_size=CHUNK, cache_type="none", size=stop) as file:
                file.seek(start)
                try:
                    raw = file.read(stop - start)
                except ValueError as error:
                    if "range" in str(error):
                        raise NoRanges from error
                    raise
        else:
            raw = system.cat_file(url, start=start, end=stop)
        if len(raw) != stop - start:
            raise EOFError(f"{len(raw)} bytes instead of {stop - start}")
        return raw

    def _whole(self, name: str, at: int, size: int) -> Iterator[bytes]:
        """What follows byte `at`; each attempt reads from the beginning and gives what is new."""

        def attempt() -> Iterator[bytes]:
            position = 0
            with self._system.open(self.address(name), block_size=0, size=size) as file:
                while position < size:
                    part = file.read(min(CHUNK, size - position))
                    if not part:
                        raise EOFError(f"ends after {position} of {size} bytes")
                    position += len(part)
                    if position > at:
                        yield part[len(part) - min(len(part), position - at) :]

        stream = self._try(name, attempt)
        failed = 0
        while at < size:
            try:
                part = next(stream)
            except Exception as error:
                failed += 1
                self._pause(name, error, failed)
                stream = attempt()
            else:
                at += len(part)
                yield part

    def _try(self, name: str, action: Callable[[], T]) -> T:
        """What `action` returns, in one of the attempts."""
        failed = 0
        while True:
            try:
                return action()
            except (
                Exception
            ) as error:  # every file system has its own; `_pause` raises what is no use to try again
                failed += 1
                self._pause(name, error, failed)

    def _pause(self, name: str, error: Exception, failed: int) -> None:
        """Wait before the next attempt.

        Raises:
            DataError: there is no such file.
            StorageError: it is of no use, or there have been enough attempts.
        """
        if isinstance(error, (DataError, NoRanges, *_OUR_FAULT)):
            raise error
        status, where = _status(error), self.shown(name)
        if status in (404, 410):
            raise DataError(f"{where}: there is no such file; restore it") from error
        cause = without_secrets(f"{type(error).__name__}: {error}".rstrip(": "), self.root)
        if status is not None and 400 <= status < 500 and status not in _TRY_AGAIN:
            raise StorageError(
                f"{where}: refused with status {status} ({cause}); see that the credentials are there and may read it"
            ) from error
        if failed >= self.attempts:
            raise StorageError(
                f"{where}: could not be read in {failed} attempts; the last: {cause}; see that the "
                "server can be reached from here and start again, or raise data.attempts"
            ) from error
        pause = min(self.pause_s * 2 ** (failed - 1), _LONGEST_PAUSE_S) * _spread(
            f"{where} {failed} {os.getpid()}"
        )
        self.retries += 1
        log.warning(
            "%s: attempt %d of %d failed (%s); again in %.1f s", where, failed, self.attempts, cause, pause
        )
        time.sleep(pause)

    @property
    def _system(self) -> Any:
        return self._systems.get(os.getpid()) or self._systems.setdefault(os.getpid(), self._connect())

    def _connect(self) -> Any:
        scheme = urlsplit(self.root).scheme
        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        try:
            system = importlib.import_module("fsspec").filesystem
            if scheme.startswith("http"):
                timeout = importlib.import_module("aiohttp").ClientTimeout(
                    total=None, sock_connect=self.timeout_s, sock_read=self.timeout_s
                )
                options["client_kwargs"] = {"timeout": timeout, "trust_env": True}  # proxies, .netrc
            elif scheme == "s3":
                limits = {"connect_timeout": self.timeout_s, "read_timeout": self.timeout_s}
                options["config_kwargs"] = limits | {"retries": {"total_max_attempts": 1}}
            made = system(scheme, **options)
        except ImportError as error:
            raise DataError(
                f"{shown(self.root)}: {scheme}:// needs fsspec and {_NEEDS[scheme]}: pip install 'sam2-train[remote]'"
            ) from error
        if scheme == "s3":
            made.retries = 1  # attempts are counted here, not there too
        return made


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error, if there is one; a file that is missing counts as 404."""
    link: BaseException | None = error
    while link is not None:
        status = getattr(link, "status", None)
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if isinstance(status, int):
            return status
        if link.__cause__ is None and isinstance(link, FileNotFoundError | PermissionError):
            return 404 if isinstance(link, FileNotFoundError) else 403
        link = link.__cause__
    return None


def _spread(text: str) -> float:
    """From 0.75 to 1.25, so that processes that failed together do not come back together."""
    return 0.75 + hashlib.sha256(text.encode()).digest()[0] / 510
