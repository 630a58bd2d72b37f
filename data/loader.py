"""Micro-batches without end, made by worker processes in the order of their numbers."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch.utils.data import DataLoader, Sampler

from data.clip import ClipBatch, DataError
from data.config import DataConfig
from data.quarantine import Quarantine
from data.raw import RawBatch
from data.read import Delivery, MicroBatches
from data.stream import StreamBatches


class StepLoader:
    """Endless micro-batches in the order of their numbers, made by worker processes.

    Not a DataLoader itself, so nobody gives it another sampler. Each iteration starts at what `start()` says then.
    Workers that are sent SIGQUIT write into `log` where they stand.
    """

    def __init__(
        self,
        batches: MicroBatches | StreamBatches,
        quarantine: Quarantine,
        config: DataConfig,
        start: Callable[[], int],
        log: Path | None = None,
    ) -> None:
        self.batches = batches
        self.quarantine = quarantine
        self._start = start
        self._passing: Callable[[], Generator[ClipBatch | RawBatch] | None] = lambda: None
        own = partial(settle, log=log)
        workers = {"prefetch_factor": config.prefetch, "worker_init_fn": own} if config.workers else {}
        with _own_words_on_workers():
            self._loader: DataLoader[Delivery] = DataLoader(
                batches,
                batch_size=None,
                sampler=_Steps(start) if isinstance(batches, MicroBatches) else None,
                num_workers=config.workers,
                collate_fn=_same,
                pin_memory=torch.cuda.is_available(),
                **workers,  # type: ignore[arg-type]
            )

    def __iter__(self) -> Iterator[ClipBatch | RawBatch]:
        """Batches from `start()` on.

        Raises:
            DataError: too many samples are bad.
        """
        passing = self._pass()
        self._passing = weakref.ref(passing)
        return passing

    def close(self) -> None:
        """End the worker processes now; without it they end when nobody can ask for batches any more."""
        if (passing := self._passing()) is not None:
            passing.close()

    def _pass(self) -> Generator[ClipBatch | RawBatch]:
        plan, first = self.batches.plan, self._start()
        if isinstance(self.batches, StreamBatches):
            self.batches.first = first
        with _own_words_on_workers():
            deliveries = iter(self._loader)
        for step, delivery in enumerate(_told_of_death(deliveries), first):
            self.quarantine.add(delivery.bad, plan.asked(step + 1))
            if delivery.batch is None:
                raise DataError(delivery.failure)
            yield delivery.batch

    def state_dict(self) -> dict[str, Any]:
        """Nothing; that it exists tells Lightning that this loader continues where training stands."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to do: the data module knows."""


class _Steps(Sampler[int]):
    """start(), start() + 1, ..."""

    def __init__(self, start: Callable[[], int]) -> None:
        self._start = start

    def __iter__(self) -> Iterator[int]:
        step = self._start()
        while True:
            yield step
            step += 1


@contextmanager
def _own_words_on_workers() -> Iterator[None]:
    """Without torch's warning of many workers, which comes twice; the data module says it once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def _told_of_death(deliveries: Iterator[Delivery]) -> Iterator[Delivery]:
    """A worker that the system killed ends the run with the cause, not with torch's traceback."""
    while True:
        try:
            delivery = next(deliveries)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            first = str(error).partition(". ")[0].rstrip(".")
            raise DataError(
                f"{first}: the system killed it, for want of memory most likely; lower data.workers, data.prefetch or "
                "data.batch_max_objects (the same command continues from the last checkpoint)"
            ) from error
        yield delivery


def _same(delivery: Any) -> Any:
    return delivery


def settle(worker: int, log: Path | None = None) -> None:
    """A worker leaves signals that are meant for the training process alone, and works on one thread."""
    threadpool_limits(1)  # numpy's; torch has set its own
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()
    if log is not None and log.is_file():
        faulthandler.register(signal.SIGQUIT, log.open("ab"), all_threads=True)


def _obey_parent(parent: int) -> None:
    """End when the training process says so: a scheduler's SIGTERM, which all processes get, is not for workers."""
    while signal.sigwaitinfo((signal.SIGTERM,)).si_pid != parent:
        pass
    os._exit(128 + signal.SIGTERM)
