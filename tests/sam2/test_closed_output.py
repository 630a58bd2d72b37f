"""Programs whose output nobody reads any more, as in `python train.py ... | head -1`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sam2.training import run
from sam2.training.exit_codes import UNEXPECTED

ROOT = Path(__file__).parents[2]
MAIN_IS = "import sys; from sam2.training import run; run.main = lambda *_: {}; sys.exit(run.as_program())"


def unread(*words: str, unbuffered: str = "") -> tuple[int, str]:
    """Exit code and standard error of a Python program whose output has no reader from the start."""
    end, begin = os.pipe()
    os.close(end)
    try:
        done = subprocess.run(
            [sys.executable, *words],
            stdout=begin,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    finally:
        os.close(begin)
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["at the end", "at once"])
@pytest.mark.parametrize("words", [("train.py", "--help"), ("sam2_train.py", "train", "--help")])
def test_nothing_is_said_when_the_reader_has_gone(words: tuple[str, ...], unbuffered: str) -> None:
    assert unread(*words, unbuffered=unbuffered) == (1, "")


def test_the_exit_code_of_a_failure_stays_when_the_reader_has_gone() -> None:
    assert unread("-c", MAIN_IS.format("print('interrupted') or 85")) == (85, "")


def test_another_error_keeps_its_traceback_when_the_reader_has_gone() -> None:
    code, said = unread("-c", MAIN_IS.format("print('so far') or 1 / 0"))
    assert code == UNEXPECTED and "ZeroDivisionError" in said


def test_a_pipe_that_is_not_our_output_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> int:
        raise BrokenPipeError("a worker has gone")

    monkeypatch.setattr(run, "main", fails)
    assert run.as_program([]) == UNEXPECTED
    assert "a worker has gone" in capfd.readouterr().err


def test_a_program_without_standard_output_ends_as_it_would() -> None:
    done = subprocess.run(["bash", "-c", f"{sys.executable} train.py --help >&-"], cwd=ROOT)
    assert done.returncode == 0
