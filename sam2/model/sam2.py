"""SAM 2 as four pure verbs: observe, condition, decode, remember.

Training, image predictor, video predictor, streaming and evaluation run these same methods. `train()` and `eval()`
switch dropout and drop path only; what differs between training and inference is in the `MemoryPolicy` passed in.
Source: SAM 2 (arXiv 2408.00714); numbers held to the released implementation by tests/sam2/model/test_parity.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.model import positions
from sam2.model.fixed_shapes import FixedShapes, pad_tokens
from sam2.model.layers import MLP
from sam2.model.mask_decoder import Decoded, MaskDecoder
from sam2.model.memory_attention import MemoryAttention, Recalled
from sam2.model.memory_bank import INFERENCE, MemoryPolicy, Place, Recall, fitted, recall
from sam2.model.memory_encoder import MemoryEncoder
from sam2.model.neck import ImageEncoder
from sam2.model.prompt_encoder import PromptEncoder
from sam2.model.trunk import build_trunk
from sam2.types import Entry, Features, MaskPrompt, Memory, Output, Prompt, ShapeError
from sam2.variants import Variant

NO_OBJECT_LOGIT = -1024.0
# the released weights were trained on remembered and given masks in [-10, 10]
MASK_SCALE, MASK_BIAS = 20.0, -10.0


class SAM2(nn.Module):
    """The whole model of one variant; parameter names are those of the official files."""

    def __init__(self, variant: Variant, drop_path: float = 0.0, policy: MemoryPolicy = INFERENCE) -> None:
        super().__init__()
        heads = variant.heads
        self.variant, self.policy, self.image_size = variant, fitted(policy, heads), variant.image_size
        self.image_encoder = ImageEncoder(build_trunk(variant.trunk, drop_path), heads.width)
        self.memory_attention = MemoryAttention(heads)
        self.memory_encoder = MemoryEncoder(heads.width, heads.mem_dim)
        self.sam_prompt_encoder = PromptEncoder(heads.width)
        self.sam_mask_decoder = MaskDecoder(heads)
        self.mask_downsample = nn.Conv2d(1, 1, 4, stride=4)
        self.obj_ptr_proj = MLP(heads.width, heads.width, heads.width, 3)
        if variant.version.pointer_position_projected:
            self.obj_ptr_tpos_proj = nn.Linear(heads.width, heads.mem_dim)
        self.maskmem_tpos_enc = _embedding(heads.memory_slots, 1, 1, heads.mem_dim)
        self.no_mem_embed = _embedding(1, 1, heads.width)
        # never used, but in every official file
        self.no_mem_pos_enc = _embedding(1, 1, heads.width)
        self.no_mem_pos_enc.requires_grad_(False)
        self.no_obj_ptr = _embedding(1, heads.width)
        if variant.version.empty_memory_embedding:
            self.no_obj_embed_spatial = _embedding(1, heads.mem_dim)
        self.shapes: FixedShapes | None = None

    def observe(self, images: Tensor) -> Features:
        """Look at frames: the only place the trunk runs.

        Args:
            images: (F, 3, S, S), RGB in [0, 1] after ImageNet normalisation; S a multiple of 32.
        """
        s4, s8, s16 = self.image_encoder(images)
        code = positions.sine_2d(s16.shape[1], s16.shape[2], s16.shape[3], s16.device)
        return Features(self.sam_mask_decoder.conv_s0(s4), self.sam_mask_decoder.conv_s1(s8), s16, code[None])

    def without_memory(self, features: Features) -> Tensor:
        """The map (B, C, h, w) of frames that no memory speaks to: still images and first prompted frames."""
        return features.s16 + self.no_mem_embed[0, 0, :, None, None]

    def condition(self, features: Features, memory: Memory, place: Place, policy: MemoryPolicy) -> Tensor:
        """The map (B, C, h, w) of the frame at `place` in the light of `memory`."""
        return self.attend(features, [recall(memory, place, policy)])

    def look(self, features: Features) -> Tensor:
        """The part of `attend` that is the same for all objects of a frame, (1, h*w, C)."""
        return self.memory_attention.look(features.s16, features.position)

    def attend(self, features: Features, recalls: Sequence[Recall], looked: Tensor | None = None) -> Tensor:
        """`condition` for objects that remember each for themselves.

        Args:
            features: of the frame, one row an object or one for all of them.
            recalls: of one form (`Recall.form`), their entries' rows together as many as those of `features`.
            looked: of these features, from `look`, where it is there already.
        """
        if not recalls[0].maps and not recalls[0].pointers:
            return self.without_memory(features)
        recalled = self._recollect(recalls) if self.shapes is None else self._recollect_padded(recalls)
        recalled = recalled.to(features.s16.dtype)
        return self.memory_attention(features.s16, features.position, recalled, looked)

    def compile_for_tracking(self, shapes: FixedShapes | None = None, **options: Any) -> None:
        """Compile what every tracked frame runs, and pad so that it has one shape throughout.

        Args:
            shapes: room for what varies.
            options: of torch.compile.
        """
        self.shapes = shapes or FixedShapes()
        for part in (self.image_encoder, self.memory_attention, self.sam_mask_decoder, self.memory_encoder):
            part.compile(dynamic=False, **options)

    def decode(
        self,
        features: Features,
        conditioned: Tensor,
        prompt: Prompt | MaskPrompt,
        policy: MemoryPolicy,
        several: bool | None = None,
    ) -> Output:
        """Answer a prompt on a frame.

        Args:
            features: of the frame, one row an object or one for all of them.
            conditioned: (B, C, h, w), from `condition` or `without_memory`.
            prompt: clicks and boxes, or the mask itself; `no_prompt(B)` on tracked frames.
            policy: its stability rule, and whether absent objects are hidden.
            several: whether to give three candidates; by default yes for at most one click (boxes count as two).
        """
        if isinstance(prompt, MaskPrompt):
            return self._answer_given(features, prompt.masks)
        if several is None:
            several = prompt.labels.shape[1] <= 1
        decoded = self._decode(features, conditioned, prompt)
        if several:
            candidates, ious, tokens = decoded.masks[:, 1:], decoded.ious[:, 1:], decoded.tokens[:, 1:]
        else:
            candidates, ious = settle(decoded, policy)
            tokens = decoded.tokens[:, :1]
        visible, candidates = decoded.object_logit > 0, candidates.float()
        if policy.hide_absent:
            candidates = candidates.masked_fill(~visible[:, :, None, None], NO_OBJECT_LOGIT)
        best = ious.argmax(dim=1)
        return Output(
            low_res=_take(candidates, best),
            candidates=candidates,
            ious=ious,
            object_logit=decoded.object_logit,
            pointer=self._pointer(_take(tokens, best)[:, 0], visible),
            tokens=tokens,
        )

    def choose(self, output: Output, candidates: Tensor) -> Output:
        """`output` settled on other candidates than the likeliest, one index (B,) an object."""
        if output.tokens is None:
            raise ShapeError("a given mask has no candidates to choose from")
        low_res = _take(output.candidates, candidates)
        pointer = self._pointer(_take(output.tokens, candidates)[:, 0], output.object_logit > 0)
        return Output(low_res, low_res, _take(output.ious, candidates), output.object_logit, pointer)

    def remember(
        self, features: Features, output: Output, frame: int, is_prompted: bool, policy: MemoryPolicy
    ) -> Entry:
        """Turn one frame's answer into something later frames can attend to."""
        logits = output.logits(self.image_size)
        if policy.non_overlap:
            logits = suppress_overlap(logits)
        binarise = policy.binarise_prompted and is_prompted
        masks = (logits > 0).to(logits.dtype) if binarise else logits.sigmoid()
        spatial = self.memory_encoder(features.s16, masks * MASK_SCALE + MASK_BIAS)
        if self.variant.version.empty_memory_embedding:
            hidden = (output.object_logit <= 0)[:, :, None, None]
            spatial = spatial + hidden * self.no_obj_embed_spatial[:, :, None, None]
        if policy.storage is not None:
            spatial = spatial.to(policy.storage)
        return Entry(frame, is_prompted, spatial, output.pointer, output.object_logit)

    def step(
        self,
        features: Features,
        memory: Memory,
        place: Place,
        policy: MemoryPolicy,
        prompt: Prompt | MaskPrompt | None = None,
    ) -> tuple[Output, Memory]:
        """Condition, decode and remember one frame; without a prompt it is tracked.

        A prompt makes this a first frame of its objects, which looks at no memory.
        """
        conditioned = (
            self.condition(features, memory, place, policy)
            if prompt is None
            else self.without_memory(features)
        )
        asked = no_prompt(len(features), features.s16.device) if prompt is None else prompt
        output = self.decode(features, conditioned, asked, policy)
        return output, memory.add(self.remember(features, output, place.frame, prompt is not None, policy))

    def _decode(self, features: Features, conditioned: Tensor, prompt: Prompt) -> Decoded:
        cells = conditioned.shape[-2:]
        tokens, dense = self.sam_prompt_encoder(prompt, self.image_size, cells)
        code = self.sam_prompt_encoder.pe_layer.grid(*cells)
        keep = None
        if self.shapes is not None:
            tokens, keep = self.shapes.padded_points(tokens)
        return self.sam_mask_decoder(features, conditioned + dense, code, tokens, keep)

    def _answer_given(self, features: Features, masks: Tensor) -> Output:
        """A mask given from outside is the answer; the decoder only makes its pointer, from the raw map."""
        masks = masks.float()
        size = (self.image_size // 4, self.image_size // 4)
        given = masks * MASK_SCALE + MASK_BIAS
        low_res = F.interpolate(given, size, mode="bilinear", align_corners=False, antialias=True)
        prompt = no_prompt(len(masks), masks.device, self.mask_downsample(masks))
        decoded = self._decode(features, features.s16, prompt)
        pointer = self._pointer(decoded.tokens[:, 0], decoded.object_logit > 0)
        visible = masks.flatten(1).gt(0).any(dim=1, keepdim=True)
        return Output(
            low_res=low_res,
            candidates=low_res,
            ious=masks.new_ones(len(masks), 1),
            object_logit=visible * MASK_SCALE + MASK_BIAS,
            pointer=torch.where(visible, pointer, self.no_obj_ptr),
            given=given,
        )

    def _pointer(self, token: Tensor, visible: Tensor) -> Tensor:
        return torch.where(visible, self.obj_ptr_proj(token), self.no_obj_ptr)

    def _recollect(self, recalls: Sequence[Recall]) -> Recalled:
        """The tokens of recalls of one form."""
        maps, pointers = self._map_tokens(recalls), self._pointer_tokens(recalls)
        parts = [part for part in (maps, pointers) if part is not None]
        tokens = torch.cat([tokens for tokens, _ in parts], dim=1)
        rows = max(len(code) for _, code in parts)
        code = torch.cat([code.expand(rows, -1, -1) for _, code in parts], dim=1)
        return Recalled(tokens, code, 0 if pointers is None else pointers[0].shape[1])

    def _recollect_padded(self, recalls: Sequence[Recall]) -> Recalled:
        """The tokens of recalls of any form, in one shape."""
        assert self.shapes is not None
        maps, pointers = self.shapes.maps_and_pointers(recalls, self.policy)
        heads = self.variant.heads
        room = maps * (self.image_size // 16) ** 2, pointers * (heads.width // heads.mem_dim)
        rows = []
        for found in recalls:
            parts = self._map_tokens([found]), self._pointer_tokens([found])
            count = max(len(part[0]) for part in parts if part is not None)
            nothing = self.maskmem_tpos_enc.new_zeros(count, 0, heads.mem_dim)
            columns = []
            for part, size in zip(parts, room, strict=True):
                tokens, code = (nothing, nothing) if part is None else part
                keep = torch.arange(size, device=tokens.device) < tokens.shape[1]
                code = code.expand(count, -1, -1)
                columns.append((pad_tokens(tokens, size), pad_tokens(code, size), keep.expand(count, -1)))
            rows.append([torch.cat([a.to(b.dtype), b], dim=1) for a, b in zip(*columns, strict=True)])
        tokens, code, keep = (torch.cat(column) for column in zip(*rows, strict=True))
        return Recalled(tokens, code, room[1], keep)

    def _map_tokens(self, recalls: Sequence[Recall]) -> tuple[Tensor, Tensor] | None:
        """Tokens (B, N*h*w, D) and codes (1, N*h*w, D) of N remembered maps: sine in space, learned in time."""
        rows = [row for _, row in recalls[0].maps]
        if not rows:
            return None
        maps = [_stacked([r.maps[i][0].spatial for r in recalls]) for i in range(len(rows))]
        channels, height, width = maps[0].shape[1:]
        place = positions.sine_2d(channels, height, width, maps[0].device).flatten(1).T
        code = [place + self.maskmem_tpos_enc[row, 0] for row in rows]
        tokens = torch.cat([spatial.flatten(2).transpose(1, 2) for spatial in maps], dim=1)
        return tokens, torch.cat(code)[None]

    def _pointer_tokens(self, recalls: Sequence[Recall]) -> tuple[Tensor, Tensor] | None:
        """Tokens (B, N*k, D) of N pointers, each split into k = C / D tokens that share one position, and codes."""
        if not recalls[0].pointers:
            return None
        width, dim = self.variant.heads.width, self.variant.heads.mem_dim
        stacked = _stacked([torch.stack([e.pointer for e, _ in r.pointers], dim=1) for r in recalls])
        tokens = stacked.unflatten(2, (width // dim, dim)).flatten(1, 2)
        if not self.variant.version.pointer_position:
            return tokens, tokens.new_zeros(1, tokens.shape[1], dim)
        distances = [_distances(r) for r in recalls]
        if all(row == distances[0] for row in distances):
            distances = distances[:1]  # objects that came together share their codes
        place = _upload(distances, stacked.device)
        if not self.variant.version.pointer_position_signed:
            place = place.abs()
        code = positions.sine_1d(place.flatten(), width if self._projects_position else dim)
        code = self.obj_ptr_tpos_proj(code) if self._projects_position else code
        code = code.unflatten(0, place.shape).repeat_interleave(width // dim, dim=1)
        if len(distances) > 1:
            code = torch.cat([row.expand(_rows(r), -1, -1) for row, r in zip(code, recalls, strict=True)])
        return tokens, code

    @property
    def _projects_position(self) -> bool:
        return self.variant.version.pointer_position_projected


def no_prompt(objects: int, device: torch.device, mask_logits: Tensor | None = None) -> Prompt:
    """What a tracked frame is asked: one padding point, as the released weights were trained."""
    points = torch.zeros(objects, 1, 2, device=device)
    return Prompt(points, torch.full((objects, 1), -1, device=device), mask_logits)


def settle(decoded: Decoded, policy: MemoryPolicy) -> tuple[Tensor, Tensor]:
    """The single-mask answer (B, 1, 4h, 4w) and IoU (B, 1), or the best of three where it is unstable.

    Stability is the overlap of the mask at a slightly higher with that at a slightly lower threshold.
    """
    single, iou = decoded.masks[:, :1], decoded.ious[:, :1]
    if policy.stability_threshold <= 0:
        return single, iou
    flat = single.flatten(2)
    inner = (flat > policy.stability_delta).sum(-1).float()
    outer = (flat > -policy.stability_delta).sum(-1).float()
    stability = torch.where(outer > 0, inner / outer, 1.0)
    best = decoded.ious[:, 1:].argmax(dim=1)
    keep = stability >= policy.stability_threshold
    masks = torch.where(keep[:, :, None, None], single, _take(decoded.masks[:, 1:], best))
    return masks, torch.where(keep, iou, _take(decoded.ious[:, 1:], best))


def suppress_overlap(logits: Tensor) -> Tensor:
    """Objects of one frame (B, 1, H, W): all but the highest at a pixel are pushed to -10 or below."""
    if len(logits) == 1:
        return logits
    winner = logits.argmax(dim=0, keepdim=True)
    own = torch.arange(len(logits), device=logits.device)[:, None, None, None]
    return torch.where(winner == own, logits, logits.clamp(max=-10.0))


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Row `index[b]` of x[b], kept as a dimension of one: (B, M, ...) -> (B, 1, ...)."""
    shape = (-1, 1, *[1] * (x.dim() - 2))
    return x.gather(1, index.view(shape).expand(-1, 1, *x.shape[2:]))


def _distances(found: Recall) -> list[float]:
    """How far back each pointer is, as a share of the reach."""
    return [back / max(found.reach - 1, 1) for _, back in found.pointers]


def _rows(found: Recall) -> int:
    """How many objects a recall is of."""
    return len(found.pointers[0][0].pointer)


def _stacked(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _upload(values: list[list[float]], device: torch.device) -> Tensor:
    """A host list as a float32 tensor; a GPU fetches it by itself, without the host waiting for its queue."""
    host = torch.tensor(values)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)


def _embedding(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.zeros(shape), std=0.02))
