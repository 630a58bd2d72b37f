"""How much memory something holds now: all tensors that can be reached from it, or a whole process."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType, MethodType, ModuleType

import numpy as np
from torch import Tensor, nn

_CLOSED = (nn.Module, type, ModuleType, FunctionType, MethodType, str, bytes, int, float)


def held_bytes(*roots: object) -> int:
    """Bytes of all tensors and arrays that can be reached from `roots`, every piece of memory counted once.

    Goes through containers and attributes, not into modules (weights are no state), classes or functions. A view
    counts as all that it keeps alive. The same state gives the same number every time.
    """
    pieces: dict[tuple[str, int], int] = {}
    seen: dict[int, object] = {}  # keeps what was seen alive, so that no id is given twice
    waiting = deque(roots)
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, _CLOSED):
            continue
        seen[id(found)] = found
        if isinstance(found, Tensor):
            storage = found.untyped_storage()
            pieces[str(found.device), storage.data_ptr()] = storage.nbytes()
        elif isinstance(found, np.ndarray):
            while isinstance(found.base, np.ndarray):
                found = found.base
            pieces["cpu", found.ctypes.data] = found.nbytes
        else:
            waiting.extend(_inside(found))
    return sum(pieces.values())


def _inside(found: object) -> Iterable[object]:
    """Items of a container, attributes of anything."""
    if isinstance(found, dict):
        yield from found.keys()
        yield from found.values()
    elif isinstance(found, (list, tuple, set, frozenset, deque)):
        yield from found
    yield from getattr(found, "__dict__", {}).values()
    for kind in type(found).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(found, name):
                yield getattr(found, name)


def resident_bytes() -> int | None:
    """Memory that this process occupies now; None where the system does not say it."""
    if sys.platform != "linux":
        return None
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
