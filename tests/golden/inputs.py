"""Deterministic test inputs (numpy only): textured images and moving-blob videos with masks.

All values are exact integers (uint8 / bool) so every machine gets the same bytes.
"""

import numpy as np


def _noise(rng, h, w, cells):
    """Smooth value noise in [0, 1]: a coarse random grid, bilinearly enlarged."""
    g = rng.random((cells + 2, cells + 2))
    y = np.linspace(0, cells, h)
    x = np.linspace(0, cells, w)
    yi, xi = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = (y - yi)[:, None], (x - xi)[None, :]
    a, b = g[np.ix_(yi, xi)], g[np.ix_(yi, xi + 1)]
    c, d = g[np.ix_(yi + 1, xi)], g[np.ix_(yi + 1, xi + 1)]
    return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy


def _ellipse(h, w, cy, cx, ry, rx):
    yy, xx = np.mgrid[0:h, 0:w]
    return ((yy - cy) / ry) ** 2 + ((xx - cx) / rx) ** 2 <= 1.0


def image(seed, h, w):
    """uint8 [h, w, 3] textured image with three flat-ish blobs."""
    rng = np.random.Generator(np.random.PCG64(seed))
    img = np.stack(
        [
            0.5 * _noise(rng, h, w, 6) + 0.3 * _noise(rng, h, w, 17) + 0.2 * _noise(rng, h, w, 48)
            for _ in range(3)
        ],
        -1,
    )
    for _ in range(3):
        cy, cx = rng.uniform(0.2, 0.8) * h, rng.uniform(0.2, 0.8) * w
        ry, rx = rng.uniform(0.08, 0.22) * h, rng.uniform(0.08, 0.22) * w
        m = _ellipse(h, w, cy, cx, ry, rx)
        img[m] = 0.35 * img[m] + 0.65 * rng.random(3)
    return np.clip(np.rint(img * 255), 0, 255).astype(np.uint8)


def video(seed, t, h, w):
    """frames uint8 [t, h, w, 3], masks bool [t, 2, h, w]: two blobs over a drifting background.

    Object 0 is a large ellipse moving right; object 1 a small ellipse moving down-left.
    They are drawn in order (object 1 on top); masks are the visible parts (disjoint).
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    big = np.stack([0.6 * _noise(rng, h, 2 * w, 10) + 0.4 * _noise(rng, h, 2 * w, 40) for _ in range(3)], -1)
    col = rng.random((2, 3))
    tex = np.stack([_noise(rng, h, w, 25) for _ in range(2)])
    frames = np.empty((t, h, w, 3), np.uint8)
    masks = np.zeros((t, 2, h, w), bool)
    for i in range(t):
        f = big[:, 3 * i : 3 * i + w].copy()
        a = _ellipse(h, w, 0.45 * h + 2.0 * i, 0.25 * w + 0.035 * w * i, 0.24 * h, 0.16 * w)
        b = _ellipse(h, w, 0.20 * h + 0.045 * h * i, 0.75 * w - 0.030 * w * i, 0.13 * h, 0.10 * w)
        for k, m in enumerate((a, b)):
            f[m] = 0.7 * col[k] + 0.3 * tex[k][m][:, None]
        masks[i, 0], masks[i, 1] = a & ~b, b
        frames[i] = np.clip(np.rint(f * 255), 0, 255).astype(np.uint8)
    return frames, masks


MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def model_frames(frames, size):
    """float32 [t, 3, size, size]: the exact tensors fed to the model in the video and training cases.

    Integer-free resize is avoided on purpose: nearest-neighbour pick at floor((i + 0.5) * n / size),
    /255 in float32, minus MEAN, divided by STD (float32 throughout).  No image library is involved,
    so a mismatch can never come from decoding or resizing.
    """
    t, h, w, _ = frames.shape
    yi = np.floor((np.arange(size) + 0.5) * h / size).astype(int)
    xi = np.floor((np.arange(size) + 0.5) * w / size).astype(int)
    x = frames[:, yi][:, :, xi].astype(np.float32) / np.float32(255)
    x = (x - MEAN) / STD
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def model_masks(masks, size):
    """bool [t, o, size, size] with the same nearest pick as model_frames."""
    h, w = masks.shape[-2:]
    yi = np.floor((np.arange(size) + 0.5) * h / size).astype(int)
    xi = np.floor((np.arange(size) + 0.5) * w / size).astype(int)
    return np.ascontiguousarray(masks[:, :, yi][:, :, :, xi])
