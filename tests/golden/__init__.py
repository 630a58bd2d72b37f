"""The reference's numbers, and the means to rebuild its inputs and weights. See README.md in this folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.golden import inputs, weights

__all__ = [
    "Case",
    "case",
    "hf_manifest",
    "inputs",
    "key_map",
    "manifest",
    "optim_groups",
    "state_dict",
    "weights",
]

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One recorded run of the reference: `meta` describes it, `case[key]` is an array."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays


def case(name: str) -> Case:
    """The case `open/<name>.npz`."""
    with np.load(FOLDER / "open" / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return Case(json.loads(str(arrays.pop("meta"))), arrays)


def names(prefix: str) -> list[str]:
    """All cases that begin with `prefix`, such as "loss_"; there is at least one."""
    found = sorted(path.stem for path in (FOLDER / "open").glob(f"{prefix}*.npz"))
    if not found:
        raise FileNotFoundError(f"no case {prefix}* in {FOLDER / 'open'}")
    return found


def manifest(model: str) -> dict[str, list[int]]:
    """{key: shape} of the official file of `model`, such as "sam2.1_t" or "sam2_b+"."""
    version, size = model.rsplit("_", 1)
    return _json(f"manifests/{version}_hiera_{size}.json")["state_dict"]


def hf_manifest(kind: str) -> dict[str, list[int]]:
    """{key: shape} of HF transformers' tiny model; `kind` is "model" or "video"."""
    return _json(f"manifests/hf_sam2_{kind}_tiny.json")["state_dict"]


def key_map() -> dict[str, Any]:
    """Official key -> HF transformers key, for tiny."""
    return _json("manifests/hf_key_map_tiny.json")["map"]


def optim_groups() -> dict[str, Any]:
    """Learning rate and weight decay of every parameter of 2.1 base-plus in the reference's optimiser."""
    return _json("open/optim_groups_sam2.1_b+.json")


def state_dict(model: str, variant: str = "present", salt: str = "") -> dict[str, Tensor]:
    """Golden weights of `model` with the names of its official file."""
    arrays = weights.golden_state_dict(manifest(model), variant, salt)
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def _json(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name).read_text())
