"""The process that a test cluster is below, and those that its nodes are below; `testcluster.py` starts it.

    testcluster_warden.py DEADLINE_S        says `up FOLDER` or `error: ...`, then stays until its standard input ends
    testcluster_warden.py FOLDER NODE       one node, started by the warden

Both adopt what daemonises below them (Linux, PR_SET_CHILD_SUBREAPER), so nothing of a cluster can get away.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import select
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from testcluster import (
    GPUS,
    NODES,
    PREFIX,
    Cluster,
    ClusterError,
    kill_descendants,
    program,
    until,
)

_CONF = Path(__file__).with_name("testcluster.conf")
_PORTS = range(20000, 32000)  # below those that the kernel gives to outgoing connections
_DIE_WITH_PARENT, _ADOPT_ORPHANS = 1, 36  # PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER


def _warden(deadline_s: float) -> int:
    """Be the process that all of a cluster is below: start it, wait for its end, leave nothing."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    _prctl(_ADOPT_ORPHANS, 1)
    os.umask(0o022)  # munged refuses files that others may write
    cluster = Cluster(Path(tempfile.mkdtemp(prefix=PREFIX)))
    try:
        lock = _lay_out(cluster)
        daemons = _daemons(cluster)
        _until_usable(cluster, daemons, deadline_s)
        print(f"up {cluster.folder}", flush=True)
        with (cluster.folder / "log" / "warden.log").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        _wait_for_the_end()
        lock.close()
    except ClusterError as error:
        print(f"error: {error}", flush=True)
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        kill_descendants(os.getpid())
        _reap()
        shutil.rmtree(cluster.folder)
    return 0


def _lay_out(cluster: Cluster) -> IO[str]:
    """Write what the daemons read; gives the warden's own pid file, locked for as long as it is open."""
    folder = cluster.folder
    folder.chmod(0o755)  # munge's socket must be within everybody's reach
    for name in ("run", "log", "state", "dev", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    lock = (folder / "run" / "warden.pid").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    print(os.getpid(), file=lock, flush=True)
    (folder / "run" / "munge.key").write_bytes(os.urandom(1024))
    (folder / "run" / "munge.key").chmod(0o600)
    for number in range(GPUS):
        try:
            os.mknod(folder / "dev" / f"gpu{number}", 0o20666, os.makedev(1, 3))  # as /dev/null
        except PermissionError as error:
            raise ClusterError(
                f"no device files can be made in {folder} ({error}); the container needs MKNOD"
            ) from None
    (folder / "gres.conf").write_text(
        f"NodeName={','.join(NODES)} Name=gpu File={folder}/dev/gpu[0-{GPUS - 1}]\n"
    )
    control_port, *ports = _free_ports(1 + len(NODES))
    template = string.Template(_CONF.read_text())
    host = socket.gethostname().partition(".")[0]
    values = {
        "folder": str(folder),
        "host": host,
        "control_port": str(control_port),
        "nodes": "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
            for node, port in zip(NODES, ports, strict=True)
        ),
    }
    cluster.conf.write_text(template.substitute(values))
    return lock


def _daemons(cluster: Cluster) -> dict[str, subprocess.Popen[bytes]]:
    """Start them all, in the foreground, to end with this process. A node gets a process of its own."""
    run, log = cluster.folder / "run", cluster.folder / "log"
    munge = {"socket": run / "munge.sock", "key-file": run / "munge.key", "pid-file": run / "munged.pid"}
    munge |= {"log-file": log / "munged.log", "seed-file": run / "munge.seed"}
    commands = {
        "munged": [
            "munged",
            "--foreground",
            "--force",
            *(f"--{name}={path}" for name, path in munge.items()),
        ],
        "slurmctld": ["slurmctld", "-D", "-c", "-f", str(cluster.conf)],
    }
    started = {name: _spawn(cluster, name, *command) for name, command in commands.items()}
    for node in NODES:
        started[node] = _spawn(cluster, node, sys.executable, __file__, str(cluster.folder), node)
        (run / f"{node}.pid").write_text(f"{started[node].pid}\n")
    return started


def _until_usable(
    cluster: Cluster, daemons: Mapping[str, subprocess.Popen[bytes]], deadline_s: float
) -> None:
    def usable() -> bool:
        if select.select([0], [], [], 0)[0] and not os.read(0, 64):
            raise ClusterError("nobody waits for the cluster any more")
        for name, daemon in daemons.items():
            if daemon.poll() is not None:
                raise ClusterError(f"{name} ended with exit code {daemon.returncode}{cluster.log(name)}")
        try:
            return set(cluster.states().values()) == {"idle"}
        except ClusterError:  # slurmctld does not answer yet
            return False

    def late() -> str:
        try:
            bad = next((node for node, state in cluster.states().items() if state != "idle"), NODES[0])
            return f"{bad} was not ready within {deadline_s:g} s{cluster.log(f'slurmd-{bad}')}"
        except ClusterError:
            return f"slurmctld did not answer within {deadline_s:g} s{cluster.log('slurmctld')}"

    until(usable, deadline_s, late)


def _wait_for_the_end() -> None:
    """Until SIGTERM, or until whoever holds the other end of our standard input is gone without a word."""
    watched = [0]
    while True:
        if select.select(watched, [], [], 1.0)[0]:
            if not os.read(0, 64):
                return
            watched = []  # told to stay
        _reap()


def _node(cluster: Cluster, name: str) -> int:
    """Be the process that all of a node is below: start slurmd, now and whenever SIGUSR1 asks for it."""
    asked = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    _prctl(_ADOPT_ORPHANS, 1)
    _die_with_parent(signal.SIGTERM)

    def start() -> subprocess.Popen[bytes]:
        return _spawn(cluster, f"slurmd-{name}", "slurmd", "-D", "-c", "-N", name, "-f", str(cluster.conf))

    slurmd = start()
    while (number := signal.sigwait(asked)) != signal.SIGTERM:
        if number == signal.SIGUSR1 and slurmd.poll() is not None:
            slurmd = start()
        _reap(but=slurmd)
    kill_descendants(os.getpid())
    return 0


def _spawn(cluster: Cluster, name: str, *command: str) -> subprocess.Popen[bytes]:
    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        _die_with_parent(signal.SIGTERM)

    with (cluster.folder / "log" / f"{name}.err").open("ab") as said:  # until it has opened its log
        return subprocess.Popen(
            [program(command[0]) or command[0], *command[1:]],
            env=cluster.environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=prepare,
        )


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _die_with_parent(number: int) -> None:
    _prctl(_DIE_WITH_PARENT, number)


def _reap(but: subprocess.Popen[bytes] | None = None) -> None:
    """Let ended children go, those we adopted too."""
    if but is not None:
        but.poll()  # keeps its exit code
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # none is left


def _free_ports(count: int) -> list[int]:
    free: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        free.append(port)
        if len(free) == count:
            return free
    raise ClusterError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}")


if __name__ == "__main__":
    _, *given = sys.argv
    sys.exit(_node(Cluster(Path(given[0])), given[1]) if given[1:] else _warden(float(given[0])))
