"""The image trunk: timm's Hiera (or any timm model with four maps) under the official parameter names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
import torch.utils.checkpoint
from timm.models.hieradet_sam2 import HieraDet
from torch import Tensor, nn

from sam2 import variants

# Official files say mlp.layers.0/1 where timm says mlp.fc1/fc2; nothing else differs.
_OFFICIAL_TO_TIMM = {".mlp.layers.0.": ".mlp.fc1.", ".mlp.layers.1.": ".mlp.fc2."}
STRIDES_PX = (4, 8, 16, 32)


def build_trunk(trunk: variants.Trunk, drop_path: float = 0.0) -> nn.Module:
    """The timm model of a variant, without head, speaking official names in `state_dict` and `load_state_dict`.

    Raises:
        ValueError: the model's maps are not at strides 4, 8, 16 and 32.
    """
    options: dict[str, Any] = {**trunk.options, "drop_path_rate": drop_path}
    model = timm.create_model(trunk.timm_name, num_classes=0, **options)
    strides = tuple(info["reduction"] for info in _stages(model))
    if strides != STRIDES_PX:
        raise ValueError(
            f"trunk {trunk.timm_name!r} has maps at strides {strides}; four at {STRIDES_PX} are needed"
        )
    model.prune_intermediate_layers([0, 1, 2, 3], prune_norm=True, prune_head=True)  # type: ignore[operator]
    if isinstance(model, HieraDet):
        model._pos_embed = partial(_add_positions, model, {})  # type: ignore[method-assign]
    model.register_load_state_dict_pre_hook(_rename_official)
    model.register_state_dict_post_hook(_rename_live)
    return model


def channels(model: nn.Module) -> tuple[int, ...]:
    """Channels of the four maps, finest first."""
    return tuple(info["num_chs"] for info in _stages(model))


def maps(model: nn.Module, images: Tensor) -> list[Tensor]:
    """The four maps (F, C_i, S/stride, S/stride) of images (F, 3, S, S), finest first."""
    found: list[Tensor] = model.forward_intermediates(images, indices=[0, 1, 2, 3], intermediates_only=True)  # type: ignore[operator]
    return found


def recompute(model: nn.Module, everything: bool) -> None:
    """Compute blocks again in the backward pass instead of keeping their activations.

    Args:
        model: from `build_trunk`.
        everything: all blocks; otherwise those of the two finest stages, which hold most of the memory but do little
            of the work.

    Raises:
        ValueError: the trunk is no Hiera, so its finest stages are not known.
    """
    if everything:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
        return
    if not isinstance(model, HieraDet):
        raise ValueError(
            f"the finest stages of a {type(model).__name__} are not known; recompute everything instead"
        )
    for block in model.blocks[: model.stage_ends[1] + 1]:
        block.forward = partial(_recomputed, type(block).forward, block)


def _add_positions(model: HieraDet, kept: dict[str, Any], x: Tensor) -> Tensor:
    """What timm's `_pos_embed` does, which enlarges the embedding anew for every frame: 4 % of tracking one object.

    Without gradients it is kept until its weights change, which their addresses and versions tell; but a step of a
    fused optimiser changes no version, so what was kept is forgotten when gradients are computed.
    """
    weights = (model.pos_embed, model.pos_embed_window)
    if torch.compiler.is_compiling() or any(w.is_inference() for w in weights):
        return HieraDet._pos_embed(model, x)
    if torch.is_grad_enabled():
        kept.clear()
        return HieraDet._pos_embed(model, x)
    key = (x.shape[1:], *((w.data_ptr(), w._version, w.dtype, w.device) for w in weights))
    if kept.get("key") != key:
        kept["codes"] = HieraDet._pos_embed(model, x.new_zeros(1, *x.shape[1:], dtype=weights[0].dtype))
        kept["key"] = key
    codes: Tensor = kept["codes"]
    return x + codes


def _recomputed(forward: Callable[..., Tensor], block: nn.Module, x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(block, x)
    return torch.utils.checkpoint.checkpoint(forward, block, x, use_reentrant=False)


def _stages(model: nn.Module) -> list[dict[str, Any]]:
    info = model.feature_info
    return list(info)[-4:] if isinstance(info, list) else info.get_dicts()[-4:]  # type: ignore[union-attr, operator]


def _rename_official(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    _rename(state_dict, prefix, _OFFICIAL_TO_TIMM)


def _rename_live(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    _rename(state_dict, prefix, {live: official for official, live in _OFFICIAL_TO_TIMM.items()})


def _rename(state_dict: dict[str, Any], prefix: str, names: dict[str, str]) -> None:
    for key in [k for k in state_dict if k.startswith(prefix)]:
        for old, new in names.items():
            if old in key:
                state_dict[key.replace(old, new)] = state_dict.pop(key)
