"""What is kept of a step that went wrong, so that `sam2 replay` can play it again on one process.

    bad/step-000123/rank-0.json   what that rank computed with: clips, seeds, object count, loss, as far as it came
    bad/step-000123/weights.pt    the weights it computed with

Step 123 is the one that would have been the 123rd. A step without finite gradients is kept by all ranks, the first few
times in a run; an exception within a step is kept by the rank that meets it.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import Tensor

from data.alive import alive
from sam2.evaluation.files import replacing, write_atomically
from sam2.training.errors import Interrupted, Superseded, TrainingError, of_another_rank
from sam2.training.strategies import Sharding

log = logging.getLogger(__name__)

FORMAT = "sam2-train/fault/1"
WEIGHTS = "weights.pt"
KEPT = 3  # steps without finite gradients of one run


@dataclass(frozen=True)
class Played:
    """One micro-batch as a rank played it; None: it did not come so far.

    Attributes:
        number: of the micro-batch in the run.
        clips: where they come from.
        object_seeds: one an object; all that is drawn for it derives from it.
        object_count: mean number of objects over the ranks, which losses are divided by.
        loss: as it went into the backward pass, divided by the micro-batches of a step.
        terms: of the loss, unweighted.
    """

    number: int
    clips: tuple[str, ...]
    object_seeds: tuple[int, ...]
    object_count: float | None = None
    loss: float | None = None
    terms: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Fault:
    """A step that went wrong, as one rank met it. `data` is the fingerprint of the plan, `weights` a file beside."""

    step: int
    rank: int
    world: int
    seed: int
    error: str
    is_exception: bool
    micro_batches: tuple[Played, ...]
    data: str
    precision: str
    device: str
    threads: int
    weights: str | None

    @property
    def is_finite(self) -> bool:
        """Whether every loss that this rank computed was a number."""
        return all(math.isfinite(played.loss) for played in self.micro_batches if played.loss is not None)

    def write(self, folder: Path) -> None:
        """Into a file of this rank's own."""
        content = json.dumps({"format": FORMAT, **_spelled(asdict(self))}, indent=1, allow_nan=False)
        write_atomically(folder / f"rank-{self.rank}.json", content + "\n")

    @classmethod
    def read(cls, path: Path) -> Fault:
        """What `write` wrote.

        Raises:
            TrainingError: it is something else.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format") != FORMAT:
                raise ValueError(f"not of the format {FORMAT}")
            rows = values.pop("micro_batches")
            return cls(**values, micro_batches=tuple(_played(row) for row in rows))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(
                f"{path}: not what a run keeps of a step that went wrong ({error})"
            ) from error


def faults(folder: Path) -> list[Fault]:
    """What the ranks kept of a step, in their order."""
    return sorted((Fault.read(path) for path in folder.glob("rank-*.json")), key=lambda fault: fault.rank)


def steps_kept(folder: Path) -> dict[int, Path]:
    """The folders in `bad/` by their steps."""
    found = sorted(path for path in folder.glob("step-*") if any(path.glob("rank-*.json")))
    return {int(path.name.removeprefix("step-")): path for path in found}


def step_folder(folder: Path, step: int) -> Path:
    """Where a step is kept."""
    return folder / f"step-{step:06d}"


class Evidence(pl.Callback):
    """Remembers what the current step computes with, and writes it down when the step goes wrong.

    Args:
        folder: `bad/` of the run directory.
        seed: of the run.
        data: fingerprint of its plan.
    """

    def __init__(self, folder: Path, seed: int, data: str) -> None:
        self._folder, self._seed, self._data = folder, seed, data
        self._played: list[tuple[Played, Tensor | None, Any]] = []
        self._is_open = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A micro-batch begins, maybe with it a step."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._played.clear()
        seeds = getattr(batch, "object_seeds", torch.empty(0, dtype=torch.int64))
        played = Played(batch_idx, tuple(getattr(batch, "sources", ())), tuple(seeds.tolist()))
        self._played.append((played, None, None))
        self._is_open = True

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Its loss is there; read when somebody wants it, not to wait for the device."""
        played, _, _ = self._played[-1]
        self._played[-1] = (played, loss.detach(), getattr(pl_module, "priced", None))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """All went well."""
        self._is_open = False

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Keep the step it was met in, unless all it says is that another rank is gone."""
        is_fault = isinstance(exception, Exception) and not _is_news_of_another(exception)
        if not is_fault or not self._is_open:
            return
        error = f"{type(exception).__name__}: {exception}"
        is_whole = not isinstance(trainer.strategy, Sharding)  # of a part alone nothing can be played
        weights = pl_module.state_dict() if is_whole else None
        folder = self._save(trainer, pl_module, error, weights, is_exception=True)
        log.error("%s; `sam2 replay %s` plays the step again", error.partition("\n")[0], folder)

    def keep(self, trainer: pl.Trainer, pl_module: pl.LightningModule, error: str) -> Path:
        """Keep a step that all ranks found wrong, before weights change; every rank takes part.

        Returns:
            The folder.
        """
        weights = trainer.strategy.lightning_module_state_dict()
        return self._save(trainer, pl_module, error, weights if trainer.is_global_zero else None)

    def _save(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        error: str,
        weights: Mapping[str, Tensor] | None,
        is_exception: bool = False,
    ) -> Path:
        self._is_open = False
        folder = step_folder(self._folder, trainer.global_step + 1)
        alive(f"keeping step {trainer.global_step + 1}, which went wrong")
        try:
            is_saved = not is_exception  # rank 0 writes them for all
            if weights is not None:
                is_saved = _write_weights(folder / WEIGHTS, weights, trainer.global_step)
            Fault(
                step=trainer.global_step + 1,
                rank=trainer.global_rank,
                world=trainer.world_size,
                seed=self._seed,
                error=error,
                is_exception=is_exception,
                micro_batches=tuple(_read_out(*played, module) for played in self._played),
                data=self._data,
                precision=str(trainer.precision),
                device=trainer.strategy.root_device.type,
                threads=torch.get_num_threads(),
                weights=WEIGHTS if is_saved else None,
            ).write(folder)
        except OSError as problem:  # a full disk; training itself may well go on
            log.warning("%s: the step that went wrong could not be kept (%s)", folder, problem)
        return folder


def _is_news_of_another(exception: Exception) -> bool:
    if isinstance(exception, (Interrupted, Superseded, TrainingError, dist.DistError)):
        return True
    return bool(of_another_rank(exception))


def _write_weights(path: Path, weights: Mapping[str, Tensor], step: int) -> bool:
    """Write `path`, readable as a checkpoint's weights are; False where a broken device gives nothing away."""
    try:
        content = {name: value.cpu() for name, value in weights.items()}
    except RuntimeError as error:
        log.warning("the weights cannot be kept, the device is unusable: %s", str(error).partition("\n")[0])
        return False
    with replacing(path) as draft, draft.open("wb") as file:
        torch.save({"state_dict": content, "global_step": step}, file)
        file.flush()
        os.fsync(file.fileno())
    return True


def _read_out(played: Played, loss: Tensor | None, priced: Any, module: pl.LightningModule) -> Played:
    """`played` with the numbers that are still on the device."""
    count = priced.count if priced is not None else getattr(module, "object_count", None)
    try:
        return Played(
            played.number,
            played.clips,
            played.object_seeds,
            None if count is None else float(count),
            None if loss is None else float(loss),
            None if priced is None else {name: float(value) for name, value in priced.terms.items()},
        )
    except RuntimeError:  # an unusable device; what was drawn is known all the same
        return played


def _spelled(value: Any) -> Any:
    """`value` as JSON has it, which knows no NaN and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _spelled(item) for key, item in value.items()}
    return [_spelled(item) for item in value] if isinstance(value, (list, tuple)) else value


def _played(row: Mapping[str, Any]) -> Played:
    count, loss, terms = row["object_count"], row["loss"], row["terms"]
    return Played(
        row["number"],
        tuple(row["clips"]),
        tuple(row["object_seeds"]),
        None if count is None else float(count),
        None if loss is None else float(loss),
        None if terms is None else {name: float(value) for name, value in terms.items()},
    )
