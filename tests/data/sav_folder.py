"""Tiny videos in SA-V's layout whose frames carry their own number."""

import json
from pathlib import Path

import av
import numpy as np
from pycocotools import mask as coco

BITS = 8


def numbered_frame(number, height, width):
    """A grey picture; its top quarter spells `number` in eight black or white blocks."""
    frame = np.full((height, width, 3), 100, np.uint8)
    for bit in range(BITS):
        block = slice(bit * width // BITS, (bit + 1) * width // BITS)
        frame[: height // 4, block] = 255 * (number >> bit & 1)
    return frame


def number_in(frame):
    """What `numbered_frame` wrote, read back from a picture that may have been compressed."""
    height, width = frame.shape[:2]
    centres = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum(1 << bit for bit, x in enumerate(centres) if frame[height // 8, x].mean() > 128)


def encode_rle(mask):
    counts = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return {"size": [float(side) for side in mask.shape], "counts": counts.decode()}


def moving_masks(frames, height, width):
    """(T, 2, H, W): a square that walks, and one that is there in every second annotated frame."""
    masks = np.zeros((frames, 2, height, width), bool)
    for k in range(frames):
        masks[k, 0, height // 2 : height // 2 + 6, k % (width - 8) : k % (width - 8) + 8] = True
        masks[k, 1, -5:, -9 + k % 3 :] = k % 2
    return masks


def write_video(path, frames, rotation=0, **options):
    """H.264 in mp4 with one keyframe and B-frames, as long-GOP originals have."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = options.pop("pix_fmt", "yuv420p")
        stream.options = {"g": "250", "crf": "18", "preset": "fast"} | options
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_annotation(path, masks, **changes):
    """The keys of SA-V that matter, floats where SA-V has floats."""
    frames, objects, height, width = masks.shape
    found = {
        "video_id": path.stem,
        "video_frame_count": float(4 * frames - 3),
        "video_height": float(height),
        "video_width": float(width),
        "video_split": "train",
        "masklet": [[encode_rle(mask) for mask in row] for row in masks],
        "masklet_id": list(range(objects)),
        "masklet_num": objects,
    }
    path.write_text(json.dumps(found | changes))


class SavFolder:
    """Writes clips into one folder; remembers their masks."""

    def __init__(self, root: Path):
        self.root = root
        self.masks = {}

    def add(self, name, frames=9, height=32, width=64, **changes):
        """A clip of `frames` annotated frames and 4 x `frames` - 3 video frames."""
        masks = moving_masks(frames, height, width)
        self.masks[name.lower()] = masks
        pictures = [numbered_frame(n, height, width) for n in range(4 * frames - 3)]
        write_video(self.root / f"{name}.mp4", pictures)
        write_annotation(self.root / f"{name}_manual.json", masks, **changes)
        return self
