"""What is said of a job that was submitted."""

from __future__ import annotations

from collections.abc import Sequence

from data.plural import plural
from sam2.slurm.folder import JobFolder
from sam2.slurm.render import quoted
from sam2.training.batch_jobs import Placed
from sam2.training.config import RunConfig


def tell_training(run: Placed, number: str) -> None:
    """A run was submitted as job `number`."""
    config = run.config
    print(f"job {number}: {config.name} on {_hardware(config)}, at most {config.cluster.time} a start")
    tell_places(run.folder, number, is_array=False)
    print(f"a step          {effective_batch(config)}")
    print(f"checkpoint      {run.directory.checkpoints / 'last.ckpt'}, {_how_often(config)}")


def tell_sweep(runs: Sequence[Placed], folder: JobFolder, number: str) -> None:
    """Runs were submitted as the array `number`."""
    config = runs[0].config
    limit = f", {config.launcher.parallel} at a time" if config.launcher.parallel else ""
    print(f"job {number}: {plural(len(runs), 'run')} of {config.name}{limit}, each on {_hardware(config)}")
    for k, run in enumerate(runs):
        print(f"  {number}_{k:<5} {run.directory.path}")
    tell_places(folder, number, is_array=True)
    print(f"a step          {effective_batch(config)}")
    print(f"checkpoint      checkpoints/last.ckpt of each run directory, {_how_often(config)}")


def tell_places(folder: JobFolder, number: str, is_array: bool) -> None:
    """Where things are, and how to go on."""
    logs = folder.path / "log"
    log = f"{quoted(logs)}/slurm-{number}_*.txt" if is_array else quoted(logs / f"slurm-{number}.txt")
    print(f"directory       {folder.path}")
    print(f"log             tail -F {log}")
    print(f"watch           sam2 slurm status {number}")
    print(f"stop            sam2 slurm cancel {number}")


def effective_batch(config: RunConfig) -> str:
    """How many clips an optimiser step sees, and how that comes about."""
    trainer, data = config.trainer, config.data
    assert isinstance(trainer.devices, int)
    world = trainer.devices * trainer.nodes
    clips = data.batch * trainer.accumulate * world
    made_of = f"{data.batch} x {trainer.accumulate} accumulated x {plural(world, 'process', 'processes')}"
    return f"{plural(clips, 'clip')} of {plural(data.frames, 'frame')}: {made_of}"


def _hardware(config: RunConfig) -> str:
    trainer = config.trainer
    assert isinstance(trainer.devices, int)
    of_cpus = plural(trainer.devices, "CPU process", "CPU processes")
    devices = plural(trainer.devices, "GPU") if trainer.accelerator == "gpu" else of_cpus
    return f"{plural(trainer.nodes, 'node')} x {devices}"


def _how_often(config: RunConfig) -> str:
    saving = config.checkpoint
    every = [f"every {saving.every_steps} steps"] if saving.every_steps else []
    every += [f"every {saving.every_minutes:g} minutes"] if saving.every_minutes else []
    return " and ".join(every) or "at the end"
