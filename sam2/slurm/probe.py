"""One number, added up over all tasks by the network that training will use. This is where torch is loaded."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sam2.slurm import last_word
from sam2.slurm.checks import Task, Wanted

_LIMIT_S = 25.0


class ProbeError(RuntimeError):
    """GPUs or network do not work; the message says what to do."""


def add_up(task: Task, wanted: Wanted) -> str:
    """See that this task's GPU works and that all tasks can talk to each other; says what was used.

    Raises:
        ProbeError: they do not.
    """
    if task.world == 1 and wanted.needs_gpus is False:
        return "CPU"
    import torch

    with _limited(task):
        takes_gpu = torch.cuda.is_available() if wanted.needs_gpus is None else wanted.needs_gpus
        device = _device(torch, task) if takes_gpu else torch.device("cpu")
        backend = "nccl" if device.type == "cuda" else "gloo"
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        if task.world > 1:
            _all_reduce(torch, task, device, backend)
    return f"{name}, {backend}" if task.world > 1 else name


def _device(torch: Any, task: Task) -> Any:
    try:
        torch.cuda.init()
        count = torch.cuda.device_count()
        if task.local >= count:
            raise ProbeError(
                f"torch sees {count} GPUs, and this is task {task.local} of its node; ask for GPUs by node "
                "(cluster.gpu_request): --gpus-per-task hides the others' GPUs"
            )
        device = torch.device("cuda", task.local)
        torch.cuda.set_device(device)
        torch.ones(1, device=device).add_(1)
    except (RuntimeError, AssertionError) as error:
        if isinstance(error, ProbeError):
            raise
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise ProbeError(
            f"torch cannot use a GPU ({str(error).splitlines()[0]}); torch is built {built}: install a build that fits "
            "the driver of these nodes (`nvidia-smi` names it), or choose trainer.accelerator=cpu"
        ) from error
    return device


def _all_reduce(torch: Any, task: Task, device: Any, backend: str) -> None:
    group = torch.distributed
    try:
        group.init_process_group(
            backend,
            init_method=f"tcp://{task.address}:{task.port}",
            rank=task.rank,
            world_size=task.world,
            timeout=timedelta(seconds=_LIMIT_S - 5),
        )
        total = torch.ones(1, device=device)
        group.all_reduce(total)
        value = int(total.item())
        group.destroy_process_group()
    except RuntimeError as error:
        raise ProbeError(
            f"the tasks cannot add up a number by {backend}: {_first(error)}; {_advice(backend)}"
        ) from error
    if value != task.world:
        raise ProbeError(f"{task.world} tasks added up 1 to {value} by {backend}; {_advice(backend)}")


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _advice(backend: str) -> str:
    more = ", NCCL_DEBUG=INFO in cluster.env tells more" if backend == "nccl" else ""
    return f"name the network interface that all nodes share (cluster.interface=ib0){more}"


@contextmanager
def _limited(task: Task) -> Iterator[None]:
    """End the process when what it waits for takes too long: it may hang where no exception reaches."""

    def give_up() -> None:
        what = f"nothing was added up within {_LIMIT_S:g} s; {_advice('nccl')}"
        os.write(2, f"preflight: {task.host}, task {task.rank}: {what}\n".encode())
        last_word.leave(1)
        os._exit(1)

    timer = threading.Timer(_LIMIT_S, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
