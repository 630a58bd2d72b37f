"""What a run finds around it: other processes of the same run, the code's commit, packages, hardware."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

_DIFF_LIMIT = 1_000_000  # characters of uncommitted changes that are kept


@dataclass(frozen=True)
class Processes:
    """The processes of a run that somebody else started, as this one sees them; alone if nobody did.

    `job_id` is a name that all of them know and that a requeue keeps.
    """

    rank: int = 0
    world: int = 1
    job_id: str | None = None
    scheduler: str | None = None


def processes(environment: Mapping[str, str] = os.environ) -> Processes:
    """Who started this process: torchrun, `srun`, or nobody."""
    if "TORCHELASTIC_RUN_ID" in environment:
        given = environment["TORCHELASTIC_RUN_ID"]
        job_id = None if given in ("", "none") else f"torchrun-{_safe(given)}"
        return Processes(int(environment["RANK"]), int(environment["WORLD_SIZE"]), job_id, "torchrun")
    # of the step, which is what srun started; SLURM_NTASKS is that of the allocation in a shell and a batch script
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if "SLURM_PROCID" in environment and tasks > 1:
        job = environment.get("SLURM_ARRAY_JOB_ID", environment.get("SLURM_JOB_ID", ""))
        task = environment.get("SLURM_ARRAY_TASK_ID")
        job_id = f"slurm-{_safe(job)}" + (f"_{_safe(task)}" if task else "")
        return Processes(int(environment["SLURM_PROCID"]), tasks, job_id, "slurm")
    return Processes()


def git_state(folder: Path | None = None) -> dict[str, Any]:
    """Commit and uncommitted changes of the checkout the code runs from; empty outside of one."""
    folder = folder or Path(__file__).resolve().parents[2]
    commit = _git(folder, "rev-parse", "HEAD")
    top = _git(folder, "rev-parse", "--show-toplevel")
    if commit is None or top is None or Path(top.strip()) != folder:
        return {}
    diff = _git(folder, "diff", "HEAD") or ""
    cut = len(diff) > _DIFF_LIMIT
    return {"commit": commit.strip(), "diff": diff[:_DIFF_LIMIT], **({"diff_is_cut": True} if cut else {})}


def packages() -> dict[str, str]:
    """Versions of this distribution and everything it requires, and of Python."""
    found = {"python": platform.python_version()}
    for name in ("sam2-train", *_required("sam2-train")):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware() -> dict[str, Any]:
    """Processor, memory and GPUs of this machine."""
    import torch

    gpus = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        gpus.append({"name": properties.name, "memory_gb": round(properties.total_memory / 1e9, 1)})
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cores": usable_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpus": gpus,
        "cuda": torch.version.cuda,
    }


def usable_cores() -> int:
    """Cores this process may run on, which in a container or a job is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _required(distribution: str) -> list[str]:
    try:
        requires = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    names = (re.match(r"[\w.-]+", line) for line in requires if "extra ==" not in line)
    return [match[0] for match in names if match]


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):  # no git, or a sleeping network disk: a run needs neither
        return None
    return done.stdout if done.returncode == 0 else None


def _safe(text: str) -> str:
    """`text` as part of a folder name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text) or "none"
