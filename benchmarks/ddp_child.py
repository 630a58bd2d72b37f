"""One process of benchmarks/ddp.py: python ddp_child.py SETTINGS_JSON, with RANK and the rest as torchrun sets them.

A step is what a run does: forward with loss, backward, AdamW, on this process's own clip and objects. Rank 0 prints one
JSON object a line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

sys.path.append(str(Path(__file__).parents[1]))

from data.clip import ClipBatch
from data.prompts import PromptPlan, PromptPolicy
from sam2.model.memory_bank import TRAINING, fitted
from sam2.model.sam2 import SAM2
from sam2.training.config import ModelConfig
from sam2.training.losses import LossConfig, object_count
from sam2.training.module import build_model
from sam2.training.optim import OptimConfig, build_optimizer
from sam2.training.unroll import simulated_user, training_loss


@dataclass(frozen=True)
class Settings:
    """What is measured; `objects` are those of each process's clip."""

    model: str
    size: int
    frames: int
    clicks: int
    objects: int
    rounds: int
    steps: int
    option: str  # that is measured against the usual way; empty: weak scaling is measured


@dataclass(frozen=True)
class Option:
    """A way to average gradients; the defaults are the ones that a run has."""

    search: bool = True
    bucket_view: bool = True
    compress: bool = False
    recompute: Any = "none"
    bucket_mb: int | None = None


OPTIONS = {
    "as a run does it": Option(),
    "unused parameters known beforehand": Option(search=False),
    "bucket_view=false": Option(bucket_view=False),
    "compress=bf16": Option(compress=True),
    "recompute=light": Option(recompute="light"),
    "recompute=full": Option(recompute="full"),
    "buckets of 5 MB": Option(bucket_mb=5),
    "buckets of 100 MB": Option(bucket_mb=100),
}


class Known(torch.autograd.Function):
    """The loss, for which parameters that it does not use count as used with no gradient."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, *unused: Tensor) -> Tensor:
        """The loss as it is."""
        ctx.count = len(unused)
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Its gradient, and none for the others."""
        return (*gradients, *[None] * ctx.count)


class Forward(nn.Module):
    """A clip's loss, as sam2.training.module has it."""

    def __init__(self, model: SAM2, settings: Settings) -> None:
        super().__init__()
        self.model, self.clip = model, clip(settings)
        self.plan = PromptPlan(settings.frames, False, (0,), frozenset(), frozenset({0}), settings.clicks)
        self.policy = fitted(TRAINING, model.variant.heads)
        self.unused: list[nn.Parameter] = []

    def forward(self, is_together: bool) -> Tensor:
        """The loss, over the objects of all processes or of this one alone."""
        objects = len(self.clip.video_of_object)
        count = object_count(objects, "cpu") if is_together else torch.tensor(float(objects))
        user, config = simulated_user(self.clip, self.plan, PromptPolicy()), LossConfig()
        terms = training_loss(self.model, self.clip, self.plan, user, self.policy, config, count)
        loss = terms.total(config)
        return Known.apply(loss, *self.unused) if self.unused else loss


def clip(settings: Settings) -> ClipBatch:
    """Noise with squares on it."""
    size, count = settings.size, settings.objects
    random = torch.Generator().manual_seed(int(os.environ["RANK"]))
    pixels = torch.randint(0, 256, (settings.frames, 1, 3, size, size), dtype=torch.uint8, generator=random)
    masks = torch.zeros(settings.frames, count, size, size, dtype=torch.bool)
    for o in range(count):
        masks[:, o, size // 4 : size // 2, (o + 1) * size // 8 : (o + 3) * size // 8] = True
    return ClipBatch(pixels, masks, torch.zeros(count, dtype=torch.long), torch.arange(count), 0, ("noise",))


class Side:
    """A model of its own, and how its steps are done."""

    def __init__(self, settings: Settings, option: Option | None) -> None:
        torch.manual_seed(0)
        recompute: Any = "none" if option is None else option.recompute
        config = ModelConfig(settings.model, settings.size, recompute=recompute, drop_path=0.1)
        self.inner = Forward(build_model(config), settings)
        self.optimizer: Optimizer = build_optimizer(self.inner.model, OptimConfig(), 1000)[0]
        self.outer: Any = self.inner
        if option is not None:
            self._wrap(option)

    def _wrap(self, option: Option) -> None:
        if not option.search:
            self.inner(False).backward()
            parameters = [p for p in self.inner.parameters() if p.requires_grad]
            self.inner.unused = [p for p in parameters if p.grad is None]
            self.optimizer.zero_grad()
        self.outer = DistributedDataParallel(
            self.inner,
            find_unused_parameters=option.search,
            gradient_as_bucket_view=option.bucket_view,
            bucket_cap_mb=option.bucket_mb,
        )
        if option.compress:
            self.outer.register_comm_hook(None, default_hooks.bf16_compress_hook)

    def step(self) -> None:
        """One optimiser step."""
        self.optimizer.zero_grad()
        self.outer(self.outer is not self.inner).backward()
        for parameter in self.inner.unused:
            parameter.grad = None
        self.optimizer.step()

    def timed(self, steps: int) -> dict[str, list[float]]:
        """Seconds, and processor seconds, of every process for `steps` steps, which all begin at once."""
        dist.barrier()
        began, worked = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.step()
        found = time.perf_counter() - began, time.process_time() - worked
        return {"seconds": gathered(found[0]), "cpu": gathered(found[1])}

    def kept_mb(self) -> float:
        """What the forward pass keeps for the backward pass, weights left out."""
        weights = {p.untyped_storage().data_ptr() for p in self.inner.parameters()}
        kept: dict[int, int] = {}
        alive = []

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self.inner(False)
        return sum(kept.values()) / 1e6

    def search_ms(self) -> float:
        """Of the search for parameters that a step does not use."""
        loss, found = self.inner(False), []
        for _ in range(5):
            began = time.perf_counter()
            self.outer.reducer.prepare_for_backward([loss])
            found.append(1e3 * (time.perf_counter() - began))
        return min(found)


def gathered(value: float) -> list[float]:
    """That of every process."""
    parts = torch.zeros(dist.get_world_size())
    parts[dist.get_rank()] = value
    dist.all_reduce(parts)
    return parts.tolist()


def say(**values: Any) -> None:
    """A line of JSON, from rank 0."""
    if dist.get_rank() == 0:
        print(json.dumps(values), flush=True)


def scaling(settings: Settings) -> None:
    """Rounds of: both together, both apart at the same time, one alone."""
    together, apart = Side(settings, Option()), Side(settings, None)
    for side in (together, apart):
        side.timed(1)
    for number in range(settings.rounds):
        order: list[Callable[[], None]] = [
            lambda: say(kind="together", **together.timed(settings.steps)),
            lambda: say(kind="apart", **apart.timed(settings.steps)),
        ]
        for measure in order[:: 1 - 2 * (number % 2)]:
            measure()
        is_first = dist.get_rank() == 0
        say(kind="alone", **apart.timed(settings.steps if is_first else 0))


def work(settings: Settings) -> None:
    """The step of one process for each number of objects, while the other does the same."""
    for objects in range(1, settings.objects + 2):
        side = Side(replace(settings, objects=objects), None)
        side.timed(1)
        found = side.timed(settings.steps)["seconds"]
        say(kind="objects", objects=objects, seconds=[seconds / settings.steps for seconds in found])


def compare(settings: Settings) -> None:
    """Rounds of the option and of the way that a run has it."""
    usual, other = Side(settings, Option()), Side(settings, OPTIONS[settings.option])
    say(kind="kept", usual=usual.kept_mb(), other=other.kept_mb(), search=usual.search_ms())
    for side in (usual, other):
        side.timed(1)
    for number in range(settings.rounds):
        times = {}
        for side in (usual, other)[:: 1 - 2 * (number % 2)]:
            times[side is usual] = max(side.timed(settings.steps)["seconds"])
        say(kind="option", usual=times[True], other=times[False])


def main() -> None:
    """Measure what the settings ask for."""
    settings = Settings(**json.loads(sys.argv[1]))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores:
        os.sched_setaffinity(0, {cores[int(os.environ["RANK"]) % len(cores)]})
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    if settings.option:
        compare(settings)
    else:
        scaling(settings)
        work(settings)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
