"""Signals that come before anybody can act on them, in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

HEAD = "import os, signal\nfrom sam2.training.signals import hold, ignore, listening, release\n"
HIT = "os.kill(os.getpid(), signal.SIGUSR1)\nprint('alive', flush=True)\n"


def told(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HEAD + body], capture_output=True, text=True, timeout=60)


def test_one_that_comes_early_is_remembered_until_somebody_listens() -> None:
    done = told(f"hold()\n{HIT}with listening() as asked:\n    print(asked.by.name)\n{HIT}")
    assert (done.returncode, done.stdout) == (0, "alive\nSIGUSR1\nalive\n"), done.stderr


def test_one_that_was_held_is_felt_when_nobody_will_listen() -> None:
    done = told(f"hold()\n{HIT}release()\nprint('never')\n")
    assert (done.returncode, done.stdout) == (-signal.SIGUSR1, "alive\n")


def test_after_release_signals_are_what_they_were() -> None:
    done = told(f"hold()\nrelease()\nrelease()\nprint('still here', flush=True)\n{HIT}")
    assert (done.returncode, done.stdout) == (-signal.SIGUSR1, "still here\n")


@pytest.mark.parametrize(("settled", "code"), [("", -15), ("ignore()\n", 15)])
def test_an_exit_code_stands_whatever_comes_while_python_ends(settled: str, code: int) -> None:
    # the C library calls raise(exit code) when Python has gone, and its handlers with it
    late = "import ctypes, sys\nlibc = ctypes.CDLL(None)\nlibc.on_exit(getattr(libc, 'raise'), None)\n"
    assert told(f"hold()\n{late}{settled}sys.exit({signal.SIGTERM})\n").returncode == code
