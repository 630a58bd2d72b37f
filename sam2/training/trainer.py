"""The Lightning trainer of a run: hardware, strategy and callbacks, from the settings alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from rich.console import Console

from sam2.training.callbacks import GradientGuard, MetricsWriter, StepSeeds, Stopwatch
from sam2.training.checkpointing import Checkpoint, FileIO
from sam2.training.config import RunConfig
from sam2.training.environment import Processes, processes, usable_cores
from sam2.training.evidence import Evidence
from sam2.training.fence import Fence
from sam2.training.fitting import Trainer
from sam2.training.job import Job
from sam2.training.logger import build_loggers
from sam2.training.metrics import MetricsFile
from sam2.training.preempt import Preemption
from sam2.training.progress import ProgressDisplay
from sam2.training.rundir import RunDirectory
from sam2.training.signals import Asked
from sam2.training.signs_of_life import SignsOfLife
from sam2.training.strategies import Averaging, Sharding
from sam2.training.typed import ConfigError
from sam2.training.watchdog import GRACE_S

_NEVER = (
    10**15
)  # a step no run reaches: Lightning's own logging is off, evaluation too where it is not wanted


@dataclass(frozen=True)
class Target:
    """The hardware a run will use: `devices` on each of `nodes` machines."""

    accelerator: Literal["cpu", "gpu"]
    devices: int
    nodes: int

    @property
    def world(self) -> int:
        """Processes of the run."""
        return self.devices * self.nodes

    def __str__(self) -> str:
        if self.accelerator == "cpu":
            return "the CPU" if self.world == 1 else f"{self.world} CPU processes"
        return f"{self.world} GPU{'s' * (self.world != 1)}"


def target(config: RunConfig, around: Processes) -> Target:
    """What `auto` comes to on this machine.

    Raises:
        ConfigError: the settings ask for hardware or processes that are not there.
    """
    wanted = config.trainer
    gpus = torch.cuda.device_count()
    if wanted.accelerator == "gpu" and not gpus:
        raise ConfigError("trainer.accelerator is gpu, but torch sees no GPU; see `sam2 doctor`")
    accelerator: Literal["cpu", "gpu"] = "gpu" if gpus and wanted.accelerator != "cpu" else "cpu"
    if around.scheduler is not None:
        here, rest = divmod(around.world, wanted.nodes)
        if rest or wanted.devices not in ("auto", here):
            raise ConfigError(
                f"{around.scheduler} started {around.world} processes, but trainer.nodes={wanted.nodes} and "
                f"trainer.devices={wanted.devices} ask for another number"
            )
        return Target(accelerator, here, wanted.nodes)
    if wanted.nodes > 1:
        raise ConfigError(
            f"trainer.nodes is {wanted.nodes}; several machines need SLURM or torchrun (see slurm/README.md)"
        )
    devices = wanted.devices if isinstance(wanted.devices, int) else gpus if accelerator == "gpu" else 1
    if accelerator == "gpu" and devices > gpus:
        raise ConfigError(f"trainer.devices is {devices}, but torch sees {gpus} GPU{'s' * (gpus != 1)}")
    if wanted.accelerator == "auto" and accelerator == "cpu" and devices > usable_cores():
        raise ConfigError(
            f"trainer.devices is {devices}, but torch sees no GPU (`sam2 doctor` says why) and there are "
            f"{usable_cores()} CPU cores; set trainer.devices=1, or trainer.accelerator=cpu to mean {devices} processes"
        )
    return Target(accelerator, devices, 1)


def prepare(config: RunConfig, place: Target) -> None:
    """Set what is global: threads, rounding, determinism, the seed that weights are initialised from."""
    threads = config.launcher.threads
    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, usable_cores() // place.devices)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(config.trainer.matmul)
    if config.trainer.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(config.seed)


@dataclass(frozen=True)
class Start:
    """One start of a run.

    Attributes:
        first: acts before all other callbacks.
        asked: whether it is to end.
        fence: whether it may write.
    """

    first: pl.Callback
    asked: Asked
    fence: Fence


def build_trainer(
    config: RunConfig, directory: RunDirectory, place: Target, job: Job, start: Start, console: Console
) -> pl.Trainer:
    """A trainer that checkpoints, measures, displays and resumes as the settings say."""
    wanted = config.trainer
    every = config.evaluate.every_steps
    settings: dict[str, Any] = {
        "accelerator": place.accelerator,
        "devices": place.devices,
        "num_nodes": place.nodes,
        "strategy": _strategy(config, place),
        "precision": precision_of(config, place),
        "max_steps": job.max_steps,
        "max_epochs": -1,
        "accumulate_grad_batches": wanted.accumulate,
        "deterministic": wanted.deterministic,
        "val_check_interval": every * wanted.accumulate if every else _NEVER,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": _NEVER,
        "use_distributed_sampler": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": directory.path,
    }
    return Trainer(
        **settings,
        plugins=[FileIO(), _environment()],
        logger=build_loggers(config, directory.path),
        callbacks=[start.first, *job.callbacks, *_callbacks(config, directory, start, job, console)],
    )


def _callbacks(
    config: RunConfig, directory: RunDirectory, start: Start, job: Job, console: Console
) -> list[pl.Callback]:
    """In the order in which they act on a finished step: measure, write the row, save, display, leave."""
    rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0)))
    evidence = Evidence(directory.bad, config.seed, job.facts.get("data", {}).get("fingerprint", ""))
    watch, guard = Stopwatch(), GradientGuard(config.trainer.max_bad_steps, config.trainer.clip, evidence)
    file = MetricsFile(directory.metrics) if rank == 0 else None
    metrics = MetricsWriter(file, config.trainer.log_every, watch, guard, start.fence.check)
    checkpoint = Checkpoint(directory.checkpoints, config.checkpoint, watch.restart, start.fence.check)
    own: list[pl.Callback] = [
        StepSeeds(config.seed),
        evidence,
        watch,
        guard,
        metrics,
        checkpoint,
        ProgressDisplay(metrics, console),
        SignsOfLife(),
        Preemption(start.asked, checkpoint, _patience_s(config)),
    ]
    users = [plugin.build() for plugin in config.callbacks.values()]
    for name, callback in zip(config.callbacks, users, strict=True):
        if not isinstance(callback, pl.Callback):
            raise ConfigError(f"callbacks.{name}: a {type(callback).__name__} is not a Lightning Callback")
    return [*users, *own]


def _patience_s(config: RunConfig) -> float:
    """How long a rank waits for others in one collective: the watchdog, which can say more, acts before."""
    return config.launcher.timeout_s + GRACE_S


def _strategy(config: RunConfig, place: Target) -> Any:
    if place.world == 1 and config.trainer.strategy == "auto":
        return "auto"
    kind = Sharding if config.trainer.strategy == "fsdp" else Averaging
    backend = "nccl" if place.accelerator == "gpu" else "gloo"
    return kind(config.trainer, backend, _patience_s(config))


def precision_of(config: RunConfig, place: Target) -> Any:
    """The arithmetic of a run in Lightning's words: `32-true` or `bf16-mixed`."""
    if config.trainer.precision != "auto":
        return "bf16-mixed" if config.trainer.precision == "bf16-mixed" else "32-true"
    has_bf16 = place.accelerator == "gpu" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_bf16 else "32-true"


def _environment() -> ClusterEnvironment:
    """Who numbered the processes; never guessed by Lightning, which takes a login node's srun for a job."""
    scheduler = processes().scheduler
    if scheduler == "slurm":
        return SLURMEnvironment(auto_requeue=False)  # Lightning's own handler can deadlock while saving
    return TorchElasticEnvironment() if scheduler == "torchrun" else LightningEnvironment()
