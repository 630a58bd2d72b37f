"""How the processes of a run work on one model: gradients averaged, or weights and optimiser shared out as well.

`Averaging` is DistributedDataParallel: every process has the whole model. `Sharding` is FSDP2: every process keeps its
part of weights, gradients and moments, and what it computes with is gathered when it is needed. Both make the same
steps and the same checkpoints, one ordinary file each, so that a run may go on under the other one or in one process.
docs/parallel.md says which one to choose, with the arithmetic.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from sam2.model.sam2 import SAM2
from sam2.training.trainer_config import TrainerConfig


class Averaging(DDPStrategy):
    """Every process has the whole model; gradients are averaged while the backward pass still runs."""

    def __init__(self, wanted: TrainerConfig, backend: str, timeout_s: float) -> None:
        super().__init__(
            # Which parameters get a gradient depends on the kind of prompt and the length of the clip. The search
            # costs some milliseconds a step, and a parameter that no rank used keeps no gradient, as in one process;
            # everything faster has to know the answer beforehand (docs/parallel.md, "Parameters that a step ...").
            find_unused_parameters=True,
            gradient_as_bucket_view=wanted.bucket_view,
            process_group_backend=backend,
            timeout=timedelta(seconds=timeout_s),
        )
        self._compress = wanted.compress

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """A held-out video, past DDP: that has all ranks exchange buffers, and not all have as many videos."""
        assert self.lightning_module is not None
        with self.precision_plugin.val_step_context():
            return self.lightning_module.validation_step(*args, **kwargs)

    def configure_ddp(self) -> None:
        """Wrap the model; Lightning itself leaves hooks out on CPUs."""
        # depthwise kernels (C, 1, 7, 7): two ways to write the strides of the same memory
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        super().configure_ddp()
        if self._compress == "bf16":
            model: Any = self.model
            model.register_comm_hook(None, default_hooks.bf16_compress_hook)


class Sharding(DDPStrategy):
    """Every process keeps its part of weights, gradients and moments (FSDP2).

    Blocks of the trunk are gathered one by one and let go again; all the rest, which a step enters dozens of times,
    is gathered once a step. All ranks must use the same parameters in a step; they do, since the plan of a step is a
    function of its number.
    """

    def __init__(self, wanted: TrainerConfig, backend: str, timeout_s: float) -> None:
        super().__init__(process_group_backend=backend, timeout=timedelta(seconds=timeout_s))
        self._reduce = torch.bfloat16 if wanted.compress == "bf16" else None

    def configure_ddp(self) -> None:
        """Share the weights out, after those of a checkpoint were loaded and before the optimiser is made."""
        module = self.model
        assert isinstance(module, LightningModule)
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        shard(module, mesh, self._reduce)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """All weights, whole, on the CPU of rank 0; nothing on the others, which take part."""
        assert self.lightning_module is not None
        return self._gathered(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The moments, whole, on the CPU of rank 0, numbered as everywhere."""
        state = optimizer.state_dict()
        state["state"] = {number: self._gathered(own) for number, own in sorted(state["state"].items())}
        return state

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's part of the moments in a checkpoint."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            own = {number: _parts(whole, parameters[number]) for number, whole in state["state"].items()}
            optimizer.load_state_dict({**state, "state": own})

    def teardown(self) -> None:
        """Leave the weights where they are: a part alone is of no use on another device."""
        assert self.cluster_environment is not None and self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()

    def _gathered(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` with whole tensors on rank 0; one tensor at a time is whole on the others."""
        found: dict[str, Any] = {}
        for name, value in values.items():
            is_part = isinstance(value, DTensor)
            full = value.full_tensor() if is_part else value
            if self.is_global_zero:
                found[name] = full.cpu() if isinstance(full, Tensor) else full
        return found


def shard(module: LightningModule, mesh: DeviceMesh, reduce: torch.dtype | None = None) -> None:
    """Share the weights of a training module out over `mesh`; gradients travel as `reduce`, if given."""
    policy = MixedPrecisionPolicy(reduce_dtype=reduce)
    trunks = (part for name, part in module.named_modules() if name.endswith("trunk.blocks"))
    for block in [block for blocks in trunks for block in blocks.children()]:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(module, "training_step")


def whole(model: SAM2) -> SAM2:
    """`model` with all its weights: itself, or a copy where it is shared out. All processes must call this together.

    Evaluation takes a copy, because tracked videos differ in length: gathering weights frame by frame would make
    ranks wait for each other for ever.
    """
    state = model.state_dict()
    if not any(isinstance(value, DTensor) for value in state.values()):
        return model
    gathered = {name: v.full_tensor() if isinstance(v, DTensor) else v for name, v in state.items()}
    with torch.random.fork_rng():  # the copy draws weights first; training must not notice
        copy = SAM2(model.variant, policy=model.policy)
    copy.load_state_dict(gathered)
    return copy.to(next(iter(gathered.values())).device)


def _parts(state: Mapping[str, Any], parameter: Tensor) -> dict[str, Any]:
    """This process's part of what the optimiser remembers of `parameter`."""
    if not isinstance(parameter, DTensor):
        return dict(state)
    mesh, placements = parameter.device_mesh, parameter.placements
    return {
        name: distribute_tensor(value.to(parameter.device), mesh, placements, src_data_rank=None)
        if isinstance(value, Tensor) and value.shape == parameter.shape
        else value
        for name, value in state.items()
    }
