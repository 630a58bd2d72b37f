"""Play one step of a run again, on one process, exactly as one rank played it.

Clips, prompts, augmentation and dropout of a micro-batch are functions of (seed, number, rank, world), so all that
has to be known besides them are the weights and, for the loss, the mean number of objects over the ranks. Of a step
that went wrong both were kept (evidence.py); for any other step the nearest checkpoint's weights are taken and the
objects of all ranks are counted.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from data.clip import DataError
from data.module import ClipDataModule
from sam2.training.errors import TrainingError
from sam2.training.evidence import Fault, faults, steps_kept
from sam2.training.module import TrainingModule
from sam2.training.player import Moment, Player, Result, Say
from sam2.training.rundir import RunDirectory, read_config
from sam2.training.trainer import Target, precision_of, prepare


@dataclass(frozen=True)
class Wanted:
    """What to play, and how.

    Attributes:
        path: a run directory, or the folder of a step in its `bad/`.
        step: of the optimiser, from 1; None: the last one that was kept.
        rank: None: the one whose step went wrong.
        device: `auto` is the kind of device that the step was played on, if there is one.
        backward: compute gradients, too.
        anomaly: have autograd name the operation whose gradient is not a number (slow).
    """

    path: Path
    step: int | None = None
    rank: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    backward: bool = True
    anomaly: bool = False


def replay(wanted: Wanted, say: Say) -> bool:
    """Play the step that is wanted, say what is found; True if it came out as in the run.

    Raises:
        TrainingError: there is no such step, or nothing to play it with.
        DataError: the data are not those of the run.
    """
    moment = find(wanted)
    device = _device(wanted.device, moment)
    place = Target("gpu" if device == "cuda" else "cpu", 1, 1)
    prepare(moment.config, place)
    data = _data(moment)
    module = TrainingModule(moment.config)
    of = f"step {moment.step}, rank {moment.rank} of {moment.world}, seed {moment.config.seed}"
    say(f"{of}, on {device}, {precision_of(moment.config, place)}")
    say(f"weights    {_load_weights(moment, module)}")
    if moment.fault is not None:
        say(f"went wrong {moment.fault.error.partition(chr(10))[0]}")
        torch.set_num_threads(moment.fault.threads)  # sums on a CPU depend on it
    player = Player(moment, data, module.to(device).train(), precision_of(moment.config, place), say)
    result = player.play(wanted.backward or wanted.anomaly, wanted.anomaly)
    return _judge(moment, result, say)


def find(wanted: Wanted) -> Moment:
    """The step that is meant.

    Raises:
        TrainingError: there is none.
    """
    path, step = wanted.path.absolute(), wanted.step
    if path.parent.name == "bad" and path.name.startswith("step-") and path.is_dir():
        path, step = path.parent.parent, int(path.name.removeprefix("step-"))
    directory = RunDirectory(path)
    if not directory.config.is_file():
        raise TrainingError(
            f"{wanted.path} is neither a run directory nor a step in one (RUN_DIR/bad/step-...)"
        )
    config, kept = read_config(directory), steps_kept(directory.bad)
    if step is None:
        if not kept:
            raise TrainingError(f"{path}: no step of this run went wrong; --step N plays any other again")
        step = max(kept)
    facts = directory.read_record().get("data", {})
    if step in kept:
        fault = _choose(faults(kept[step]), wanted.rank)
        if fault is not None:
            return Moment(directory, config, step, fault.rank, fault.world, kept[step], fault)
    world, rank = int(facts.get("processes", 1)), wanted.rank or 0
    if step < 1 or not 0 <= rank < world:
        raise TrainingError(
            f"{path}: steps count from 1 and ranks from 0 to {world - 1}; got {step} and {rank}"
        )
    return Moment(directory, config, step, rank, world, kept.get(step))


def _choose(found: list[Fault], rank: int | None) -> Fault | None:
    """That of the rank that is asked for (None: it kept nothing), else of one that met the fault itself."""
    if rank is not None:
        return next((fault for fault in found if fault.rank == rank), None)
    return next((fault for fault in found if fault.is_exception or not fault.is_finite), found[0])


def _device(asked: str, moment: Moment) -> str:
    has_gpu = torch.cuda.is_available()
    if asked == "cuda" and not has_gpu:
        raise TrainingError("--device cuda, but torch sees no GPU; see `sam2 doctor`")
    if asked != "auto":
        return asked
    before = moment.fault.device if moment.fault is not None else moment.config.trainer.accelerator
    return "cuda" if has_gpu and before != "cpu" else "cpu"


def _data(moment: Moment) -> ClipDataModule:
    """The data of the run.

    Raises:
        DataError: they changed.
    """
    config = moment.config
    data = ClipDataModule(dataclasses.replace(config.data, stage=False), config.image_size, config.seed)
    before = moment.directory.read_record().get("data", {})
    fingerprint = moment.fault.data if moment.fault is not None else before.get("fingerprint")
    now = data.plan.describe(moment.world)
    if fingerprint != data.plan.fingerprint(moment.world):
        changed = [
            f"{name} was {before.get(name)}, is {now[name]}" for name in now if before.get(name) != now[name]
        ]
        raise DataError(
            f"the data are not those of step {moment.step} of {moment.directory.path}, so it would be another step: "
            f"{'; '.join(changed) or 'the run went on with other data since'}"
        )
    return data


def _load_weights(moment: Moment, module: TrainingModule) -> str:
    """Give `module` the weights of the step, or the nearest there are; says which."""
    if moment.fault is not None and moment.fault.weights is not None and moment.folder is not None:
        path = moment.folder / moment.fault.weights
        module.load_state_dict(_read(path)["state_dict"])
        return f"{path}, those of this very step"
    nearest, found = _nearest(moment)
    if nearest is None:
        return "what the run began with" + _exactly(moment, 0)
    module.load_state_dict(_read(nearest)["state_dict"])
    return f"{nearest}" + _exactly(moment, found)


def _exactly(moment: Moment, step: int) -> str:
    """Of which step they are, `step` being how many were done."""
    if step == moment.step - 1:
        return f", after step {step}: those of this very step"
    return f", after step {step}: not those of this step, so the loss will be another one"


def _nearest(moment: Moment) -> tuple[Path | None, int]:
    """The checkpoint of the last step before this one, and which step that is; None: only the beginning was before."""
    found = {int(_read(path)["global_step"]): path for path in moment.directory.checkpoints.glob("*.ckpt")}
    last = max((step for step in found if step < moment.step), default=0)
    return found.get(last), last


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise TrainingError(f"{path} cannot be read: {str(error).partition(chr(10))[0]}") from error
    return content


def _judge(moment: Moment, result: Result, say: Say) -> bool:
    """Whether the step came out as in the run."""
    fault = moment.fault
    if fault is None:
        say(
            "played: nothing was kept of this step to compare with"
            + ("" if result.is_finite else ", and it is not finite")
        )
        return not result.error
    different = [
        row.number
        for row in fault.micro_batches
        if row.loss is not None
        and row.number in result.losses
        and not _same(row.loss, result.losses[row.number])
    ]
    if different:
        say(
            f"NOT reproduced: the loss of micro-batch {', '.join(map(str, different))} is another one than in the run"
        )
        return False
    if fault.is_exception:
        if result.error == fault.error:
            say(f"reproduced: {result.error.partition(chr(10))[0]}")
            return True
        say(
            "NOT reproduced: every loss is that of the run, bit for bit, but the exception did not come again; its "
            "cause is not in the batch or the weights (a callback, the machine, another process)"
        )
        return False
    if not result.is_finite or "nan" in result.error:
        say("reproduced: every loss is that of the run, bit for bit, and the step is not finite")
        return True
    others = [other.rank for other in faults(moment.folder or Path()) if not other.is_finite]
    hint = f"; see --rank {others[0]}" if others else "; see the other ranks (--rank)"
    say(f"NOT reproduced: the part of rank {moment.rank} is that of the run, bit for bit, and finite{hint}")
    return False


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
