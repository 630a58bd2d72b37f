#!/usr/bin/env python3
"""A real SLURM on this machine, for tests: three nodes with two pretended GPUs each, on 127.0.0.1, without systemd.

    eval "$(python3 slurm/testcluster.py up)"            # SLURM_CONF is set: sinfo, sbatch, srun work
    python3 slurm/testcluster.py down
    python3 slurm/testcluster.py run -- pytest -m slurm  # up, the command, down; the command's exit code

Needs root and Debian's packages; only Python's own library is used. Partition `high` preempts `train` by requeue.

Everything of a cluster is below one process, its warden (testcluster_warden.py), which adopts what daemonises: to end
it is to kill the warden's descendants, known by their ids, and to remove its folder. The warden does so when it is told
to, when a start fails, and when the process that it works for is gone. Each node is such a process again, so that a
node can die as in a power failure, with all that runs on it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2", "n3")
GPUS = 2  # of each node
PREFIX = "sam2-slurm-"  # of folders in the temporary one
DEADLINE_S = 30.0  # for a start; it takes less than one second on an idle machine
INSTALL = "apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge"

_WARDEN = Path(__file__).with_name("testcluster_warden.py")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "scontrol", "sbatch", "srun", "scancel")


class ClusterError(RuntimeError):
    """Why there is no cluster, in one line and the last ones of a daemon's log."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up; `folder` holds its slurm.conf, its state and its logs."""

    folder: Path

    @property
    def conf(self) -> Path:
        """What SLURM_CONF must be for SLURM's commands to speak to this cluster."""
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """This process's variables, with this cluster instead of any other."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        return {**own, "SLURM_CONF": str(self.conf)}

    def ask(self, *command: str) -> str:
        """What one of SLURM's commands prints.

        Raises:
            ClusterError: it fails.
        """
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr.strip() or f'exit {done.returncode}'}")
        return done.stdout

    def states(self) -> dict[str, str]:
        """State of each node as sinfo has it; a star after it: the node does not answer."""
        lines = self.ask("sinfo", "-h", "-N", "-p", "train", "-o", "%N %T").splitlines()
        return {node: state for node, state in (line.split() for line in lines)}

    @staticmethod
    def is_usable(state: str) -> bool:
        """Whether jobs can run, or do run, on a node in this state."""
        return state in ("idle", "mixed", "allocated", "completing")

    def processes(self, *nodes: str) -> dict[int, str]:
        """Command lines of all that jobs have running on `nodes` (none named: on all), by process id."""
        found = set.union(*(_descendants(self._pid(node)) for node in nodes or NODES))
        named = {pid: _command_line(pid) for pid in sorted(found)}
        return {pid: line for pid, line in named.items() if line and not _is_slurmd(line)}

    def kill_node(self, node: str) -> None:
        """A power failure: slurmd and all that it started are gone at once."""
        keeper = self._pid(node)
        for pid in _descendants(keeper):
            _signal(pid, signal.SIGSTOP)  # nobody sees the others die
        kill_descendants(keeper)

    def revive_node(self, node: str, deadline_s: float = DEADLINE_S) -> None:
        """Start slurmd of a killed node, and wait until jobs can run there."""
        _signal(self._pid(node), signal.SIGUSR1)
        until(
            lambda: self.is_usable(self.states()[node]),
            deadline_s,
            lambda: f"{node} did not come back{self.log(f'slurmd-{node}')}",
        )

    def down(self, deadline_s: float = DEADLINE_S) -> None:
        """End every process of the cluster and remove its folder."""
        warden = self.warden()
        if warden is None:  # it was killed itself; its nodes ended with it
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        _signal(warden, signal.SIGTERM)
        until(lambda: not self.folder.exists(), deadline_s, lambda: f"process {warden} does not end; kill it")

    def warden(self) -> int | None:
        """The process all others of the cluster are below, if it lives."""
        try:
            with (self.folder / "run" / "warden.pid").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
        except BlockingIOError:
            return self._pid("warden")
        except FileNotFoundError:
            return None

    def log(self, daemon: str, lines: int = 8) -> str:
        """The last lines of a daemon's log, indented, after a line break; empty if it said nothing."""
        for path in (self.folder / "log" / f"{daemon}.{kind}" for kind in ("log", "err")):
            if path.is_file() and (said := path.read_text(errors="replace").splitlines()):
                return "".join(f"\n  {line}" for line in said[-lines:])
        return ""

    def _pid(self, name: str) -> int:
        return int((self.folder / "run" / f"{name}.pid").read_text())


def why_not() -> str | None:
    """What keeps a cluster from being started here, with its remedy; None if nothing does."""
    missing = [name for name in _PROGRAMS if program(name) is None]
    if missing:
        return f"SLURM is not installed ({', '.join(missing)} not found); as root: {INSTALL}"
    if os.geteuid() != 0:
        return "only root can start a test cluster (device files, munged); run it as root, or with sudo"
    return None


@contextmanager
def running(deadline_s: float = DEADLINE_S) -> Iterator[Cluster]:
    """A cluster for as long as the block, or this process, lives.

    Raises:
        ClusterError: there can be none here, or it is not up in time.
    """
    cluster, warden = _start(deadline_s)
    try:
        yield cluster
    finally:
        _close(warden)


def up(deadline_s: float = DEADLINE_S) -> Cluster:
    """A cluster that stays until somebody calls its `down`.

    Raises:
        ClusterError: as `running`.
    """
    cluster, warden = _start(deadline_s)
    assert warden.stdin is not None and warden.stdout is not None
    warden.stdin.write("stay\n")
    warden.stdin.close()
    warden.stdout.close()
    return cluster


def found(folder: Path | None) -> Cluster:
    """The cluster in `folder`, or that of SLURM_CONF, or the only one there is.

    Raises:
        ClusterError: none, or several.
    """
    if folder is None and "SLURM_CONF" in os.environ:
        folder = Path(os.environ["SLURM_CONF"]).parent
    if folder is not None:
        if not (folder / "run").is_dir() or not folder.name.startswith(PREFIX):
            raise ClusterError(f"{folder} is no test cluster (SLURM_CONF of one that is down? unset it)")
        return Cluster(folder)
    there = sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*/slurm.conf"))
    if len(there) != 1:
        names = ", ".join(str(conf.parent) for conf in there)
        raise ClusterError(f"several clusters are up, name one: {names}" if there else "no cluster is up")
    return Cluster(there[0].parent)


# ---- starting: the side of the caller


def _start(deadline_s: float) -> tuple[Cluster, subprocess.Popen[str]]:
    """Start a warden and wait for its word. It ends when its standard input does, unless it is told to stay."""
    reason = why_not()
    if reason is not None:
        raise ClusterError(reason)
    warden = subprocess.Popen(
        [sys.executable, str(_WARDEN), str(deadline_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        start_new_session=True,  # Ctrl-C is for the caller, who then ends it
    )
    assert warden.stdout is not None
    first = warden.stdout.readline()
    if first.startswith("up "):
        return Cluster(Path(first.removeprefix("up ").strip())), warden
    said = (first + warden.stdout.read()).strip()
    _close(warden)
    raise ClusterError(said.removeprefix("error: ") or "the cluster's first process was killed")


def _close(warden: subprocess.Popen[str]) -> None:
    assert warden.stdin is not None and warden.stdout is not None
    warden.stdin.close()
    warden.wait()
    warden.stdout.close()


# ---- processes


def program(name: str) -> str | None:
    """Where a program is, or None; daemons are not on everybody's PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")


def _descendants(pid: int) -> set[int]:
    """All processes below `pid` that still run."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        if state not in "ZX":
            children.setdefault(int(parent), []).append(int(folder.name))
    below: set[int] = set()
    todo = [pid]
    while todo:
        new = children.get(todo.pop(), [])
        below.update(new)
        todo.extend(new)
    return below


def kill_descendants(pid: int) -> None:
    """Kill all of them, and those that they start meanwhile."""
    while alive := _descendants(pid):
        for one in alive:
            _signal(one, signal.SIGKILL)
        time.sleep(0.01)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it ended by itself


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _is_slurmd(line: str) -> bool:
    return Path(line.split()[0]).name == "slurmd"


def until(holds: Callable[[], bool], deadline_s: float, late: Callable[[], str]) -> None:
    """Wait until something holds.

    Raises:
        ClusterError: what `late` says, after `deadline_s`.
    """
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            raise ClusterError(late())
        time.sleep(0.02)


# ---- the command line


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    try:
        return _run(_arguments(argv))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(given: argparse.Namespace) -> int:
    if given.command == "up":
        began = time.monotonic()
        cluster = up()
        print(f"# up in {time.monotonic() - began:.1f} s; for your shell:")
        print(f"export SLURM_CONF={cluster.conf}")
        print(f"# then sinfo, sbatch and srun work; to end it: python3 {__file__} down {cluster.folder}")
    elif given.command == "run":
        return _run_inside(given.words)
    elif given.command == "down":
        found(given.folder).down()
    elif given.command == "status":
        _print_status(found(given.folder))
    else:
        act = Cluster.kill_node if given.command == "kill-node" else Cluster.revive_node
        act(found(given.folder), given.node)
    return 0


def _run_inside(command: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with running() as cluster:
        try:
            code = subprocess.run(command, env=cluster.environment).returncode
        except OSError as error:
            raise ClusterError(f"cannot run {command[0]}: {error.strerror}") from None
    return 128 - code if code < 0 else code


def _print_status(cluster: Cluster) -> None:
    print(f"export SLURM_CONF={cluster.conf}")
    for node, state in cluster.states().items():
        print(f"{node}: {state}, {len(cluster.processes(node))} processes of jobs")
    print(cluster.ask("squeue"), end="")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], epilog=f"SLURM is installed by: {INSTALL}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="start one; prints what to eval")
    run = commands.add_parser("run", help="start one, run a program with it, end it: run -- PROGRAM ...")
    run.add_argument("words", nargs="+", metavar="PROGRAM")
    for name, said in (
        ("down", "end it and remove its folder"),
        ("status", "its nodes and jobs"),
        ("kill-node", "a power failure of one node"),
        ("revive-node", "start a killed node again"),
    ):
        one = commands.add_parser(name, help=said)
        if name.endswith("node"):
            one.add_argument("node", choices=NODES)
        one.add_argument(
            "folder", nargs="?", type=Path, help="of the cluster; else that of SLURM_CONF, or the only one"
        )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
