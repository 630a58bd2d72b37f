"""What a task can see for itself before torch is loaded, and what the findings of all tasks mean together."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

_PACKAGES = ("sam2-train", "torch", "lightning")
_DRIVER = Path("/proc/driver/nvidia/version")
# bytes of a training state: weights and two moments of 4 bytes each; millions of parameters by size of the model
_PARAMETERS = {"_t": 39e6, "_s": 46e6, "_b+": 81e6, "_l": 224e6}
_BYTES = 12
_LEAST_BYTES = 200e6  # logs, metrics, the exported model
_GIT_S = 5.0
_REACH_S = 15.0


@dataclass(frozen=True)
class Task:
    """One process of a job: its place among all, and where all meet."""

    rank: int
    world: int
    local: int
    nodes: int
    host: str
    address: str
    port: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Task:
        """This process, as SLURM and the batch script number it."""
        host = environment.get("SLURMD_NODENAME") or socket.gethostname()
        return cls(
            rank=int(environment.get("SLURM_PROCID", 0)),
            world=int(environment.get("SLURM_NTASKS", 1)),
            local=int(environment.get("SLURM_LOCALID", 0)),
            nodes=int(environment.get("SLURM_NNODES", environment.get("SLURM_JOB_NUM_NODES", 1))),
            host=host,
            address=environment.get("MASTER_ADDR", host),
            port=int(environment.get("MASTER_PORT", 0)),
        )


@dataclass(frozen=True)
class Wanted:
    """What the settings of a run say that its machines must have; None where nothing is known."""

    nodes: int | None = None
    devices: int | None = None
    needs_gpus: bool | None = None
    folders: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    checkpoint_bytes: float = 0.0
    kept: int = 1


def wanted_by(run_dir: Path) -> Wanted:
    """What `RUN_DIR/job/config.yaml` asks for; nothing where there is none."""
    path = run_dir / "job" / "config.yaml"
    if not path.is_file():
        return Wanted()
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "trainer" not in settings:  # an evaluation
        device = settings.get("device")
        return Wanted(1, 1, None if device is None else not str(device).startswith("cpu"))
    trainer, data, model = (settings.get(name) or {} for name in ("trainer", "data", "model"))
    roots = [data.get("root"), data.get("val_root"), *(part["root"] for part in data.get("datasets") or ())]
    is_made = settings.get("synthetic") is not None  # by the run itself, when it begins
    places = [] if is_made else [root for root in roots if root and not root.startswith("pipe:")]
    name = str(model.get("name", ""))
    return Wanted(
        nodes=trainer.get("nodes", 1),
        devices=trainer.get("devices"),
        needs_gpus=trainer.get("accelerator") == "gpu",
        folders=tuple(place for place in places if "://" not in place),
        addresses=tuple(place for place in places if "://" in place),
        checkpoint_bytes=_BYTES * next((n for end, n in _PARAMETERS.items() if name.endswith(end)), 0.0),
        kept=(settings.get("checkpoint") or {}).get("keep", 1),
    )


def examine(task: Task, wanted: Wanted, run_dir: Path) -> dict[str, Any]:
    """What one task finds: `host`, `versions`, and its `problems`."""
    problems = [*_tasks(task, wanted), *_gpus(wanted, os.environ), *_shards(wanted)]
    if task.local == 0:
        problems += _servers(wanted)
    if task.rank == 0:
        problems += _disk(run_dir, wanted)
    return {"host": task.host, "versions": _versions(task), "problems": problems}


def judge(found: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """All problems, each with the nodes that have it, and versions that differ."""
    where: dict[str, list[str]] = {}
    for report in found.values():
        for problem in report["problems"]:
            where.setdefault(problem, []).append(report["host"])
    problems = [f"{_listed(hosts)}: {problem}" for problem, hosts in where.items()]
    for name in sorted({name for report in found.values() for name in report["versions"]}):
        by_version: dict[str, list[str]] = {}
        for report in found.values():
            if name in report["versions"]:
                by_version.setdefault(report["versions"][name], []).append(report["host"])
        if len(by_version) > 1:
            different = ", ".join(f"{version} on {_listed(hosts)}" for version, hosts in by_version.items())
            problems.append(
                f"{name} is not the same everywhere: {different}; all nodes must see one environment and one checkout, "
                "on a shared disk or in the same container (cluster.venv, cluster.conda, cluster.container)"
            )
    return problems


def _tasks(task: Task, wanted: Wanted) -> list[str]:
    if wanted.nodes is None or wanted.devices is None:
        return []
    if task.world == wanted.nodes * wanted.devices and task.nodes == wanted.nodes:
        return []
    return [
        f"SLURM started {task.world} tasks on {task.nodes} nodes, but trainer.nodes={wanted.nodes} and "
        f"trainer.devices={wanted.devices} ask for {wanted.nodes * wanted.devices} on {wanted.nodes}; --nodes and "
        "--ntasks-per-node of the job must be these numbers (submit with launcher=slurm, which writes them)"
    ]


def _gpus(wanted: Wanted, environment: Mapping[str, str]) -> list[str]:
    if not wanted.needs_gpus:
        return []
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    count = None if visible is None else len([word for word in visible.split(",") if word])
    if not _DRIVER.is_file():
        return [
            "there is no NVIDIA driver on this node (or none that the container shows); choose other nodes "
            "(cluster.partition, cluster.constraint), or trainer.accelerator=cpu"
        ]
    if wanted.devices is not None and count is not None and count < wanted.devices:
        return [
            f"a task sees {count} GPUs and trainer.devices is {wanted.devices}; ask for them by node "
            "(cluster.gpu_request), as --gpus-per-task hides the others' GPUs"
        ]
    return []


def _shards(wanted: Wanted) -> list[str]:
    """Folders that cannot be read from here."""
    problems = []
    for name in dict.fromkeys(wanted.folders):
        folder = Path(name)
        try:
            shard = next((path for path in sorted(folder.iterdir()) if path.suffix == ".tar"), None)
            if shard is None:
                problems.append(
                    f"{folder} holds no shards (*.tar); is it the folder that `sam2 data convert` made?"
                )
                continue
            with shard.open("rb") as file:
                file.read(512)
        except OSError as error:
            problems.append(
                f"shards cannot be read: {error.strerror}: {error.filename}; the folder must be on a disk that this "
                "node has too (and inside of the container: cluster.container.mounts)"
            )
    return problems


def _servers(wanted: Wanted) -> list[str]:
    """Addresses that cannot be read from here; asked in a process of its own, which can be ended if it hangs."""
    urls = list(dict.fromkeys(wanted.addresses))
    if not urls:
        return []
    words = [sys.executable, "-P", "-m", "data.storage.reach"]
    try:
        done = subprocess.run(words, input="\n".join(urls), capture_output=True, text=True, timeout=_REACH_S)
    except subprocess.TimeoutExpired:
        return [
            f"the server of the shards does not answer in {_REACH_S:g} s; see that this node reaches the network "
            "(a proxy in cluster.env?)"
        ]
    if done.returncode not in (0, 1) or (done.returncode == 1 and not done.stdout):
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        return [f"whether shards can be read was not to be found out (exit code {done.returncode}): {said}"]
    return [f"shards cannot be read: {line}" for line in done.stdout.splitlines()]


def _disk(run_dir: Path, wanted: Wanted) -> list[str]:
    """Whether the run directory takes files, and has room for checkpoints: the last, the next, the best, older ones."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        draft = run_dir / f".preflight-{os.getpid()}"
        try:
            with draft.open("wb") as file:
                file.write(bytes(1 << 20))
                file.flush()
                os.fsync(file.fileno())
        finally:
            draft.unlink(missing_ok=True)
        free = shutil.disk_usage(run_dir).free
    except OSError as error:
        return [
            f"nothing can be written to {run_dir}: {error.strerror}; free some space (quota?), or choose another disk: "
            "runs=/path"
        ]
    last = run_dir / "checkpoints" / "last.ckpt"
    is_there = last.is_file()  # then so are the others, and room is needed for the next alone
    size = last.stat().st_size if is_there else wanted.checkpoint_bytes
    need = size * (1 if is_there else 3 + wanted.kept) + _LEAST_BYTES
    if free >= need:
        return []
    return [
        f"{run_dir} has {free / 1e9:.2f} GB free, and checkpoints need {need / 1e9:.2f} GB; free some, set "
        "checkpoint.keep=0, or choose another disk: runs=/path"
    ]


def _versions(task: Task) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    if task.local == 0 and (commit := _commit()):
        found["the commit"] = commit
    return found


def _commit() -> str | None:
    """Of the checkout that the code runs from."""
    folder = Path(__file__).resolve().parents[2]
    try:
        words = ["git", "-C", str(folder), "rev-parse", "--short=10", "HEAD"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=_GIT_S)
    except (OSError, subprocess.TimeoutExpired):  # no git here: a run needs none
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _listed(hosts: list[str]) -> str:
    names = list(dict.fromkeys(hosts))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
