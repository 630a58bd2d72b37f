"""A callback for runs in subprocesses: writes down which clips each step saw, and kills its process where told.

WITNESS_KILL="rank:micro-batch" kills -9 that rank before that micro-batch.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl


class Witness(pl.Callback):
    """Appends [micro-batch, clips, objects' seeds] to `clips-RANK.jsonl` in the run directory."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if os.environ.get("WITNESS_KILL") == f"{trainer.global_rank}:{batch_idx}":
            os.kill(os.getpid(), signal.SIGKILL)
        path = Path(trainer.default_root_dir) / "log" / f"clips-{trainer.global_rank}.jsonl"
        with path.open("a") as file:
            file.write(json.dumps([batch_idx, batch.sources, batch.object_seeds.tolist()]) + "\n")

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """This rank's own weights, in one number."""
        digest = hashlib.sha256()
        for tensor in pl_module.state_dict().values():
            digest.update(tensor.numpy().tobytes())
        path = Path(trainer.default_root_dir) / "log" / f"weights-{trainer.global_rank}.txt"
        path.write_text(digest.hexdigest())


def seen(run: Path, rank: int) -> dict[int, list[Any]]:
    """What each micro-batch of a rank saw; one that was done twice must have seen the same twice."""
    found: dict[int, list[Any]] = {}
    for line in (run / "log" / f"clips-{rank}.jsonl").read_text().splitlines():
        number, *what = json.loads(line)
        if found.setdefault(number, what) != what:
            raise AssertionError(f"micro-batch {number} changed when it was done again")
    return found
