"""Names and shapes of other people's weight files, brought to those of the official ones.

Pure functions on {name: tensor}; nothing is read or written here. The rules are held by tests/sam2/test_layouts.py to
the names of the official files, of HF transformers 5.23 and of timm 1.0.31.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# segments that wrappers of torch put in the middle of names: compile, FSDP, activation checkpointing
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_HF_MARK = "vision_encoder.backbone.patch_embed.projection.weight"
_THREE_LAYERS = (
    r"(output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head|object_pointer_proj)"
)

# HF transformers -> official, applied in this order; each rule sees the answer of those before
_HF_RULES: tuple[tuple[str, str], ...] = (
    (rf"\b{_THREE_LAYERS}\.proj_out\.", r"\1.layers.2."),
    (rf"\b{_THREE_LAYERS}\.layers\.0\.", r"\1.layers.1."),
    (rf"\b{_THREE_LAYERS}\.proj_in\.", r"\1.layers.0."),
    (r"\.mlp\.proj_in\.", ".mlp.layers.0."),
    (r"\.mlp\.proj_out\.", ".mlp.layers.1."),
    (r"\.o_proj\.", ".out_proj."),
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
    (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"^prompt_encoder\.shared_embedding\.positional_embedding$",
     "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"^prompt_encoder\.", "sam_prompt_encoder."),
    (r"\.mask_embed\.conv1\.", ".mask_downscaling.0."),
    (r"\.mask_embed\.layer_norm1\.", ".mask_downscaling.1."),
    (r"\.mask_embed\.conv2\.", ".mask_downscaling.3."),
    (r"\.mask_embed\.layer_norm2\.", ".mask_downscaling.4."),
    (r"\.mask_embed\.conv3\.", ".mask_downscaling.6."),
    (r"^mask_decoder\.", "sam_mask_decoder."),
    (r"\.upscale_conv1\.", ".output_upscaling.0."),
    (r"\.upscale_layer_norm\.", ".output_upscaling.1."),
    (r"\.upscale_conv2\.", ".output_upscaling.3."),
    (r"\.mask_downsampler\.final_conv\.", ".mask_downsampler.encoder.12."),
    (r"^memory_encoder\.feature_projection\.", "memory_encoder.pix_feat_proj."),
    (r"^memory_encoder\.projection\.", "memory_encoder.out_proj."),
    (r"\.memory_fuser\.", ".fuser."),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv(\d)\.", r".pwconv\1."),
    (r"^(memory_encoder\.fuser\..*)\.scale$", r"\1.gamma"),
    (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
    (r"\.layer_norm(\d?)\.", r".norm\1."),
    (r"^object_pointer_proj\.", "obj_ptr_proj."),
    (r"^temporal_positional_encoding_projection_layer\.", "obj_ptr_tpos_proj."),
    (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
    (r"^no_object_pointer$", "no_obj_ptr"),
    (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
)  # fmt: skip
_HF_DOWNSAMPLER = re.compile(r"\.mask_downsampler\.layers\.(\d+)\.(conv|layer_norm)\.")

# what Hiera files carry beside the trunk: classifiers and the decoder of masked auto-encoding
_BESIDE_TRUNK = (
    "head.",
    "norm.",
    "encoder_norm.",
    "fc_norm.",
    "decoder_",
    "mask_token",
    "multi_scale_fusion_heads.",
)


class AmbiguousPrefixError(ValueError):
    """Two parts of a file hold the same model equally well; `choices` names them."""

    def __init__(self, prefixes: list[str]) -> None:
        self.choices = " or ".join(map(repr, prefixes))
        super().__init__(f"equally good prefixes: {self.choices}")


def unwrap(name: str) -> str:
    """`name` without the segments that compile, FSDP and activation checkpointing add."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def find_prefix(names: Iterable[str], wanted: Collection[str]) -> str | None:
    """What stands before the names of `wanted` in most of `names`; None where no name matches at all.

    Raises:
        AmbiguousPrefixError: two prefixes match equally many, as in a file with averaged weights beside the plain ones.
    """
    votes: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in wanted:
                votes["".join(f"{part}." for part in parts[:cut])] += 1
    if not votes:
        return None
    most = max(votes.values())
    best = [prefix for prefix, count in votes.items() if count == most]
    if len(best) > 1:
        raise AmbiguousPrefixError(best)
    return best[0]


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix`, by the rest of their names."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def hf_prefix(names: Iterable[str]) -> str | None:
    """What stands before the names of an HF transformers model, or None if this is not one."""
    return next((name.removesuffix(_HF_MARK) for name in names if name.endswith(_HF_MARK)), None)


def from_hf(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official names for the tensors of HF transformers' `Sam2Model` and `Sam2VideoModel`."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name == "shared_image_embedding.positional_embedding":
            continue  # the same matrix stands under prompt_encoder as well
        if name == "prompt_encoder.point_embed.weight":
            for label, row in enumerate(tensor):
                renamed[f"sam_prompt_encoder.point_embeddings.{label}.weight"] = row[None]
            continue
        renamed[_hf_name(name)] = tensor
    return renamed


def _hf_name(name: str) -> str:
    # the official encoder is one sequence of convolution, norm, activation
    name = _HF_DOWNSAMPLER.sub(
        lambda m: f".mask_downsampler.encoder.{3 * int(m[1]) + (m[2] == 'layer_norm')}.", name
    )
    for pattern, official in _HF_RULES:
        name = re.sub(pattern, official, name)
    return name


def from_timm(name: str) -> str:
    """The official name of a parameter of timm's Hiera models."""
    return name.replace(".mlp.fc1.", ".mlp.layers.0.").replace(".mlp.fc2.", ".mlp.layers.1.")


def is_beside_trunk(name: str) -> bool:
    """Whether a tensor of a Hiera file is no part of the trunk: classifier, last norm, decoder."""
    return name.startswith(_BESIDE_TRUNK)


class SplitPosition(NamedTuple):
    """`background` (1, C, gh, gw) and `window` (1, C, wh, ww); `residual`: the share of the norm they cannot say."""

    background: Tensor
    window: Tensor
    residual: float


def split_position(dense: Tensor, grid: tuple[int, int], window: tuple[int, int]) -> SplitPosition:
    """Split a position code per token into a background grid and a repeated window.

    SAM 2's trunk adds `bicubic(background) + tile(window)`, a linear map of the two; this is its least squares
    inverse of minimum norm in float64, so a code that can be split exactly comes back exactly.

    Args:
        dense: (1, N, C), N tokens of a square in row order, as in the Hiera files of timm.
        grid: cells of the background.
        window: tokens of the window; both sides divide sqrt(N).

    Raises:
        ValueError: N is no square, or the window does not divide its side.
    """
    tokens, channels = dense.shape[1:]
    side = math.isqrt(tokens)
    if side * side != tokens or side % window[0] or side % window[1]:
        raise ValueError(f"{tokens} tokens are no square that windows of {window[0]}x{window[1]} tile")
    cells = torch.eye(grid[0] * grid[1], dtype=torch.float64).view(-1, 1, *grid)
    tiles = torch.eye(window[0] * window[1], dtype=torch.float64).view(-1, 1, *window)
    basis = torch.cat(
        (
            F.interpolate(cells, (side, side), mode="bicubic", align_corners=False).flatten(1),
            tiles.tile(side // window[0], side // window[1]).flatten(1),
        )
    ).T
    wanted = dense[0].to("cpu", torch.float64)
    solution = torch.linalg.lstsq(basis, wanted, driver="gelsd").solution
    residual = torch.linalg.norm(basis @ solution - wanted) / torch.linalg.norm(wanted).clamp_min(1e-30)
    background, repeated = solution.to(dense.dtype).T.split((len(cells), len(tiles)), dim=1)
    return SplitPosition(
        background.reshape(1, channels, *grid).contiguous(),
        repeated.reshape(1, channels, *window).contiguous(),
        float(residual),
    )
