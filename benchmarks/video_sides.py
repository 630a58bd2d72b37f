"""The reference and this project behind the names they share: builders, predictors, states. For child processes.

Both get the golden weights (or a checkpoint) and the same normalised frames; holes are filled by neither.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # behind everything: `sam2` must be the side's own
SIDES = ("reference", "ours")


@dataclass(frozen=True)
class Weights:
    """Which model, with which numbers in it: golden weights by `variant` and `salt`, or a file in official layout."""

    model: str = "sam2.1_t"
    variant: str = "present"
    salt: str = ""
    checkpoint: str = ""

    @property
    def config(self) -> str:
        """The name of the released configuration, as the reference wants it."""
        version, size = self.model.rsplit("_", 1)
        return f"configs/{version}/{version}_hiera_{size}.yaml"

    def load_into(self, model: nn.Module) -> None:
        """Give `model`, of either side, these weights."""
        from tests import golden

        if self.checkpoint:
            found = torch.load(self.checkpoint, map_location="cpu", weights_only=True)["model"]
        else:
            shapes = golden.manifest(self.model)
            # the one shape that a setting changes: a row a memory slot
            shapes["maskmem_tpos_enc"] = list(model.get_parameter("maskmem_tpos_enc").shape)
            arrays = golden.weights.golden_state_dict(shapes, self.variant, self.salt)
            found = {name: torch.from_numpy(array) for name, array in arrays.items()}
        model.load_state_dict(found, strict=True)


@dataclass(frozen=True)
class Build:
    """How a predictor is built."""

    weights: Weights
    size: int
    device: str = "cpu"
    compiled: bool = False
    overrides: Sequence[str] = ()
    postprocessing: bool = True


@dataclass(frozen=True)
class Clip:
    """A video: `frames` (T, H, W, 3) uint8, and what goes into the network, float (T, 3, S, S)."""

    frames: np.ndarray
    network_input: Tensor
    masks: np.ndarray = field(repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.frames.shape[1], self.frames.shape[2]


def clip(frames: int, height: int, width: int, size_px: int, seed: int = 7) -> Clip:
    """The moving blobs of tests/golden; `masks` (T, 2, H, W) are theirs."""
    from tests.golden import inputs

    images, masks = inputs.video(seed, frames, height, width)
    return Clip(images, torch.from_numpy(inputs.model_frames(images, size_px)), masks)


class Side:
    """One implementation, imported here and nowhere else in this process.

    Args:
        name: "reference" or "ours".
        folder: where the released code is.
    """

    def __init__(self, name: str, folder: str) -> None:
        if name not in SIDES:
            raise SystemExit(f"there is no side {name!r}; there are {' and '.join(SIDES)}")
        self.is_reference = name == "reference"
        if self.is_reference:
            sys.path.insert(0, folder)
        self._build = import_module("sam2.build_sam")
        home = Path(folder) if self.is_reference else ROOT
        if not Path(str(self._build.__file__)).resolve().is_relative_to(home):
            raise SystemExit(f"`sam2` was imported from {self._build.__file__}, not from {home}")

    def image_predictor(self, build: Build) -> Any:
        """`SAM2ImagePredictor` with the weights in."""
        model = self._build.build_sam2(build.weights.config, None, device=build.device)
        build.weights.load_into(model)
        return import_module("sam2.sam2_image_predictor").SAM2ImagePredictor(model)

    def video_predictor(self, build: Build) -> Any:
        """`SAM2VideoPredictor` with the weights in."""
        predictor = self._build.build_sam2_video_predictor(
            build.weights.config,
            None,
            device=build.device,
            hydra_overrides_extra=[f"++model.image_size={build.size}", *build.overrides],
            apply_postprocessing=build.postprocessing,
            vos_optimized=build.compiled,
        )
        build.weights.load_into(predictor)
        # the reference can do it on a GPU with its extension only
        predictor.fill_hole_area = 0
        return predictor

    def state(self, predictor: Any, video: Clip) -> Any:
        """The state of a session on `video`; both sides look at `video.network_input`."""
        height, width = video.size
        if not self.is_reference:
            return predictor.init_state(video.network_input, video_height=height, video_width=width)
        with TemporaryDirectory() as folder:
            write_jpegs(video.frames, Path(folder))
            state = predictor.init_state(folder)
        state["images"] = video.network_input.to(predictor.device)
        state["cached_features"].clear()
        return state


def write_jpegs(frames: np.ndarray, folder: Path) -> None:
    """The only form of frames that the reference reads; their content is replaced afterwards."""
    from PIL import Image

    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:05d}.jpg")
