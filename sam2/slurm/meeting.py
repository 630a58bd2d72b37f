"""All tasks of a job tell the first one what they found and hear the same verdict: plain sockets, no torch.

Rank 0 listens where training will, so that a port which is taken or cannot be reached is found here.
"""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from sam2.slurm.checks import Task

_RESOLVE_S = 10.0
_RETRY_S = 0.1
_VERDICT_S = 5.0  # beyond the patience, in which rank 0 hears the last and judges


class MeetingError(RuntimeError):
    """A task cannot take part; the message says why and what to do."""


def meet(
    task: Task,
    found: Mapping[str, Any],
    judge: Callable[[Mapping[int, Mapping[str, Any]]], list[str]],
    patience_s: float,
) -> list[str]:
    """What rank 0 makes of everybody's findings, in every task.

    Args:
        task: this one.
        found: its findings, of what JSON knows.
        judge: all findings by rank to problems.
        patience_s: how long to wait for the others.

    Raises:
        MeetingError: the place cannot be found, taken or reached.
    """
    deadline = time.monotonic() + patience_s
    address = resolve(task.address)
    if task.rank > 0:
        return _report(task, address, found, deadline)
    with _listening(task) as server:
        reports, callers = _gather(server, task, deadline)
        problems = judge({0: found, **dict(sorted(reports.items()))})
        missing = sorted(set(range(1, task.world)) - set(reports))
        if missing:
            problems.append(
                f"{task.host} waited {patience_s:g} s and heard nothing from task {', '.join(map(str, missing))}; they "
                "could not start, or cannot reach this node (their own words stand above, if they have any)"
            )
        _answer(callers, problems)
    return problems


def resolve(name: str) -> str:
    """The address of the head node.

    Raises:
        MeetingError: its name means nothing here.
    """
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
        except OSError as error:
            answer.append(error)

    asking = threading.Thread(target=ask, daemon=True)  # a resolver may wait for minutes
    asking.start()
    asking.join(_RESOLVE_S)
    if answer and isinstance(answer[0], str):
        return answer[0]
    why = str(answer[0]) if answer else f"no answer in {_RESOLVE_S:g} s"
    raise MeetingError(
        f"the name of the head node, {name}, does not resolve here ({why}); the nodes' names must be in DNS or "
        "/etc/hosts, or give an address that all nodes know: cluster.env.MASTER_ADDR=ADDRESS"
    )


def _listening(task: Task) -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("", task.port))
        server.listen(task.world)
    except OSError as error:
        server.close()
        who = "another process has it" if error.errno == errno.EADDRINUSE else str(error)
        raise MeetingError(
            f"port {task.port} cannot be listened on: {who}; the batch script chooses a free one for every start, so "
            "take MASTER_PORT out of cluster.env and cluster.setup, or submit the job again"
        ) from error
    return server


def _gather(
    server: socket.socket, task: Task, deadline: float
) -> tuple[dict[int, Mapping[str, Any]], list[socket.socket]]:
    reports: dict[int, Mapping[str, Any]] = {}
    callers: list[socket.socket] = []
    while len(reports) < task.world - 1 and (left := deadline - time.monotonic()) > 0:
        server.settimeout(left)
        try:
            caller, _ = server.accept()
        except TimeoutError:
            break
        caller.settimeout(max(0.1, min(5.0, left)))
        try:
            report = json.loads(_line(caller))
            reports[int(report["rank"])] = report["found"]
        except (OSError, ValueError, KeyError, TypeError):  # a stranger, such as a port scanner
            caller.close()
            continue
        callers.append(caller)
    return reports, callers


def _answer(callers: list[socket.socket], problems: list[str]) -> None:
    for caller in callers:
        with caller:
            try:
                caller.sendall(json.dumps(problems).encode() + b"\n")
            except OSError:  # it has ended already, and srun tells how
                continue


def _report(task: Task, address: str, found: Mapping[str, Any], deadline: float) -> list[str]:
    with _connected(task, address, deadline) as server:
        server.settimeout(max(0.1, deadline - time.monotonic()) + _VERDICT_S)
        try:
            server.sendall(json.dumps({"rank": task.rank, "found": found}).encode() + b"\n")
            problems: list[str] = json.loads(_line(server))
        except (OSError, ValueError) as error:
            raise MeetingError(
                f"{task.address}:{task.port} was reached but gave no answer ({error})"
            ) from error
    return problems


def _connected(task: Task, address: str, deadline: float) -> socket.socket:
    why: OSError | str = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            return socket.create_connection((address, task.port), left)
        except OSError as error:
            why = error
        time.sleep(_RETRY_S)  # rank 0 may start later
    raise MeetingError(
        f"cannot reach the head node at {task.address}:{task.port} ({address}): {why}; a firewall between nodes, or "
        "the name stands for another network: set cluster.interface, or cluster.env.MASTER_ADDR"
    )


def _line(connection: socket.socket) -> str:
    text = b""
    while not text.endswith(b"\n"):
        part = connection.recv(65536)
        if not part:
            raise ConnectionError("the other side hung up")
        text += part
    return text.decode()
