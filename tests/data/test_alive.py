"""Long work on data says that it goes on, and waiting says so only while somebody else's work does."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.alive import alive, leave, listen
from data.storage.origin import Folder, copy_file
from data.storage.shard_cache import PART, ShardCache


@pytest.fixture
def signs() -> Iterator[list[str]]:
    found: list[str] = []

    def listener(doing: str, within_s: float | None) -> None:
        found.append(doing)

    listen(listener)
    yield found
    leave(listener)


def test_a_shard_that_is_copied_gives_signs_of_life(tmp_path: Path, signs: list[str]) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 1000)
    with (tmp_path / "copy").open("wb") as file:
        copy_file(Folder(tmp_path), "a.tar", 1000, file.fileno())
    assert signs and "a.tar" in signs[0]


def test_whoever_waits_for_a_copy_lives_as_long_as_it_grows(tmp_path: Path, signs: list[str]) -> None:
    cache = ShardCache(tmp_path, 10**9)
    part = tmp_path / f"a{PART}"

    def copy_slowly() -> None:
        with part.open("wb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            begun.set()
            for _ in range(4):
                file.write(os.urandom(1 << 16))
                os.fsync(file.fileno())
                time.sleep(0.15)
            grown.append(len(signs))
            time.sleep(0.5)  # it is stuck, and so is whoever waits
            stuck.append(len(signs))
            part.rename(tmp_path / "a")

    begun, grown, stuck = threading.Event(), [], []
    thread = threading.Thread(target=copy_slowly)
    thread.start()
    assert begun.wait(10)
    os.close(cache.fetch("a", 4 << 16, lambda fd: pytest.fail("the other one fills it")))
    thread.join()
    assert grown[0] >= 2, signs
    assert stuck[0] - grown[0] <= 1, signs


def test_nobody_listening_costs_nothing_and_is_no_mistake() -> None:
    alive("anything")
