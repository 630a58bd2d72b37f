"""The reference's model settings, by their names there, as values of a variant and a memory policy here.

People carry overrides such as `++model.image_size=512` and edited configuration files from the reference. Every
setting that it has is known here: it has an effect, is fixed, or has none, and then the reason is said.
Source: configurations and constructors of facebookresearch/sam2 2b90b9f.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sam2.model.memory_bank import INFERENCE, MemoryPolicy
from sam2.variants import VARIANTS, Heads, Trunk, Variant


class SettingError(ValueError):
    """A setting that does not exist here, cannot take this value, or is malformed."""


@dataclass(frozen=True)
class VideoSwitches:
    """Settings of the video predictor alone, by their names in the reference."""

    fill_hole_area: int = 0
    non_overlap_masks: bool = False
    clear_non_cond_mem_around_input: bool = False
    add_all_frames_to_correct_as_cond: bool = False


@dataclass(frozen=True)
class Recipe:
    """All that is needed to build a model."""

    variant: Variant
    policy: MemoryPolicy
    drop_path: float = 0.0
    compile_image_encoder: bool = False
    video: VideoSwitches = VideoSwitches()


class _Free(NamedTuple):
    """A setting with an effect: `kind` checks its value, `target` says which field it is."""

    kind: type
    target: str


class _Fixed(NamedTuple):
    """A setting with one value: equal values are accepted, others refused for `reason`."""

    value: Any
    reason: str


_STABILITY = "sam_mask_decoder_extra_args.dynamic_multimask_"
_LAYER = "memory_attention.layer."
_DROPOUTS = (f"{_LAYER}dropout", f"{_LAYER}self_attention.dropout", f"{_LAYER}cross_attention.dropout")

_FREE: dict[str, _Free] = {
    "image_size": _Free(int, "variant.image_size"),
    "num_maskmem": _Free(int, "heads.memory_slots"),
    "max_obj_ptrs_in_encoder": _Free(int, "heads.max_pointers"),
    "iou_prediction_use_sigmoid": _Free(bool, "heads.iou_sigmoid"),
    "memory_encoder.out_dim": _Free(int, "heads.mem_dim"),
    "memory_attention.num_layers": _Free(int, "heads.memory_layers"),
    f"{_LAYER}dim_feedforward": _Free(int, "heads.memory_mlp"),
    **{name: _Free(float, "heads.dropout") for name in _DROPOUTS},
    "no_obj_embed_spatial": _Free(bool, "version.empty_memory_embedding"),
    "add_tpos_enc_to_obj_ptrs": _Free(bool, "version.pointer_position"),
    "proj_tpos_enc_in_obj_ptrs": _Free(bool, "version.pointer_position_projected"),
    "use_signed_tpos_enc_to_obj_ptrs": _Free(bool, "version.pointer_position_signed"),
    "memory_temporal_stride_for_eval": _Free(int, "policy.stride"),
    "max_cond_frames_in_attn": _Free(int, "policy.max_prompted"),
    "only_obj_ptrs_in_the_past_for_eval": _Free(bool, "policy.pointers_past_only"),
    "binarize_mask_from_pts_for_mem_enc": _Free(bool, "policy.binarise_prompted"),
    "non_overlap_masks_for_mem_enc": _Free(bool, "policy.non_overlap"),
    f"{_STABILITY}via_stability": _Free(bool, "stability.on"),
    f"{_STABILITY}stability_delta": _Free(float, "policy.stability_delta"),
    f"{_STABILITY}stability_thresh": _Free(float, "stability.threshold"),
    "fill_hole_area": _Free(int, "video.fill_hole_area"),
    "non_overlap_masks": _Free(bool, "video.non_overlap_masks"),
    "clear_non_cond_mem_around_input": _Free(bool, "video.clear_non_cond_mem_around_input"),
    "add_all_frames_to_correct_as_cond": _Free(bool, "video.add_all_frames_to_correct_as_cond"),
    "image_encoder.trunk.drop_path_rate": _Free(float, "recipe.drop_path"),
    "compile_image_encoder": _Free(bool, "recipe.compile_image_encoder"),
}

_TRAINED = "the released weights were trained with it"
_STRUCTURE = "it is part of the architecture"
_FOLLOWS = "it follows model.memory_encoder.out_dim"
_MEMORY_WIDTHS = (
    f"{_LAYER}cross_attention.kv_in_dim",
    "memory_encoder.position_encoding.num_pos_feats",
)
_FIXED: dict[str, _Fixed] = {
    "backbone_stride": _Fixed(16, _STRUCTURE),
    "sigmoid_scale_for_mem_enc": _Fixed(20.0, _TRAINED),
    "sigmoid_bias_for_mem_enc": _Fixed(-10.0, _TRAINED),
    "use_mask_input_as_output_without_sam": _Fixed(True, "a given mask is always the answer"),
    "directly_add_no_mem_embed": _Fixed(True, _TRAINED),
    "use_high_res_features_in_sam": _Fixed(True, _STRUCTURE),
    "multimask_output_in_sam": _Fixed(True, _TRAINED),
    "multimask_output_for_tracking": _Fixed(True, _TRAINED),
    "multimask_min_pt_num": _Fixed(0, _TRAINED),
    "multimask_max_pt_num": _Fixed(1, _TRAINED),
    "use_multimask_token_for_obj_ptr": _Fixed(True, _TRAINED),
    "use_obj_ptrs_in_encoder": _Fixed(True, _STRUCTURE),
    "use_mlp_for_obj_ptr_proj": _Fixed(True, _STRUCTURE),
    "pred_obj_scores": _Fixed(True, _STRUCTURE),
    "pred_obj_scores_mlp": _Fixed(True, _STRUCTURE),
    "fixed_no_obj_ptr": _Fixed(True, _TRAINED),
    "soft_no_obj_ptr": _Fixed(False, _TRAINED),
    "freeze_image_encoder": _Fixed(False, "what is frozen is a setting of training"),
    "clear_non_cond_mem_for_multi_obj": _Fixed(
        False, "every object has its own memory; the other setting does it"
    ),
    "image_encoder.scalp": _Fixed(1, _STRUCTURE),
    "image_encoder.trunk.weights_path": _Fixed(None, "start a trunk with sam2.checkpoint.load_trunk"),
    "image_encoder.neck.fpn_top_down_levels": _Fixed([2, 3], _STRUCTURE),
    "image_encoder.neck.fpn_interp_model": _Fixed("nearest", _STRUCTURE),
    "memory_attention.pos_enc_at_input": _Fixed(True, _STRUCTURE),
    f"{_LAYER}activation": _Fixed("relu", _STRUCTURE),
    f"{_LAYER}pos_enc_at_attn": _Fixed(False, _STRUCTURE),
    f"{_LAYER}pos_enc_at_cross_attn_keys": _Fixed(True, _STRUCTURE),
    f"{_LAYER}pos_enc_at_cross_attn_queries": _Fixed(False, _STRUCTURE),
    f"{_LAYER}cross_attention.rope_k_repeat": _Fixed(True, _STRUCTURE),
    "memory_encoder.mask_downsampler.kernel_size": _Fixed(3, _STRUCTURE),
    "memory_encoder.mask_downsampler.stride": _Fixed(2, _STRUCTURE),
    "memory_encoder.mask_downsampler.padding": _Fixed(1, _STRUCTURE),
    "memory_encoder.fuser.num_layers": _Fixed(2, _STRUCTURE),
    "memory_encoder.fuser.layer.kernel_size": _Fixed(7, _STRUCTURE),
    "memory_encoder.fuser.layer.padding": _Fixed(3, _STRUCTURE),
    "memory_encoder.fuser.layer.layer_scale_init_value": _Fixed(1e-6, _STRUCTURE),
    "memory_encoder.fuser.layer.use_dwconv": _Fixed(True, _STRUCTURE),
    **{
        f"{_LAYER}{part}.{name}": _Fixed(value, _STRUCTURE)
        for part in ("self_attention", "cross_attention")
        for name, value in {"rope_theta": 10000.0, "num_heads": 1, "downsample_rate": 1}.items()
    },
    **{
        f"{part}.position_encoding.{name}": _Fixed(value, _STRUCTURE)
        for part in ("image_encoder.neck", "memory_encoder")
        for name, value in {"normalize": True, "scale": None, "temperature": 10000}.items()
    },
}

# any value will do: tables of positions follow the image size
_NO_EFFECT = {f"{_LAYER}{part}.feat_sizes" for part in ("self_attention", "cross_attention")}

# the trunk's numbers, where they differ from what the reference takes for those that a file does not give
_TRUNK = "image_encoder.trunk."
_TRUNK_DEFAULTS: dict[str, Any] = {
    "embed_dim": 96,
    "num_heads": 1,
    "stages": [2, 3, 16, 3],
    "global_att_blocks": [12, 16, 20],
    "window_pos_embed_bkg_spatial_size": [14, 14],
    "window_spec": [8, 4, 14, 7],
}
_GRID_7 = {"window_pos_embed_bkg_spatial_size": [7, 7]}
_TRUNKS: dict[str, dict[str, Any]] = {
    "sam2_hiera_tiny": {"stages": [1, 2, 7, 2], "global_att_blocks": [5, 7, 9], **_GRID_7},
    "sam2_hiera_small": {"stages": [1, 2, 11, 2], "global_att_blocks": [7, 10, 13], **_GRID_7},
    "sam2_hiera_base_plus": {"embed_dim": 112, "num_heads": 2},
    "sam2_hiera_large": {
        "embed_dim": 144,
        "num_heads": 2,
        "stages": [2, 6, 36, 4],
        "global_att_blocks": [23, 33, 43],
        "window_spec": [8, 4, 16, 8],
        **_GRID_7,
    },
}

_TARGET = "_target_"
_CLASSES = {
    "SAM2Base", "ImageEncoder", "Hiera", "FpnNeck", "PositionEmbeddingSine", "MemoryAttention", "MemoryAttentionLayer",
    "RoPEAttention", "MemoryEncoder", "MaskDownSampler", "Fuser", "CXBlock",
}  # fmt: skip


def recipe(variant: Variant, settings: Mapping[str, Any], postprocessing: bool = True) -> Recipe:
    """The recipe of `variant` with the reference's `settings` (names without `model.`) applied.

    Args:
        variant: to start from.
        settings: flat, `{"image_size": 512, "memory_attention.num_layers": 4}`.
        postprocessing: the reference's inference defaults: an unstable single mask gives way to the best of three,
            prompted masks are remembered as yes or no. Settings given explicitly win.

    Raises:
        SettingError: an unknown setting (with the closest known), another value of a fixed one (with the reason), or
            a value of the wrong kind.
    """
    fields: dict[str, dict[str, Any]] = {
        part: {} for part in ("variant", "heads", "version", "policy", "video", "recipe")
    }
    stability = {"on": postprocessing, "threshold": INFERENCE.stability_threshold}
    fields["stability"] = stability
    for name, value in settings.items():
        if name in _FREE:
            part, field = _FREE[name].target.split(".")
            fields[part][field] = _checked(name, value, _FREE[name].kind)
    heads = _heads(variant, fields["heads"])
    for name, value in settings.items():
        if name not in _FREE:
            _check_fixed(name, value, replace(variant, heads=heads))
    _check_dropouts(settings, variant)
    version = replace(variant.version, **fields["version"])
    if version.pointer_position_projected and not version.pointer_position:
        raise SettingError("model.proj_tpos_enc_in_obj_ptrs needs model.add_tpos_enc_to_obj_ptrs=true")
    policy = INFERENCE if postprocessing else replace(INFERENCE, binarise_prompted=False)
    return Recipe(
        variant=replace(variant, heads=heads, version=version, **fields["variant"]),
        policy=replace(
            policy,
            slots=heads.memory_slots,
            max_pointers=heads.max_pointers,
            stability_threshold=stability["threshold"] if stability["on"] else 0.0,
            **fields["policy"],
        ),
        video=VideoSwitches(**fields["video"]),
        **fields["recipe"],
    )


def recognise(settings: Mapping[str, Any]) -> Variant:
    """The released variant whose trunk and version the settings of a complete reference configuration describe.

    Raises:
        SettingError: none has this trunk.
    """
    given = {name: settings.get(f"{_TRUNK}{name}", default) for name, default in _TRUNK_DEFAULTS.items()}
    new = bool(settings.get("no_obj_embed_spatial", False))
    for variant in VARIANTS.values():
        if variant.version.empty_memory_embedding == new and _same(_trunk_numbers(variant.trunk), given):
            return variant
    raise SettingError(f"no released model has a trunk of {given}; known: {', '.join(_TRUNKS)}")


def _heads(variant: Variant, changes: Mapping[str, Any]) -> Heads:
    try:
        return replace(variant.heads, **changes)
    except ValueError as error:
        # its message starts with the name of the field
        field = str(error).partition(" ")[0]
        name = next((key for key, free in _FREE.items() if free.target == f"heads.{field}"), field)
        raise SettingError(f"model.{name}: {error}") from error


def _check_fixed(name: str, value: Any, variant: Variant) -> None:
    if name == _TARGET or name.endswith(f".{_TARGET}"):
        if str(value).rsplit(".", 1)[-1] not in _CLASSES:
            raise SettingError(f"model.{name}={value}: this class is no part of the model here")
        return
    fixed = {
        **_FIXED,
        **{key: _Fixed(number, _STRUCTURE) for key, number in _numbers(variant).items()},
        **{key: _Fixed(variant.heads.mem_dim, _FOLLOWS) for key in _MEMORY_WIDTHS},
    }
    if name in fixed:
        if not _same(fixed[name].value, value):
            raise SettingError(
                f"model.{name} is always {fixed[name].value} here, got {value}: {fixed[name].reason}"
            )
    elif name not in _NO_EFFECT:
        known = sorted({*_FREE, *fixed, *_NO_EFFECT})
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f"; did you mean model.{close[0]}?" if close else ""
        effective = ", ".join(f"model.{key}" for key in _FREE)
        raise SettingError(f"unknown setting model.{name}{hint} Settings with an effect: {effective}")


def _check_dropouts(settings: Mapping[str, Any], variant: Variant) -> None:
    rates = {name: settings.get(name, variant.heads.dropout) for name in _DROPOUTS}
    if len({float(rate) for rate in rates.values()}) > 1:
        listed = ", ".join(f"model.{name}={rate}" for name, rate in rates.items())
        raise SettingError(f"memory attention has one dropout rate here; set all three alike: {listed}")


def _numbers(variant: Variant) -> dict[str, Any]:
    """Settings that the variant's widths decide."""
    width, trunk = variant.heads.width, _trunk_numbers(variant.trunk)
    return {
        **{f"{_TRUNK}{name}": number for name, number in trunk.items()},
        "image_encoder.neck.d_model": width,
        "image_encoder.neck.position_encoding.num_pos_feats": width,
        "image_encoder.neck.backbone_channel_list": [trunk["embed_dim"] * 2**stage for stage in (3, 2, 1, 0)],
        "memory_attention.d_model": width,
        f"{_LAYER}d_model": width,
        f"{_LAYER}self_attention.embedding_dim": width,
        f"{_LAYER}cross_attention.embedding_dim": width,
        "memory_encoder.fuser.layer.dim": width,
    }


def _trunk_numbers(trunk: Trunk) -> dict[str, Any]:
    own = {
        {"global_pos_size": "window_pos_embed_bkg_spatial_size"}.get(k, k): v
        for k, v in trunk.options.items()
    }
    numbers = {**_TRUNK_DEFAULTS, **_TRUNKS.get(trunk.timm_name, {}), **own}
    return {name: numbers[name] for name in _TRUNK_DEFAULTS}


def _checked(name: str, value: Any, kind: type) -> Any:
    value = _number(value)
    if kind is bool and isinstance(value, bool):
        return value
    if (
        kind is int
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
        and value == int(value)
    ):
        return int(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    expected = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
    raise SettingError(f"model.{name}={value}: expected {expected}")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(_number(a) == _number(b))


def _number(value: Any) -> Any:
    """YAML reads 1e-6 as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
