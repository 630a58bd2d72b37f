"""SAM 2 as four pure verbs: observe, condition, decode, remember.

Training, image predictor, video predictor, streaming and evaluation run these same methods. `train()` and `eval()`
switch dropout and drop path only; what differs between training and inference is in the `MemoryPolicy` passed in.
Source: SAM 2 (arXiv 2408.00714); numbers held to the released implementation by tests/sam2/model/test_parity.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.model import positions
from sam2.model.layers import MLP
from sam2.model.mask_decoder import Decoded, MaskDecoder
from sam2.model.memory_attention import MemoryAttention, Recalled
from sam2.model.memory_bank import INFERENCE, MemoryPolicy, Place, fitted, recall
from sam2.model.memory_encoder import MemoryEncoder
from sam2.model.neck import ImageEncoder
from sam2.model.prompt_encoder import PromptEncoder
from sam2.model.trunk import build_trunk
from sam2.types import Entry, Features, MaskPrompt, Memory, Output, Prompt
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
        self.memory_encoder = MemoryEncoder(heads.width, heads.memory_dim)
        self.sam_prompt_encoder = PromptEncoder(heads.width)
        self.sam_mask_decoder = MaskDecoder(heads)
        self.mask_downsample = nn.Conv2d(1, 1, 4, stride=4)
        self.obj_ptr_proj = MLP(heads.width, heads.width, heads.width, 3)
        if variant.version.pointer_position_projected:
            self.obj_ptr_tpos_proj = nn.Linear(heads.width, heads.memory_dim)
        self.maskmem_tpos_enc = _embedding(heads.memory_slots, 1, 1, heads.memory_dim)
        self.no_mem_embed = _embedding(1, 1, heads.width)
        # never used, but in every official file
        self.no_mem_pos_enc = _embedding(1, 1, heads.width)
        self.no_mem_pos_enc.requires_grad_(False)
        self.no_obj_ptr = _embedding(1, heads.width)
        if variant.version.empty_memory_embedding:
            self.no_obj_embed_spatial = _embedding(1, heads.memory_dim)

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
        found = recall(memory, place, policy)
        if not found.maps and not found.pointers:
            return self.without_memory(features)
        maps = [self._map_tokens(entry, row) for entry, row in found.maps]
        pointers = self._pointer_tokens(found.pointers, found.reach)
        parts = [*maps, *pointers]
        dtype = features.s16.dtype
        recalled = Recalled(
            tokens=torch.cat([tokens for tokens, _ in parts], dim=1).to(dtype),
            code=torch.cat([code.expand_as(tokens) for tokens, code in parts], dim=1).to(dtype),
            pointer_tokens=sum(tokens.shape[1] for tokens, _ in pointers),
        )
        return self.memory_attention(features.s16, features.position, recalled)

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
            features: of the frame, one row an object.
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
        )

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
        return self.sam_mask_decoder(features, conditioned + dense, code, tokens)

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

    def _map_tokens(self, entry: Entry, row: int) -> tuple[Tensor, Tensor]:
        """Tokens (B, h*w, D) and codes (1, h*w, D) of a remembered map: sine in space, learned in time."""
        channels, height, width = entry.spatial.shape[1:]
        place = positions.sine_2d(channels, height, width, entry.spatial.device).flatten(1).T
        return entry.spatial.flatten(2).transpose(1, 2), (place + self.maskmem_tpos_enc[row, 0])[None]

    def _pointer_tokens(self, pointers: list[tuple[Entry, int]], reach: int) -> list[tuple[Tensor, Tensor]]:
        """Tokens (B, N, D) of all pointers: each is split into C / D tokens that share one position."""
        if not pointers:
            return []
        width, dim = self.variant.heads.width, self.variant.heads.memory_dim
        stacked = torch.stack([entry.pointer for entry, _ in pointers], dim=1)
        if self.variant.version.pointer_position:
            back = _upload([float(b) for _, b in pointers], stacked.device)
            if not self.variant.version.pointer_position_signed:
                back = back.abs()
            code = positions.sine_1d(back / max(reach - 1, 1), width if self._projects_position else dim)
            code = self.obj_ptr_tpos_proj(code) if self._projects_position else code
        else:
            code = stacked.new_zeros(len(pointers), dim)
        tokens = stacked.unflatten(2, (width // dim, dim)).flatten(1, 2)
        return [(tokens, code.repeat_interleave(width // dim, dim=0)[None])]

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


def _upload(values: list[float], device: torch.device) -> Tensor:
    """A host list as a float32 tensor; a GPU fetches it by itself, without the host waiting for its queue."""
    host = torch.tensor(values)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)


def _embedding(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.zeros(shape), std=0.02))
