"""What a cluster wants to be told: a profile, a small YAML file in the group `cluster`.

Everything here ends in the first lines of a batch file or in its shell: values are checked when they are read and
quoted where they are written (sam2/slurm/render.py).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

_TIME = re.compile(r"\d+-\d{1,2}(:\d{1,2}){0,2}|\d+(:\d{1,2}){1,2}")
_MEMORY = re.compile(r"\d+[KMGT]?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPTION = re.compile(r"(--[a-z-]+|-[A-Za-z])(.*)", re.DOTALL)

_PER_TASK = (
    "hides from every task the GPUs of the others, while a task looks for the GPU with its own number; GPUs are asked "
    "for by node: trainer.devices, cluster.gpu_request and cluster.gpu_type"
)
_TASKS = "alone lets SLURM place tasks unevenly; set trainer.nodes and trainer.devices (per node) instead"
_OURS = "is written by the launcher; change {} instead"
# options that a profile must not give, and why
_REFUSED: Mapping[str, str] = {
    "--gpus-per-task": _PER_TASK,
    "--ntasks": _TASKS,
    "-n": _TASKS,
    "--ntasks-per-gpu": _TASKS,
    "--nodes": _OURS.format("trainer.nodes"),
    "-N": _OURS.format("trainer.nodes"),
    "--ntasks-per-node": _OURS.format("trainer.devices"),
    "--gpus": _OURS.format("trainer.devices"),
    "-G": _OURS.format("trainer.devices"),
    "--gpus-per-node": _OURS.format("trainer.devices, cluster.gpu_request and cluster.gpu_type"),
    "--cpus-per-task": _OURS.format("cluster.cpus_per_task"),
    "-c": _OURS.format("cluster.cpus_per_task"),
    "--array": _OURS.format("the sweep (-m) and launcher.parallel"),
    "-a": _OURS.format("the sweep (-m) and launcher.parallel"),
    "--dependency": _OURS.format("launcher.after"),
    "-d": _OURS.format("launcher.after"),
    "--signal": _OURS.format("cluster.signal_lead_s"),
    "--time": _OURS.format("cluster.time"),
    "-t": _OURS.format("cluster.time"),
    "--output": "is written by the launcher: the log is in the run directory",
    "-o": "is written by the launcher: the log is in the run directory",
    "--error": "is written by the launcher: the log is in the run directory",
    "-e": "is written by the launcher: the log is in the run directory",
    "--open-mode": "is written by the launcher: a requeued job appends to its log",
    "--no-requeue": "would end the run at the first preemption; leave it out",
    "--wrap": "replaces the job's own script; use cluster.setup for lines of your own",
}


def line(where: str, value: str) -> None:
    """See that `value` is one line of text.

    Raises:
        ValueError: it is empty or has a control character.
    """
    if not value or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise ValueError(f"{where} is {value!r}; it must be one line of text, or null")


@dataclass(frozen=True)
class Container:
    """The image that the tasks run in; the batch script itself runs outside of it.

    Attributes:
        runtime: `apptainer` is called by every task; `pyxis` is srun's plug-in for enroot.
        image: a file, or an address that the runtime knows.
        mounts: folders of the host to see inside, `/data` or `/data:/inside`; the code, the run directory and the
            data of the run are seen without being asked for.
        options: more words for `apptainer exec`, or for srun with pyxis.
    """

    runtime: Literal["apptainer", "pyxis"]
    image: str
    mounts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("image", "mounts", "options"):
            value = getattr(self, name)
            for item in (value,) if isinstance(value, str) else value:
                line(f"cluster.container.{name}", item)
        for mount in self.mounts:
            if "," in mount:
                raise ValueError(
                    f"cluster.container.mounts: {mount!r} has a comma, which ends a mount; mount the folder above it"
                )


@dataclass(frozen=True)
class Cluster:
    """How to ask one cluster for machines, and what has to happen on them before Python starts.

    Attributes:
        account: whom the time is charged to.
        partition: which nodes; several are separated by commas.
        qos: quality of service.
        constraint: features that nodes must have, such as `a100|h100`.
        exclude: nodes to avoid.
        nodelist: nodes to take.
        reservation: to run in.
        gpu_request: how GPUs are asked for: `--gpus-per-node=N` or `--gres=gpu:N`; `none`: whole nodes come with them.
        gpu_type: such as `a100`, written between `gpu` and their number.
        gpus_per_node: GPUs to use of every node where `trainer.devices` is auto.
        cpus_per_task: cores for each process; null: one, and one for each of `data.workers`.
        mem: memory of a node, such as `120G`; `0`: all of it; null: the cluster's default.
        time: limit of one start, `HH:MM:SS` or `D-HH:MM:SS`; a run that is not finished by then is requeued.
        mail_user: who gets mail.
        mail_type: about what.
        modules: to load with `module load`.
        venv: virtual environment to activate.
        conda: conda environment to activate.
        python: interpreter; null: that of the environment or the container, else the one that submits.
        container: that the tasks run in.
        interface: network interface of NCCL and gloo, such as `ib0`.
        env: variables to set.
        sbatch: more options for sbatch, `--exclusive`.
        setup: more lines of shell, run before modules are loaded.
        signal_lead_s: so long before the time limit the run is told to save; SLURM may be a minute early.
        max_restarts: so often a job puts itself back into the queue.
    """

    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    nodelist: str | None = None
    reservation: str | None = None
    gpu_request: Literal["gpus-per-node", "gres", "none"] = "gpus-per-node"
    gpu_type: str | None = None
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    time: str = "24:00:00"
    mail_user: str | None = None
    mail_type: str = "END,FAIL"
    modules: tuple[str, ...] = ()
    venv: Path | None = None
    conda: str | None = None
    python: str | None = None
    container: Container | None = None
    interface: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    sbatch: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    signal_lead_s: int = 300
    max_restarts: int = 50

    def __post_init__(self) -> None:
        self._check_lines()
        self._check_numbers()
        for name in self.env:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"cluster.env: {name!r} is no name of a variable")
        for option in self.sbatch:
            check_option(option)
        if sum(given is not None for given in (self.venv, self.conda, self.container)) > 1:
            raise ValueError("cluster.venv, cluster.conda and cluster.container: set one of them")

    def _check_lines(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            values = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
            for item in (value,) if isinstance(value, str) else values:
                if f.name != "env" or item:
                    line(f"cluster.{f.name}", item)

    def _check_numbers(self) -> None:
        for name, least in (
            ("gpus_per_node", 1),
            ("cpus_per_task", 1),
            ("signal_lead_s", 1),
            ("max_restarts", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"cluster.{name} is {value}; it must be at least {least}")
        if self.signal_lead_s > 65535:
            raise ValueError(
                f"cluster.signal_lead_s is {self.signal_lead_s}; SLURM takes at most 65535 seconds"
            )
        if not _TIME.fullmatch(self.time):
            raise ValueError(
                f"cluster.time is {self.time}; expected HH:MM:SS or D-HH:MM:SS, in quotes in a file "
                '(time: "24:00:00"), because YAML reads it as a number otherwise'
            )
        if self.mem is not None and not _MEMORY.fullmatch(self.mem):
            raise ValueError(
                f"cluster.mem is {self.mem!r}; expected a number with K, M, G or T, such as 120G, or 0 for all"
            )

    def gpus(self, count: int) -> str | None:
        """The option that asks for `count` GPUs of a node."""
        kind = f"{self.gpu_type}:" if self.gpu_type else ""
        forms = {"gpus-per-node": f"--gpus-per-node={kind}{count}", "gres": f"--gres=gpu:{kind}{count}"}
        return forms.get(self.gpu_request)


def check_option(option: str) -> None:
    """See that an option for sbatch is one, and not one that would contradict the launcher's own.

    Raises:
        ValueError: with the reason.
    """
    found = _OPTION.fullmatch(option)
    if found is None or (found[1].startswith("--") and found[2] and found[2][0] not in "= "):
        raise ValueError(f"cluster.sbatch: {option!r} is no option of sbatch; write it as --name=value")
    if found[1] in _REFUSED:
        raise ValueError(f"cluster.sbatch: {found[1]} {_REFUSED[found[1]]}")
    # sbatch takes any beginning of a name that is unique
    meant = {name for name in _REFUSED if found[1].startswith("--") and name.startswith(found[1])}
    if meant:
        raise ValueError(
            f"cluster.sbatch: {found[1]} may mean {', '.join(sorted(meant))}; write the whole name"
        )
