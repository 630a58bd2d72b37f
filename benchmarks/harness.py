"""What the benchmarks share: the reference in a folder of its own, fresh processes, rows of RESULTS.md, bytes of state.

The reference is the package `sam2` of the package index. It has our package's name, so that it lives outside of this
repository and its environment, and one process never imports both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, ClassVar

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
# beyond our own dependencies, and by name so that nothing of ours is installed twice
REFERENCE_PACKAGES = (
    "sam2==1.1.0",
    "tensordict",
    "iopath",
    "portalocker",
    "pyvers",
    "orjson",
    "cloudpickle",
    "pandas",
    "python-dateutil",
    "six",
)


def add_reference_arguments(parser: argparse.ArgumentParser) -> None:
    """`--reference DIR` and `--install-reference`; `reference_folder` reads them."""
    parser.add_argument(
        "--reference", type=Path, required=True, metavar="DIR", help="where the released code is"
    )
    parser.add_argument("--install-reference", action="store_true", help="install it there first")


def reference_folder(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Path:
    """The folder that holds the released code, after installing it if that was asked for."""
    folder: Path = given.reference.resolve()
    if folder.is_relative_to(HERE.parent):
        parser.error(f"{folder} is inside this repository; the released code must stay outside")
    if given.install_reference:
        install_reference(folder)
    for part in ("training/loss_fns.py", "sam2/build_sam.py"):
        if not (folder / part).is_file():
            parser.error(
                f"{folder} has no {part}: it does not hold the released code; add --install-reference"
            )
    return folder


def install_reference(folder: Path) -> None:
    """Install the released code into `folder` without touching this environment."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(folder)]
    subprocess.run([*pip, "setuptools", "wheel"], check=True)
    # built with the torch that is here, else pip downloads another one to build a package that compiles nothing
    around = {**os.environ, "SAM2_BUILD_CUDA": "0", "PYTHONPATH": str(folder)}
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", *REFERENCE_PACKAGES], check=True, env=around)


def fresh_process(script: str, side: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Run a child script of this folder in a process of its own; its last line is a JSON object.

    The caller stays small: on Linux a child inherits its peak memory.
    """
    threads = str(settings["threads"])
    around = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    around.pop("PYTHONPATH", None)
    command = [sys.executable, str(HERE / script), side, json.dumps(settings)]
    done = subprocess.run(command, env=around, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} {side} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


@dataclass(frozen=True)
class Table:
    """A table of RESULTS.md, found by its title; every row begins with `STAMP`."""

    title: str
    columns: tuple[str, ...]

    STAMP: ClassVar = ("date", "commit", "hardware", "versions")

    def row(self, cells: Iterable[str], hardware_name: str | None = None) -> str:
        """`cells` after today's date, the commit, the machine and the versions."""
        stamp = (str(date.today()), commit(), hardware_name or hardware(), versions())
        return f"| {' | '.join((*stamp, *cells))} |"

    def append(self, row: str, path: Path = RESULTS) -> None:
        """Put `row` at the end of this table, which is made if it is not there."""
        text = path.read_text() if path.exists() else "# Measured\n"
        heading = f"## {self.title}"
        if heading not in text.split("\n"):
            names = (*self.STAMP, *self.columns)
            header = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
            text = text.rstrip("\n") + "\n\n" + "\n".join([heading, "", *header]) + "\n"
        lines = text.split("\n")
        last = lines.index(heading) + 1
        while last + 1 < len(lines) and (not lines[last] or lines[last + 1].startswith("|")):
            last += 1
        lines.insert(last + 1, row)
        path.write_text("\n".join(lines))


def commit() -> str:
    """The commit that was measured, marked when files differ from it."""
    git = ["git", "-C", str(HERE)]
    name = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    changed = subprocess.run(
        [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
    ).stdout
    return name + (" + changes" if changed.strip() else "")


def hardware() -> str:
    """Processor and number of cores."""
    cpuinfo = Path("/proc/cpuinfo")
    found = (
        [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if cpuinfo.exists()
        else []
    )
    name = found[0].split(":", 1)[1].strip() if found else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def versions() -> str:
    """Of torch and Python."""
    return f"torch {version('torch')}, Python {platform.python_version()}"


def tensor_bytes(*roots: object) -> int:
    """Bytes of all tensors and arrays that can be reached from `roots`, each piece of memory counted once.

    Goes through containers and the attributes of objects; not into modules (weights are no state), classes, functions
    or generators. A view counts as all that it keeps alive.
    """
    import numpy as np
    from torch import Tensor, nn

    kept_alive: dict[tuple[str, int], int] = {}
    seen: dict[int, object] = {}  # holds the objects, so that no id is given twice
    waiting = list(roots)
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, (nn.Module, type, ModuleType, FunctionType)):
            continue
        seen[id(found)] = found
        if isinstance(found, Tensor):
            storage = found.untyped_storage()
            kept_alive[(str(found.device), storage.data_ptr())] = storage.nbytes()
        elif isinstance(found, np.ndarray):
            while isinstance(found.base, np.ndarray):
                found = found.base
            kept_alive[("cpu", found.ctypes.data)] = found.nbytes
        else:
            waiting.extend(_parts(found))
    return sum(kept_alive.values())


def _parts(found: object) -> list[object]:
    """What an object holds: items of a container, attributes of anything."""
    parts: list[object] = []
    if isinstance(found, dict):
        parts += [*found.keys(), *found.values()]
    elif isinstance(found, (list, tuple, set, frozenset, deque)):
        parts += found
    parts += getattr(found, "__dict__", {}).values()
    for kind in type(found).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else slots
        parts += [getattr(found, name) for name in names if hasattr(found, name)]
    return parts
