"""What a run trains, as far as everything around it needs to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl


def _nothing(trainer: pl.Trainer) -> None:
    """After training there is nothing to do."""


@dataclass(frozen=True)
class Job:
    """What one rank trains.

    Attributes:
        module: with its loss and optimiser.
        data: starts where a checkpoint says.
        max_steps: optimiser steps.
        callbacks: act before all others.
        after: called on every rank when training has come to its end; again, if the run is killed in it.
        facts: for `run.json`.
    """

    module: pl.LightningModule
    data: pl.LightningDataModule
    max_steps: int
    callbacks: Sequence[pl.Callback] = ()
    after: Callable[[pl.Trainer], None] = _nothing
    facts: Mapping[str, Any] = field(default_factory=dict)
