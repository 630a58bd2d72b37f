"""One step of one rank, and what comes out when it is played again."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.clip import ClipBatch, DataError
from data.module import ClipDataModule
from data.prompts import draw_plan
from data.raw import RawBatch
from sam2.training.callbacks import seed_micro_batch
from sam2.training.config import RunConfig
from sam2.training.errors import TrainingError
from sam2.training.evidence import Fault, Played
from sam2.training.losses import LossTerms
from sam2.training.module import TrainingModule
from sam2.training.nonfinite import Gradients, first_bad, gradients
from sam2.training.rundir import RunDirectory

Say = Callable[[str], None]


@dataclass(frozen=True)
class Moment:
    """One step of one rank; `fault` is what it kept of it, if anything, in `folder`."""

    directory: RunDirectory
    config: RunConfig
    step: int
    rank: int
    world: int
    folder: Path | None = None
    fault: Fault | None = None

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Of its micro-batches."""
        if self.fault is not None:
            return tuple(played.number for played in self.fault.micro_batches)
        each = self.config.trainer.accumulate
        return tuple(range((self.step - 1) * each, self.step * each))

    def kept(self, number: int) -> Played | None:
        """What was kept of micro-batch `number`."""
        rows = self.fault.micro_batches if self.fault is not None else ()
        return next((row for row in rows if row.number == number), None)


@dataclass
class Result:
    """What came out of playing a step: `losses` by micro-batch, `error` as text if an exception ended it."""

    losses: dict[int, float]
    gradients: Gradients | None = None
    error: str = ""

    @property
    def is_finite(self) -> bool:
        """Whether everything was a number."""
        are_finite = self.gradients is None or self.gradients.are_finite
        return are_finite and all(math.isfinite(loss) for loss in self.losses.values())


@dataclass(frozen=True)
class Player:
    """Plays the micro-batches of a moment and says what it sees."""

    moment: Moment
    data: ClipDataModule
    module: TrainingModule
    precision: str
    say: Say

    def play(self, backward: bool, anomaly: bool) -> Result:
        """All micro-batches, their gradients added up as in training."""
        result = Result({})
        watch: AbstractContextManager[Any] = torch.autograd.detect_anomaly() if anomaly else nullcontext()
        try:
            with watch:
                for number in self.moment.numbers:
                    self._play(number, backward, result)
        except (DataError, TrainingError):
            raise
        except Exception as error:  # the fault itself, or what autograd found; all of it is said
            result.error = f"{type(error).__name__}: {error}"
            self.say(f"error      {result.error}")
        if backward and result.losses:
            result.gradients = gradients(self.module.model)
            self._say_gradients(result.gradients)
        return result

    def _play(self, number: int, backward: bool, result: Result) -> None:
        moment, config = self.moment, self.moment.config
        batch = self._batch(number, moment.rank)
        count = self._count(number, batch)
        self._say_batch(batch, count)
        seed_micro_batch(config.seed, number, moment.rank)
        with first_bad(self.module.model) as bad, self._arithmetic():
            terms = self.module.losses(batch, torch.tensor(count, device=self.module.device))
            loss = terms.total(config.loss) / config.trainer.accumulate
        result.losses[number] = float(loss.detach())
        self._say_loss(number, result.losses[number], terms)
        if bad.module:
            handed = ", which was handed something not finite" if bad.came_in else ", the first to go wrong"
            self.say(f"not finite what {bad.module} gives out{handed}")
        if backward:
            loss.backward()

    def _batch(self, number: int, rank: int) -> ClipBatch:
        is_raw = self.data.config.warp_on == "device" or (
            self.data.config.warp_on == "auto" and self.module.device.type == "cuda"
        )
        delivery = self.data.micro_batches(rank, self.moment.world, is_raw)[number]
        if delivery.batch is None:
            raise DataError(delivery.failure)
        batch = delivery.batch.to(self.module.device)
        batch = batch.finish() if isinstance(batch, RawBatch) else batch
        kept = self.moment.kept(number) if rank == self.moment.rank else None
        drawn = (batch.sources, tuple(batch.object_seeds.tolist()))
        if kept is not None and drawn != (kept.clips, kept.object_seeds):
            raise DataError(
                f"micro-batch {number} holds other clips than in the run: {'; '.join(batch.sources)} instead of "
                f"{'; '.join(kept.clips)}; shards that could be read then cannot now, or the other way round"
            )
        return batch

    def _count(self, number: int, batch: ClipBatch) -> float:
        """Objects that the loss is divided by."""
        kept = self.moment.kept(number)
        if kept is not None and kept.object_count is not None:
            return kept.object_count
        own, others = (
            len(batch.video_of_object),
            [r for r in range(self.moment.world) if r != self.moment.rank],
        )
        total = own + sum(len(self._batch(number, rank).video_of_object) for rank in others)
        return max(1.0, float(torch.tensor(float(total)) / self.moment.world))

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.precision != "bf16-mixed":
            return nullcontext()
        return torch.autocast(self.module.device.type, torch.bfloat16)

    def _say_batch(self, batch: ClipBatch, count: float) -> None:
        frames = len(batch.frames)
        prompts = draw_plan(self.moment.config.prompts, self.moment.config.seed, batch.step, frames)
        self.say(f"micro-batch {batch.step}")
        for clip in batch.sources:
            self.say(f"  clip     {clip}")
        how = "masks" if prompts.from_masks else "clicks and boxes"
        self.say(
            f"  objects  {len(batch.video_of_object)} on {frames} frames, {count:g} a rank on average; "
            f"{how} on {', '.join(map(str, prompts.first))}"
        )

    def _say_loss(self, number: int, loss: float, terms: LossTerms) -> None:
        kept = self.moment.kept(number)
        before = f", {kept.loss!r} in the run" if kept is not None and kept.loss is not None else ""
        self.say(f"  loss     {loss!r}{before}")
        self.say("  terms    " + ", ".join(f"{name} {_number(value)}" for name, value in terms.items()))

    def _say_gradients(self, found: Gradients) -> None:
        self.say(f"gradient   norm {found.norm:g}, of {found.count} parameters")
        if found.bad:
            more = f" and {len(found.bad) - 8} more" if len(found.bad) > 8 else ""
            self.say(f"not finite the gradients of {', '.join(found.bad[:8])}{more}")


def _number(value: Tensor) -> str:
    return f"{float(value.detach()):g}"
