"""How long averaging gradients takes on many GPUs: arithmetic on stated numbers, no measurement.

And what training keeps for every weight, counted from the models themselves.

The gradient is averaged in two levels, as NCCL does it: inside of a machine each GPU sums up its share over NVLink,
then every GPU exchanges that share with its peers of the other machines through a network card of its own, then the
shares are put together again inside. A ring sends 2 (n - 1) / n of the bytes of each process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch

from sam2.model.sam2 import SAM2
from sam2.variants import resolve


@dataclass(frozen=True)
class Fabric:
    """What connects the GPUs: bytes a second in one direction for each GPU, seconds for a message.

    `efficiency` is the share of these numbers that collectives reach; all are assumptions to be replaced by yours.
    """

    name: str
    a_machine: int = 8
    nvlink: float = 450e9
    network: float = 50e9
    nvlink_s: float = 5e-6
    network_s: float = 10e-6
    efficiency: float = 0.7


FABRIC = Fabric(
    "machines of 8 GPUs: NVLink 450 GB/s and InfiniBand 50 GB/s a GPU and direction, 70 % of each reached"
)


@dataclass(frozen=True)
class Prediction:
    """Of a step: seconds that gradients travel, and efficiency if all but the last bucket is hidden, or nothing."""

    travel_s: float
    hidden: float
    open: float


def all_reduce_s(bytes_: float, gpus: int, fabric: Fabric) -> float:
    """Seconds to average `bytes_` of gradients over `gpus`."""
    inside = min(gpus, fabric.a_machine)
    machines = math.ceil(gpus / fabric.a_machine)
    within = 2 * (inside - 1) / inside * bytes_ / (fabric.nvlink * fabric.efficiency)
    across = 2 * (machines - 1) / machines * (bytes_ / inside) / (fabric.network * fabric.efficiency)
    hops = 2 * (inside - 1) * fabric.nvlink_s + 2 * math.ceil(math.log2(machines)) * fabric.network_s
    return within + across + hops


def predict(step_s: float, bytes_: float, last_bucket: float, gpus: int, fabric: Fabric) -> Prediction:
    """Weak scaling to `gpus`.

    Args:
        step_s: of one GPU by itself.
        bytes_: of all gradients.
        last_bucket: bytes that become ready only when the backward pass is over, and so travel with nothing to hide
            behind even where everything else does.
        gpus: of the run.
        fabric: what connects them.
    """
    travel = all_reduce_s(bytes_, gpus, fabric)
    exposed = all_reduce_s(min(last_bucket, bytes_), gpus, fabric)
    exposed = max(exposed, travel - step_s * 2 / 3)  # the backward pass, behind which the rest hides
    return Prediction(travel, step_s / (step_s + exposed), step_s / (step_s + travel))


@cache
def trainable(name: str) -> int:
    """Numbers that train in a model; no memory is taken for them."""
    with torch.device("meta"):
        model = SAM2(resolve(name))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def state_table() -> str:
    """Markdown: GB in float32 of weights, gradients and AdamW's two moments, whole and shared out."""
    lines = [
        "| model | parameters | weights | gradients | AdamW | together | each of 2, fsdp | each of 8, fsdp |"
    ]
    lines.append("|---" * 8 + "|")
    for name in ("sam2.1_t", "sam2.1_s", "sam2.1_b+", "sam2.1_l"):
        count = trainable(name)
        size = 4e-9 * count
        cells = [size, size, 2 * size, 4 * size, 4 * size / 2, 4 * size / 8]
        shown = " | ".join(f"{cell:.2f} GB" for cell in cells)
        lines.append(f"| {name} | {count / 1e6:.1f} M | {shown} |")
    return "\n".join(lines)
