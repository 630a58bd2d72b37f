"""The runs of a sweep on this machine, one after the other; one that fails is named, and the others go on.

Each training has a process of its own: memory that a run held, a GPU that it left in error, or a kill by the kernel
is no concern of the next one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console

from sam2.evaluation.files import write_atomically
from sam2.training.compose import Combination
from sam2.training.config import RunConfig
from sam2.training.exit_codes import FAILED
from sam2.training.launch import PARENT
from sam2.training.members import Member
from sam2.training.rundir import RunDirectory
from sam2.training.settings_text import as_yaml
from sam2.training.sweeps.ended import Finished, table_of_runs
from sam2.training.sweeps.failure import PASSED_ON, RunFailed
from sam2.training.typed import to_plain


@dataclass
class Tally:
    """What became of the runs so far."""

    ended: list[tuple[str, Finished]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, combination: Combination, finished: Finished) -> None:
        """A run that came to its end."""
        self.ended.append((" ".join(combination.overrides), finished))

    def fail(self, combination: Combination, error: Exception) -> None:
        """One that did not; said at once and again at the end."""
        print(f"error: {combination}: {error}", file=sys.stderr, flush=True)
        self.failed.append(f"{combination}: {error}")

    def conclude(self) -> int:
        """Print the table and the failures; gives the exit code of the sweep."""
        if self.ended:
            Console().print(table_of_runs(self.ended))
        for failure in self.failed:
            print(f"failed: {failure}", file=sys.stderr)
        if self.failed:
            print("the same command runs these alone, once their cause is mended", file=sys.stderr)
        return FAILED if self.failed else 0


def run_all(
    runs: Iterable[tuple[Combination, Callable[[], Finished]]], failures: tuple[type[Exception], ...]
) -> int:
    """Do all of `runs`, in their order.

    Args:
        runs: what each one is called and does.
        failures: what a run may raise without ending the sweep.

    Returns:
        0; FAILED if a run failed; that of a run which was stopped from outside, and with it the sweep.
    """
    tally = Tally()
    try:
        for combination, do in runs:
            print(combination, flush=True)
            try:
                tally.add(combination, do())
            except RunFailed as error:
                if error.ends_all:
                    print("stopped; the same command goes on with this run", file=sys.stderr)
                    return error.code
                tally.fail(combination, error)
            except failures as error:
                tally.fail(combination, error)
    finally:
        code = tally.conclude()
    return code


def run_member(member: Member) -> Finished:
    """Do what is left of one training, in a process of its own.

    Raises:
        RunFailed: it did not come to its end.
    """
    if member.remark:
        print(f"{member.remark}: it is run again")
    if member.state == "done":
        print(f"done already: {member.directory.path}", flush=True)
    else:
        run_apart(member.config, member.directory)
    return Finished.training(member.directory)


def run_apart(config: RunConfig, directory: RunDirectory) -> None:
    """Train in a process of its own and wait for it; it is asked to end when we are.

    Raises:
        RunFailed: with the last thing it said of why.
    """
    asked = directory.log(0).with_name("settings.yaml")
    write_atomically(asked, as_yaml(to_plain(config)))
    command = [
        *(sys.executable, "-P", "-m", "sam2.training.sweeps.one"),
        *(str(asked), f"run_dir={directory.path}"),
    ]
    child = subprocess.Popen(command, env={**os.environ, PARENT: str(os.getpid())})
    with _signals_for(child):
        code = _wait(child)
    if code:
        code = 128 - code if code < 0 else code
        killed = " (killed; most likely the machine ran out of memory)" if code == 137 else ""
        raise RunFailed(f"exit code {code}{killed}, see {directory.log(0)}", code)


def _wait(child: subprocess.Popen[bytes]) -> int:
    """The child's exit code; Ctrl-C, which the terminal gives to both, is the child's to answer."""
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


@contextmanager
def _signals_for(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass on what a batch system or a person says to this process."""
    before = {each: signal.signal(each, lambda number, _: child.send_signal(number)) for each in PASSED_ON}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
