"""What building an image model and building a video predictor have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from sam2.checkpoint import CheckpointError, load
from sam2.model.memory_bank import MemoryPolicy
from sam2.model.sam2 import SAM2
from sam2.model_config import config_beside, find_recipe
from sam2.pretrained import export_of
from sam2.reference_settings import Recipe
from sam2.variants import Variant

Model = TypeVar("Model", bound=SAM2)

# the reference's names of the first two arguments
_SYNONYMS = {"config_file": "config", "ckpt_path": "checkpoint"}


def build(
    recipe: Recipe,
    checkpoint: str | os.PathLike[str] | None,
    make: Callable[[Variant, float, MemoryPolicy], Model],
) -> Model:
    """The model of a recipe, with weights if a file is given; `make` is its class.

    Raises:
        CheckpointError: the file does not fit; if it lies in a run directory, the run is named.
    """
    if checkpoint is None:
        model = make(recipe.variant, recipe.drop_path, recipe.policy)
    else:
        # drawing initial weights only to overwrite them takes seconds for the large model
        with torch.device("meta"):
            model = make(recipe.variant, recipe.drop_path, recipe.policy)
        try:
            load(model, checkpoint)
        except CheckpointError as error:
            run = config_beside(Path(checkpoint))
            if run is None or find_recipe(run).variant.at(recipe.variant.image_size) == recipe.variant:
                raise
            remedy = (
                f"{checkpoint} is of a run with a model of its own; in place of the model's name give {run}"
            )
            raise CheckpointError(f"{remedy}\n{error}") from error
    if recipe.compile_image_encoder:
        model.image_encoder.compile(dynamic=False)
    return model


def ready(model: Model, device: str | torch.device | None, mode: str) -> Model:
    """On its device, by default the GPU if there is one, and in its mode."""
    model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.train(mode == "train")


def checked_arguments(
    synonyms: dict[str, Any],
    config: str | os.PathLike[str] | None,
    checkpoint: str | os.PathLike[str] | None,
    mode: str,
    overrides: Sequence[str],
) -> dict[str, Any]:
    """`config` and `checkpoint`, whichever names they came by; of a run directory alone its export.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    named = _synonyms(synonyms, config=config, checkpoint=checkpoint)
    if named["config"] is None:
        raise TypeError("a config is needed, such as 'sam2.1_hiera_t.yaml'")
    if mode not in ("eval", "train"):
        raise ValueError(f"mode is {mode!r}, expected 'eval' or 'train'")
    if isinstance(overrides, str):
        raise TypeError(f"hydra_overrides_extra is a string, expected a list: [{overrides!r}]")
    if named["checkpoint"] is None and (Path(named["config"]) / "config.yaml").is_file():
        named["checkpoint"] = export_of(Path(named["config"]))
    return named


def _synonyms(given: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    for name, value in given.items():
        if name not in _SYNONYMS:
            raise TypeError(f"there is no argument {name!r}")
        if arguments[_SYNONYMS[name]] is not None:
            raise TypeError(f"got both {_SYNONYMS[name]} and {name}, which are the same")
        arguments[_SYNONYMS[name]] = value
    return arguments
