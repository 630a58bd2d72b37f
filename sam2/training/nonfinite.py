"""Where numbers stop being finite: in which module first, in which gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class FirstBad:
    """The first module, inner ones before those around them, that gave out something not finite; "": none so far.

    `came_in` says whether something not finite had been handed to it.
    """

    module: str = ""
    came_in: bool = False

    def look(self, name: str, module: nn.Module, given: Any, output: Any) -> None:
        """A forward hook."""
        if not self.module and not all_finite(output):
            self.module, self.came_in = f"{name} ({type(module).__name__})", not all_finite(given)


@contextmanager
def first_bad(model: nn.Module) -> Iterator[FirstBad]:
    """Look at what every module of `model` gives out while the block runs."""
    found = FirstBad()
    handles = [
        module.register_forward_hook(partial(found.look, name))
        for name, module in model.named_modules()
        if name
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def all_finite(value: Any) -> bool:
    """Whether all tensors in `value` (also in tuples, lists, dicts and dataclasses) hold numbers alone."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(value))


@dataclass(frozen=True)
class Gradients:
    """Those of a model: their L2 norm together, how many tensors there are, and which are not finite."""

    norm: float
    count: int
    bad: tuple[str, ...]

    @property
    def are_finite(self) -> bool:
        """Whether all are numbers, their norm too."""
        return not self.bad and math.isfinite(self.norm)


def gradients(model: nn.Module) -> Gradients:
    """What the parameters of `model` hold now."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norm = torch.nn.utils.get_total_norm(list(found.values())) if found else torch.zeros(())
    return Gradients(
        float(norm), len(found), tuple(name for name, grad in found.items() if not all_finite(grad))
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))
