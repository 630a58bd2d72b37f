"""The videos that the benchmark of J and F scores: blobs that wobble and drift, and predictions that miss a little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def blobs(frames: int, height: int, width: int, objects: int, seed: int) -> np.ndarray:
    """An id map (frames, height, width) of wobbling blobs that drift across the image."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ids = np.zeros((frames, height, width), np.uint8)
    for i in range(1, objects + 1):
        centre, speed = random.uniform(0.2, 0.8, 2), random.uniform(-0.02, 0.02, 2)
        size, phase = random.uniform(0.1, 0.2) * height, random.uniform(0, 6)
        for t in range(frames):
            dy, dx = y - (centre[0] + t * speed[0]) * height, x - (centre[1] + t * speed[1]) * width
            edge = size * (1 + 0.2 * np.sin(5 * np.arctan2(dy, dx) + phase + 0.3 * t))
            ids[t][np.hypot(dy, dx) < edge] = i
    return ids


def write_pngs(folder: Path, ids: np.ndarray) -> None:
    """An id map (frames, height, width) as palette PNGs."""
    folder.mkdir(parents=True)
    for t, frame in enumerate(ids):
        image = Image.fromarray(frame)
        image.putpalette(bytes(range(256)) * 3)
        image.save(folder / f"{t:05d}.png")


def disturbed(gt: np.ndarray) -> np.ndarray:
    """A prediction: the truth moved, its upper third further."""
    pred = np.roll(gt, (2, -3), axis=(1, 2))
    third = gt.shape[1] // 3
    pred[:, :third] = np.roll(pred[:, :third], 7, axis=2)
    return pred
