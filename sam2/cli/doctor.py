"""`sam2 doctor`: what this machine offers, and what will not work on it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

_SHM_GB = 2.0  # below this, loaders with several workers run out of shared memory at 1024 px
_MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}


@dataclass(frozen=True)
class Finding:
    """One fact. A `note` costs speed or a feature, a `problem` stops training."""

    subject: str
    state: Literal["ok", "note", "problem"]
    text: str


def examine() -> int:
    """Print all findings; the exit code is 1 if one of them is a problem."""
    from rich.console import Console

    console, found = Console(soft_wrap=True, highlight=False), []
    for look in (names, versions, torch_and_timm, gpus, decord, shared_memory, wandb):
        for finding in _guarded(look):
            found.append(finding)
            console.print(f"{_MARKS[finding.state]:<20} {finding.subject}: ", end="")
            console.print(finding.text, markup=False)
    return int(any(finding.state == "problem" for finding in found))


def names() -> Iterator[Finding]:
    """Where `sam2` and `data` are; that they are ours was checked before this command could run (sam2_train.py)."""
    import data
    import sam2

    places = (f"{package.__name__} in {Path(str(package.__file__)).parent}" for package in (sam2, data))
    yield Finding("names", "ok", ", ".join(places))
    for distribution in ("sam2", "SAM-2"):
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
        text = (
            f"{distribution} {version} is installed too and has a package sam2; pip uninstall {distribution}"
        )
        yield Finding("names", "note", text)
        return


def versions() -> Iterator[Finding]:
    """Versions of what the project stands on."""
    from sam2.training.environment import packages

    found = packages()
    missing = [name for name, version in found.items() if version == "not installed"]
    yield Finding("versions", "ok", ", ".join(f"{name} {version}" for name, version in found.items()))
    if missing:
        yield Finding("versions", "problem", f"missing: {', '.join(missing)}; run: pip install -e .")


def torch_and_timm() -> Iterator[Finding]:
    """Whether torch, torchvision and timm fit together."""
    import timm
    import torch
    import torchvision

    text = f"torch {torch.__version__}, torchvision {torchvision.__version__} and timm {timm.__version__} load together"
    yield Finding("torch", "ok", text)


def gpus() -> Iterator[Finding]:
    """GPUs and what they can do."""
    import torch

    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        yield Finding("gpu", "note", f"none visible (torch is {built}); training runs on the CPU, slowly")
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) and about.major >= 8
        precision = "bf16" if has_bf16 else "no bf16: trainer.precision=auto computes in 32 bits"
        text = f"{index} {about.name}, {about.total_memory / 1e9:.0f} GB, {precision}"
        yield Finding("gpu", "ok" if has_bf16 else "note", text)


def decord() -> Iterator[Finding]:
    """Whether videos can be written and read."""
    import av
    import numpy as np
    from decord import VideoReader

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.mp4"
        with av.open(str(path), "w") as file:
            stream = file.add_stream("libx264", rate=6)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            for shade in (0, 128, 255):
                picture = np.full((32, 32, 3), shade, np.uint8)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(stream.encode())
        frames = VideoReader(str(path)).get_batch([0, 2]).asnumpy()
    is_right = abs(int(frames[1].mean()) - 255) < 8 and int(frames[0].mean()) < 8
    text = "writes and reads mp4" if is_right else f"reads wrong pixels ({frames.mean((1, 2, 3))})"
    yield Finding("decord", "ok" if is_right else "problem", text)


def shared_memory() -> Iterator[Finding]:
    """Room for batches on their way from the loader's workers."""
    if not Path("/dev/shm").is_dir():
        yield Finding("shared memory", "note", "no /dev/shm; if loaders fail, set data.workers=0")
        return
    room = os.statvfs("/dev/shm")
    free_gb = room.f_bavail * room.f_frsize / 1e9
    if free_gb >= _SHM_GB:
        yield Finding("shared memory", "ok", f"{free_gb:.1f} GB free")
    else:
        text = f"{free_gb:.2f} GB free; in a container start it with --shm-size=8g, or set data.workers=0"
        yield Finding("shared memory", "note", text)


def wandb() -> Iterator[Finding]:
    """Whether `logger=wandb` goes online."""
    from sam2.training.logger import has_wandb_key

    text = "has a key: logger=wandb uploads" if has_wandb_key() else "no key: logger=wandb writes offline"
    yield Finding("wandb", "ok", text)


def _guarded(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of one examination; that it fails is a finding."""
    try:
        yield from look()
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        yield Finding(look.__name__, "problem", lines[0])
