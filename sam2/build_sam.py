"""Build models by name, with the reference's function names and arguments, and without Hydra."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from sam2.building import build, checked_arguments, ready
from sam2.model.sam2 import SAM2
from sam2.model_config import find_recipe
from sam2.pretrained import locate
from sam2.reference_settings import SettingError
from sam2.sam2_video_predictor import build_sam2_video_predictor, build_sam2_video_predictor_hf

__all__ = [
    "build_sam2",
    "build_sam2_hf",
    "build_sam2_video_predictor",
    "build_sam2_video_predictor_hf",
]


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
        config: name in any official or short spelling (`sam2.1_hiera_b+.yaml`, `sam2.1_b+`), in any folder; or a run
            directory (or its `config.yaml`), whose model and image size are then built; or the path of another YAML
            file: one of `configs/model`, ours (`variant: sam2.1_t` and settings of the reference), or a model
            configuration of the reference.
        checkpoint: weight file in any layout that `sam2.checkpoint.load` reads, such as a run's `export/model.pt`;
            without one the weights are random, but those of a run directory are its export.
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
    named = checked_arguments(synonyms, config, checkpoint, mode, hydra_overrides_extra)
    recipe = find_recipe(named["config"], hydra_overrides_extra, apply_postprocessing)
    for name, value in vars(recipe.video).items():
        if value:
            raise SettingError(f"model.{name}={value}: it belongs to videos; use build_sam2_video_predictor")
    return ready(build(recipe, named["checkpoint"], SAM2), device, mode)


def build_sam2_hf(model_id: str | os.PathLike[str], **kwargs: Any) -> SAM2:
    """A model with weights by the id of a released one, or by the path of a weight file or of its folder.

    Args:
        model_id: `facebook/sam2.1-hiera-large` (fetched by huggingface_hub); a run directory, whose export is taken;
            or another path, whose variant is recognised: by the run that it lies in, else by its tensors.
        kwargs: of `build_sam2`.
    """
    variant, path = locate(model_id)
    return build_sam2(kwargs.pop("config", variant), path, **kwargs)
