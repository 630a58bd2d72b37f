"""What tests of video tracking share: a tiny model whose masks are neither full nor empty, and frames to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam2.model.memory_bank import INFERENCE
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.variants import resolve

SIZE = 64


def tiny(**switches: Any) -> SAM2VideoPredictor:
    """A random model of 64 px, the same every time, with memories in float32."""
    torch.manual_seed(3)
    return SAM2VideoPredictor(resolve("test"), policy=INFERENCE, **switches).eval()


def video(frames: int, height: int = 48, width: int = 80, seed: int = 0) -> NDArray[np.uint8]:
    """(T, H, W, 3) uint8: a bright square that moves over noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 90, (frames, height, width, 3), dtype=np.uint8)
    for t in range(frames):
        left = 6 + 2 * t % (width - 24)
        pixels[t, 12:30, left : left + 16] = (230, 200, 40)
    return pixels


def square(t: int, height: int = 48, width: int = 80) -> NDArray[np.bool_]:
    """Where the square is on frame t."""
    mask = np.zeros((height, width), bool)
    left = 6 + 2 * t % (width - 24)
    mask[12:30, left : left + 16] = True
    return mask


def reachable_bytes(root: object) -> int:
    """Bytes of all tensors that can be reached from `root`; shared storage counts once."""
    seen: set[int] = set()
    storages: dict[int, int] = {}
    todo = [root]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, torch.nn.Module):
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        todo.extend(_inside(item))
    return sum(storages.values())


def _inside(item: object) -> Iterator[object]:
    if isinstance(item, dict):
        yield from item.keys()
        yield from item.values()
    elif isinstance(item, (list, tuple, set, frozenset)):
        yield from item
    elif dataclasses.is_dataclass(item) or type(item).__module__.startswith("sam2."):
        yield from vars(item).values()
