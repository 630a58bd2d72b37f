"""Processes that wait for work, so that a file of tests imports torch once a rank and not once a test.

    ranks = Ranks(2)
    first, second = ranks(function, argument)

calls `function(argument)` in both at once, in one gloo group, and gives back what each returned. A function that raises
ends the processes (its peers may be waiting for it); the next call starts new ones.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

PATIENCE_S = 600.0


class Ranks:
    """`count` processes; one alone has no group, as a run of one process has none."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []

    def __call__(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What `work(*arguments)` returns, rank by rank."""
        if not self._processes:
            self.start()
        for pipe in self._pipes:
            pipe.send_bytes(pickle.dumps((work, arguments)))
        answers: dict[int, Any] = {}
        deadline = time.monotonic() + PATIENCE_S
        try:
            while len(answers) < self._count:
                ready = multiprocessing.connection.wait(self._pipes, deadline - time.monotonic())
                if not ready:
                    raise TimeoutError(f"of {self._count} ranks only {sorted(answers)} answered")
                for pipe in ready:
                    rank = self._pipes.index(pipe)
                    is_well, answers[rank] = pickle.loads(pipe.recv_bytes())
                    if not is_well:
                        raise RuntimeError(f"rank {rank} of {self._count}:\n{answers[rank]}")
        except BaseException:
            self.stop()
            raise
        return [answers[rank] for rank in range(self._count)]

    def start(self) -> Ranks:
        """Begin to import, without waiting for it."""
        context = multiprocessing.get_context("spawn")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for rank in range(self._count):
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, self._count, port, theirs), daemon=True)
            process.start()
            theirs.close()  # so that a rank that dies ends the pipe
            self._processes.append(process)
            self._pipes.append(mine)
        return self

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.join()
        self._processes, self._pipes = [], []


def _serve(rank: int, count: int, port: int, pipe: Connection) -> None:
    place = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    os.environ |= place
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    if count > 1:
        dist.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE_S))
    while True:
        try:
            work, arguments = pickle.loads(pipe.recv_bytes())
        except EOFError:
            return
        os.environ |= place  # Lightning takes some of it away when a run ends
        try:
            answer = True, work(*arguments)
        except BaseException:
            answer = False, traceback.format_exc()
        pipe.send_bytes(pickle.dumps(answer))
