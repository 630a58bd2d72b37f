"""Build models by name, with the reference's function names and arguments, and without Hydra."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch

from sam2.checkpoint import load
from sam2.model.memory_bank import MemoryPolicy
from sam2.model.sam2 import SAM2
from sam2.model_config import find_recipe
from sam2.pretrained import locate
from sam2.reference_settings import Recipe, SettingError
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.variants import Variant

Model = TypeVar("Model", bound=SAM2)

# the reference's names of the first two arguments
_SYNONYMS = {"config_file": "config", "ckpt_path": "checkpoint"}
_FILLED_HOLES = 8  # pixels of a low-resolution mask, as released


def build_sam2(
    config: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    **synonyms: Any,
) -> SAM2:
    """A model of a released or small variant, with weights if a file is given.

    Args:
        config: name in any official or short spelling (`sam2.1_hiera_b+.yaml`, `sam2.1_b+`), in any folder, or the path
            of a YAML file: ours (`variant: sam2.1_t`, `image_size: 512`) or a model configuration of the reference.
        checkpoint: weight file in any layout that `sam2.checkpoint.load` reads; without one the weights are random.
        device: by default the GPU if there is one.
        mode: "eval" or "train": dropout and drop path only.
        hydra_overrides_extra: the reference's settings, `["++model.image_size=512"]`.
        apply_postprocessing: inference defaults of the reference: an unstable single mask gives way to the best of
            three, prompted masks are remembered as yes or no. Explicit overrides win.
        synonyms: the reference's argument names, `config_file` and `ckpt_path`.

    Raises:
        UnknownVariantError, SettingError: the model or a setting is not known; the closest are named.
        CheckpointError: the file does not fit the model.
    """
    named = _checked(synonyms, config, checkpoint, mode, hydra_overrides_extra)
    recipe = find_recipe(named["config"], hydra_overrides_extra, apply_postprocessing)
    for name, value in vars(recipe.video).items():
        if value:
            raise SettingError(f"model.{name}={value}: it belongs to videos; use build_sam2_video_predictor")
    return _ready(_build(recipe, named["checkpoint"], SAM2), device, mode)


def build_sam2_video_predictor(
    config: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    **synonyms: Any,
) -> SAM2VideoPredictor:
    """A video predictor; the arguments are those of `build_sam2`, and:

    Args:
        config: see `build_sam2`.
        checkpoint: see `build_sam2`.
        device: see `build_sam2`.
        mode: see `build_sam2`.
        hydra_overrides_extra: also the settings of the video predictor, such as `++model.non_overlap_masks=true`.
        apply_postprocessing: also fills holes of at most 8 low-resolution pixels, on every device.
        vos_optimized: compile the model (torch.compile): minutes at the first frames, faster from then on.
        synonyms: the reference's argument names, `config_file` and `ckpt_path`.
    """
    named = _checked(synonyms, config, checkpoint, mode, hydra_overrides_extra)
    overrides = list(hydra_overrides_extra)
    if apply_postprocessing:
        overrides.insert(0, f"++model.fill_hole_area={_FILLED_HOLES}")
    recipe = find_recipe(named["config"], overrides, apply_postprocessing)
    # stored in 16 bits also where the model computes in 32: the released numbers include this rounding
    recipe = replace(recipe, policy=replace(recipe.policy, storage=torch.bfloat16))
    build = partial(SAM2VideoPredictor, **vars(recipe.video))
    model = _ready(_build(recipe, named["checkpoint"], build), device, mode)
    if vos_optimized:
        model.compile_for_tracking()
    return model


def build_sam2_hf(model_id: str | os.PathLike[str], **kwargs: Any) -> SAM2:
    """A model with weights by the id of a released one, or by the path of a weight file or of its folder.

    Args:
        model_id: `facebook/sam2.1-hiera-large` (fetched by huggingface_hub), or a path, whose variant is recognised.
        kwargs: of `build_sam2`.
    """
    variant, path = locate(model_id)
    return build_sam2(kwargs.pop("config", variant), path, **kwargs)


def build_sam2_video_predictor_hf(model_id: str | os.PathLike[str], **kwargs: Any) -> SAM2VideoPredictor:
    """A video predictor with weights; see `build_sam2_hf`."""
    variant, path = locate(model_id)
    return build_sam2_video_predictor(kwargs.pop("config", variant), path, **kwargs)


def _build(
    recipe: Recipe,
    checkpoint: str | os.PathLike[str] | None,
    build: Callable[[Variant, float, MemoryPolicy], Model],
) -> Model:
    if checkpoint is None:
        model = build(recipe.variant, recipe.drop_path, recipe.policy)
    else:
        # drawing initial weights only to overwrite them takes seconds for the large model
        with torch.device("meta"):
            model = build(recipe.variant, recipe.drop_path, recipe.policy)
        load(model, checkpoint)
    if recipe.compile_image_encoder:
        model.image_encoder.compile(dynamic=False)
    return model


def _ready(model: Model, device: str | torch.device | None, mode: str) -> Model:
    model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.train(mode == "train")


def _checked(
    synonyms: dict[str, Any],
    config: str | os.PathLike[str] | None,
    checkpoint: str | os.PathLike[str] | None,
    mode: str,
    overrides: Sequence[str],
) -> dict[str, Any]:
    named = _synonyms(synonyms, config=config, checkpoint=checkpoint)
    if named["config"] is None:
        raise TypeError("a config is needed, such as 'sam2.1_hiera_t.yaml'")
    if mode not in ("eval", "train"):
        raise ValueError(f"mode is {mode!r}, expected 'eval' or 'train'")
    if isinstance(overrides, str):
        raise TypeError(f"hydra_overrides_extra is a string, expected a list: [{overrides!r}]")
    return named


def _synonyms(given: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    for name, value in given.items():
        if name not in _SYNONYMS:
            raise TypeError(f"there is no argument {name!r}")
        if arguments[_SYNONYMS[name]] is not None:
            raise TypeError(f"got both {_SYNONYMS[name]} and {name}, which are the same")
        arguments[_SYNONYMS[name]] = value
    return arguments
