"""How the processes of a run are started: the settings `launcher`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sam2.training.typed import require_positive


@dataclass(frozen=True)
class LauncherConfig:
    """How the processes of one run are started.

    Attributes:
        kind: `local` starts them here, or is started by srun or torchrun; `slurm` submits a job that does, and ends.
        threads: CPU threads of each process; null: the cores divided among the processes of a machine.
        timeout_s: without a sign of life (a micro-batch, a frame of an evaluation, ...) every rank writes its stacks
            to log/ and ends, with exit code 87, before so many seconds are over.
        dry_run: slurm: print the job instead of submitting it.
        preflight: slurm: see at the start of the job that all it needs is in place on every node.
        parallel: slurm: so many members of a sweep, or shares of an evaluation, run at the same time; null: all.
        after: slurm: begin when this has ended well, a run directory or the id of a job.
        shares: slurm: into so many jobs of one process an evaluation is divided.
    """

    kind: Literal["local", "slurm"] = "local"
    threads: int | None = None
    timeout_s: float = 1800.0
    dry_run: bool = False
    preflight: bool = True
    parallel: int | None = None
    after: str | None = None
    shares: int = 1

    def __post_init__(self) -> None:
        require_positive(self, "launcher", "threads", "timeout_s", "parallel", "shares")
        if self.kind == "local" and (self.dry_run or self.after):
            given = "dry_run" if self.dry_run else "after"
            raise ValueError(f"launcher.{given} belongs to launcher=slurm, and the launcher is local")
