"""Predictions without a model: what any model must beat.

They are per-object masks, scored by the same engine as a model's (`sam2.evaluation.jf.score_masks`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2.evaluation.boundary import Bools


def object_masks(id_map: NDArray[Any]) -> tuple[tuple[int, ...], Bools]:
    """The objects of an id map (T, H, W) as masks (T, O, H, W), ids ascending, background left out."""
    if id_map.ndim != 3 or id_map.dtype.kind not in "iu":
        raise ValueError(f"an id map is (T, H, W) integers, got {id_map.dtype} {id_map.shape}")
    ids = [int(i) for i in np.unique(id_map) if i > 0]
    masks = np.zeros((id_map.shape[0], len(ids), *id_map.shape[1:]), bool)
    for o, i in enumerate(ids):
        np.equal(id_map, i, out=masks[:, o])
    return tuple(ids), masks


def copy_first_mask(masks: Bools) -> Bools:
    """Each object stays for ever as it first appears, and is absent before; masks (T, O, H, W)."""
    _check(masks)
    predicted = np.zeros_like(masks)
    for o in range(masks.shape[1]):
        visible = np.flatnonzero(masks[:, o].any((1, 2)))
        if visible.size:
            predicted[visible[0] :, o] = masks[visible[0], o]
    return predicted


def everything_foreground(masks: Bools) -> Bools:
    """Every pixel of every frame belongs to every object: (T, O, H, W), a view of one value."""
    _check(masks)
    return np.broadcast_to(np.True_, masks.shape)


def all_foreground(masks: Bools) -> Bools:
    """Every object is the union of all objects' true masks, frame by frame: (T, O, H, W), a view.

    What a perfect segmentation that cannot tell objects apart would score. It knows the truth of every frame, so it
    is a high bar where objects are few, and the one to beat for a claim that objects are followed.
    """
    _check(masks)
    return np.broadcast_to(masks.any(axis=1, keepdims=True), masks.shape)


def _check(masks: Bools) -> None:
    if masks.ndim != 4 or masks.dtype != bool:
        raise ValueError(f"masks are (T, O, H, W) bool, got {masks.dtype} {masks.shape}")
