"""Segment still images from clicks, boxes and rough masks: names, defaults and answers of the reference's predictor.

Unlike there, the model may be of any resolution, holes are filled on every device, and prompts that cannot be meant are
refused. Source: the image predictor of facebookresearch/sam2, held by tests/sam2/test_image_predictor.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor, nn

from sam2.connected_components import overwrite_small
from sam2.image_prompts import Canvas, PromptError, build_prompt
from sam2.model.pixels import normalise
from sam2.model.sam2 import SAM2
from sam2.types import Features, Prompt

Answer = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]

_OPTIONS = {"mask_threshold", "max_hole_area", "max_sprinkle_area"}
# filled holes and removed specks get a logit this far beyond the threshold
_CERTAIN = 10.0
# the range of returned low-resolution logits, which is also that of mask prompts
_LOGIT_RANGE = 32.0
_LOSSLESS_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}


class SAM2ImagePredictor:
    """Embed an image once, then ask for masks as often as you like.

    Args:
        sam_model: from `build_sam2`.
        mask_threshold: logits above it are mask.
        max_hole_area: background patches of at most this many low-resolution pixels are filled.
        max_sprinkle_area: mask patches of at most this many low-resolution pixels are removed.

    Raises:
        TypeError: `sam_model` is no model, but for instance its name.
    """

    def __init__(
        self,
        sam_model: SAM2,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
    ) -> None:
        # not isinstance of SAM2: a compiled model is a wrapper around one
        if not (isinstance(sam_model, nn.Module) and hasattr(sam_model, "observe")):
            raise TypeError(
                f"sam_model is {_described(sam_model)}, expected a model: "
                "SAM2ImagePredictor(build_sam2(config, checkpoint)) or SAM2ImagePredictor.from_pretrained(file_or_id)"
            )
        self.model = sam_model
        self.mask_threshold = mask_threshold
        self.max_hole_area = max_hole_area
        self.max_sprinkle_area = max_sprinkle_area
        self.reset_predictor()

    @classmethod
    def from_pretrained(cls, model_id: str | os.PathLike[str], **kwargs: Any) -> SAM2ImagePredictor:
        """A predictor from a weight file, a folder that holds one, a run directory, or a released model's id.

        Args:
            model_id: path, or `facebook/sam2.1-hiera-large` and its sisters (fetched by huggingface_hub).
            kwargs: of this class (`mask_threshold`, ...) and of `build_sam2` (`device`, ...).
        """
        from sam2.build_sam import build_sam2_hf

        own = {name: kwargs.pop(name) for name in _OPTIONS & kwargs.keys()}
        return cls(build_sam2_hf(model_id, **kwargs), **own)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def reset_predictor(self) -> None:
        """Forget the image."""
        self._features: Features | None = None
        self._embedding: Tensor | None = None
        self._sizes: list[tuple[int, int]] = []
        self._is_batch = False

    def set_image(self, image: NDArray[np.uint8] | Image.Image) -> None:
        """Embed an image: RGB, uint8 (H, W, 3) or PIL.

        Raises:
            TypeError, ValueError: anything else, saying what it is and how to convert it.
        """
        self.reset_predictor()
        self._observe([image])

    def set_image_batch(self, image_list: Sequence[NDArray[np.uint8] | Image.Image]) -> None:
        """Embed several images, of any sizes, in one pass, for `predict_batch`."""
        self.reset_predictor()
        if not isinstance(image_list, (list, tuple)) or not image_list:
            raise TypeError(f"image_list is {_described(image_list)}, expected a list of at least one image")
        self._observe(image_list)
        self._is_batch = True

    def predict(
        self,
        point_coords: ArrayLike | Tensor | None = None,
        point_labels: ArrayLike | Tensor | None = None,
        box: ArrayLike | Tensor | None = None,
        mask_input: ArrayLike | Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Answer:
        """Masks of what the prompts point at.

        Args:
            point_coords: x, y in image pixels, (P, 2); (B, P, 2) for B objects.
            point_labels: (P,) or (B, P): 1 object, 0 background. Also the reference's other codes: -1 padding, 2 and 3
                the first and second corner of a box.
            box: x1, y1, x2, y2 in image pixels, (4,); (B, 4) for B objects. May reach over the image's edge.
            mask_input: low-resolution logits of an earlier answer, (1, S/4, S/4) for a model of S pixels.
            multimask_output: three candidates (good for one click) instead of one.
            return_logits: logits instead of 0 and 1.
            normalize_coords: coordinates are pixels; False: fractions of the image's sides.

        Returns:
            Masks (M, H, W) of the image's size, predicted IoUs (M,), low-resolution logits (M, S/4, S/4) within
            +-32, all float32. For B > 1 objects there is a leading B.

        Raises:
            RuntimeError: no image has been set, or several.
            PromptError (a ValueError): prompts that cannot be meant, which the reference answers: none at all, an
                object whose clicks are all more than a pixel outside of the image, a box all of which is outside.
        """
        if self._is_batch:
            raise RuntimeError("several images are set; ask with predict_batch, or set_image a single one")
        self._check_set("set_image")
        prompt = build_prompt(self._canvas(0, normalize_coords), point_coords, point_labels, box, mask_input)
        return _arrays(self.predict_tensors(prompt, 0, multimask_output, return_logits))

    def predict_batch(
        self,
        point_coords_batch: Sequence[ArrayLike | Tensor | None] | None = None,
        point_labels_batch: Sequence[ArrayLike | Tensor | None] | None = None,
        box_batch: Sequence[ArrayLike | Tensor | None] | None = None,
        mask_input_batch: Sequence[ArrayLike | Tensor | None] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """`predict` for each image of `set_image_batch`: lists with one entry an image in, three lists out.

        Raises:
            RuntimeError, ValueError: as `predict`, and for lists of another length; nothing has been computed then.
        """
        self._check_set("set_image_batch")
        if not self._is_batch:
            raise RuntimeError("a single image is set; ask with predict, or set several with set_image_batch")
        given = {
            "point_coords_batch": point_coords_batch,
            "point_labels_batch": point_labels_batch,
            "box_batch": box_batch,
            "mask_input_batch": mask_input_batch,
        }
        count = len(self._sizes)
        for name, values in given.items():
            if values is not None and len(values) != count:
                raise ValueError(f"{name} has {len(values)} entries for {count} images")
        prompts = []
        for i in range(count):
            asked = [None if values is None else values[i] for values in given.values()]
            try:
                prompts.append(build_prompt(self._canvas(i, normalize_coords), *asked))
            except PromptError as error:
                raise PromptError(f"image {i}: {error}") from error
        answers = [
            _arrays(self.predict_tensors(prompt, i, multimask_output, return_logits))
            for i, prompt in enumerate(prompts)
        ]
        masks, ious, low_res = zip(*answers, strict=True)
        return list(masks), list(ious), list(low_res)

    @torch.no_grad()
    def predict_tensors(
        self, prompt: Prompt, image: int = 0, multimask_output: bool = True, return_logits: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`predict` without leaving the device.

        Args:
            prompt: for B objects, in model pixels.
            image: which of the set images.
            multimask_output: three candidates instead of one.
            return_logits: logits instead of booleans.

        Returns:
            Masks (B, M, H, W), IoUs (B, M), low-resolution logits (B, M, S/4, S/4) within +-32.
        """
        self._check_set("set_image")
        low_res, ious = self._decode(prompt, image, multimask_output)
        masks = F.interpolate(self._clean(low_res), self._sizes[image], mode="bilinear", align_corners=False)
        return (
            masks if return_logits else masks > self.mask_threshold,
            ious.float(),
            low_res.clamp(-_LOGIT_RANGE, _LOGIT_RANGE),
        )

    def get_image_embedding(self) -> Tensor:
        """The stride-16 map of the set images, (F, C, h, w)."""
        self._check_set("set_image")
        assert self._embedding is not None
        return self._embedding

    @torch.no_grad()
    def _observe(self, images: Sequence[NDArray[np.uint8] | Image.Image]) -> None:
        pixels = [_pixels(image) for image in images]
        size = self.model.image_size
        batch = torch.cat([preprocess(array, size, self.device) for array in pixels])
        self._features = self.model.observe(batch)
        self._embedding = self.model.without_memory(self._features)
        self._sizes = [(array.shape[0], array.shape[1]) for array in pixels]

    def _decode(self, prompt: Prompt, image: int, several: bool) -> tuple[Tensor, Tensor]:
        """Candidates (B, M, 4h, 4w) and IoUs (B, M); a still image shows its masks whatever the object score says."""
        assert self._features is not None and self._embedding is not None
        objects = len(prompt.points)
        features = self._features.pick(image).expand(objects)
        embedding = self._embedding[image].expand(objects, -1, -1, -1)
        policy = replace(self.model.policy, hide_absent=False)
        output = self.model.decode(features, embedding, prompt, policy, several)
        return output.candidates, output.ious

    def _clean(self, low_res: Tensor) -> Tensor:
        """Without small holes and specks; both are judged on the mask as it was predicted."""
        threshold, cleaned = self.mask_threshold, low_res
        if self.max_hole_area > 0:
            holes = low_res <= threshold
            cleaned = overwrite_small(cleaned, holes, self.max_hole_area, threshold + _CERTAIN)
        if self.max_sprinkle_area > 0:
            specks = low_res > threshold
            cleaned = overwrite_small(cleaned, specks, self.max_sprinkle_area, threshold - _CERTAIN)
        return cleaned

    def _canvas(self, image: int, normalize: bool) -> Canvas:
        return Canvas(*self._sizes[image], self.model.image_size, self.device, normalize)

    def _check_set(self, method: str) -> None:
        if self._features is None:
            raise RuntimeError(f"no image is set; call {method}(...) first")


def preprocess(image: NDArray[np.uint8], size_px: int, device: torch.device) -> Tensor:
    """RGB uint8 (H, W, 3) as the trunk expects it, float32 (1, 3, size_px, size_px); the aspect is not kept.

    Bytes travel to the device, not floats; the resize is bilinear with antialiasing.
    """
    pixels = torch.from_numpy(image).to(device).permute(2, 0, 1)[None]
    unit = pixels.float() / 255
    resized = F.interpolate(unit, (size_px, size_px), mode="bilinear", align_corners=False, antialias=True)
    return normalise(resized)


def _pixels(image: NDArray[np.uint8] | Image.Image) -> NDArray[np.uint8]:
    """A checked image as a writeable array of its own layout, copied only where torch needs it."""
    if isinstance(image, Image.Image):
        if image.mode not in _LOSSLESS_MODES:
            raise ValueError(
                f"image has PIL mode {image.mode}, which RGB cannot hold; scale it to 8 bits first"
            )
        return np.array(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"image is {_described(image)}, expected a numpy array (H, W, 3) uint8 or a PIL image"
        )
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image has shape {image.shape}, expected (H, W, 3){_remedy(image.shape)}")
    if image.dtype != np.uint8:
        raise ValueError(
            f"image is {image.dtype} between {image.min():g} and {image.max():g}, expected uint8 between 0 and 255; "
            "scale it, then use .astype(np.uint8)"
        )
    plain = image.flags.writeable and all(stride >= 0 for stride in image.strides)
    return image if plain else image.copy()


def _remedy(shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return "; for a grey image use np.stack([image] * 3, axis=-1)"
    if len(shape) == 3 and shape[2] == 4:
        return "; drop the alpha channel with image[..., :3]"
    if len(shape) == 3 and shape[0] == 3:
        return "; use image.transpose(1, 2, 0)"
    return ""


def _described(value: object) -> str:
    is_empty = isinstance(value, (list, tuple)) and not value
    return f"an empty {type(value).__name__}" if is_empty else f"of type {type(value).__name__}"


def _arrays(answer: tuple[Tensor, Tensor, Tensor]) -> Answer:
    """On the host as float32; a single object loses its dimension."""
    masks, ious, low_res = (
        tensor.squeeze(0).cpu().numpy().astype(np.float32, copy=False) for tensor in answer
    )
    return masks, ious, low_res
