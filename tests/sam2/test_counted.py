"""Progress where nobody watches: a line a minute in a log, nothing for short work."""

import itertools

import pytest

from sam2.counted import counted


@pytest.fixture
def seconds(monkeypatch):
    """A clock that moves on by `step` seconds with every look at it."""

    def start(step: float) -> None:
        ticks = itertools.count(0, step)
        monkeypatch.setattr("sam2.counted.time.monotonic", lambda: next(ticks))

    return start


def test_a_log_has_a_line_a_minute_with_the_time_left(seconds, capsys):
    seconds(20)
    with counted("following", "frames") as progress:
        for done in range(1, 11):
            progress(done, 10)
    assert capsys.readouterr().err.splitlines() == [
        "following: 3/10 frames, 0:01:00, about 0:02:20 left",
        "following: 6/10 frames, 0:02:00, about 0:01:20 left",
        "following: 9/10 frames, 0:03:00, about 0:00:20 left",
    ]


def test_short_work_leaves_no_line_in_a_log(seconds, capsys):
    seconds(5)
    with counted("scoring", "frames") as progress:
        for done in range(1, 11):
            progress(done, 10)
    assert capsys.readouterr() == ("", "")


def test_a_line_counts_in_the_unit_that_is_shown(seconds, capsys):
    seconds(60)
    with counted("checking", "MB", 1e-6) as progress:
        progress(0, 4_000_000)
        progress(2_000_000, 4_000_000)
    assert capsys.readouterr().err == "checking: 2/4 MB, 0:02:00, about 0:02:00 left\n"
