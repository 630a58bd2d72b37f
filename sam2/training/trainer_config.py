"""How long a run trains, on what hardware, in how many processes and with which arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sam2.training.typed import require_positive


@dataclass(frozen=True)
class TrainerConfig:
    """How long, on what, and with which arithmetic.

    Attributes:
        max_steps: optimiser steps; exactly one of it and `epochs` is set.
        epochs: passes over all data sets, repeats included.
        accumulate: micro-batches per optimiser step.
        clip: gradients longer than this (L2, all together) are shortened to it; 0: never.
        strategy: `auto` is one process on one device and `ddp` on several; `fsdp` shares weights, gradients and the
            optimiser's memory out among them, which no released model needs (docs/parallel.md has the arithmetic).
        compress: how gradients travel between processes: `bf16` halves the bytes and rounds each to 8 bits.
        bucket_view: gradients live where they travel from, which saves a copy of all of them.
        devices: per node; `auto` is every visible GPU, or one CPU process.
        nodes: machines; more than one needs SLURM or torchrun to start the processes.
        accelerator: `auto` takes a GPU where there is one.
        precision: `auto` is bf16-mixed where the hardware has it, else 32.
        matmul: how float32 products may be rounded on GPUs (torch.set_float32_matmul_precision).
        deterministic: only algorithms that repeat bit for bit; slower on GPUs.
        max_bad_steps: so many steps in a row without finite gradients stop the run; fewer are skipped.
        log_every: optimiser steps between two rows of `metrics.csv`; the log shows one in ten seconds.
    """

    max_steps: int | None = None
    epochs: float | None = None
    accumulate: int = 1
    clip: float = 0.1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    compress: Literal["none", "bf16"] = "none"
    bucket_view: bool = True
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "32", "bf16-mixed"] = "auto"
    matmul: Literal["highest", "high", "medium"] = "high"
    deterministic: bool = False
    max_bad_steps: int = 10
    log_every: int = 10

    def __post_init__(self) -> None:
        if (self.max_steps is None) == (self.epochs is None):
            both = "both" if self.max_steps is not None else "neither"
            raise ValueError(
                f"trainer.max_steps and trainer.epochs: set one of them, not {both}; the other is null"
            )
        require_positive(
            self,
            "trainer",
            "max_steps",
            "epochs",
            "accumulate",
            "devices",
            "nodes",
            "log_every",
            "max_bad_steps",
        )
        if self.clip < 0:
            raise ValueError(f"trainer.clip is {self.clip}; it must be 0 (off) or more")
