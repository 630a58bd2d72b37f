"""Made-up videos in a benchmark's own layout, to try a model, a script or a cluster before the download is there."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.scenes.staging import PRESETS, render
from sam2.evaluation.benchmark import MadeUp, Manifest
from sam2.evaluation.boundary import Bools
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.label_maps import write_label_map
from sam2.evaluation.protocols import PROTOCOLS

_ANNOTATED = 4  # where only some frames have masks, every fourth


def make(
    about: Manifest, out: Path, videos: int, preset: str = "demo", seed: int = 0, full: bool = False
) -> Path:
    """Write a few videos as the benchmark's download has them.

    Args:
        about: the benchmark.
        out: folder that does not exist yet.
        videos: how many.
        preset: what they look like, see data/scenes/staging.py.
        seed: another seed, other videos.
        full: also the masks that the benchmark keeps to itself, so that they can be scored here.

    Raises:
        EvaluationError: `out` exists, or there is no such preset.
    """
    if out.exists():
        raise EvaluationError(f"{out}: exists; choose another folder")
    if preset not in PRESETS:
        raise EvaluationError(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}")
    if videos < 1:
        raise EvaluationError(f"videos is {videos}, expected 1 or more")
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        about_videos = {}
        for number in range(videos):
            name = about.made_up.name.format(number=number + 1, letters=_letters(number))
            about_videos[name] = _write(about, draft, name, number, preset, seed, full)
        if PROTOCOLS[about.protocol].uses_meta:
            (draft / "meta.json").write_text(json.dumps({"videos": about_videos}, indent=1) + "\n")
        if about.protocol == "lvos":
            (draft / "unseen_videos.txt").write_text(
                "".join(f"{name}\n" for name in sorted(about_videos)[1::2])
            )
        if about.listed_in is not None:
            listed = draft / about.listed_in
            listed.parent.mkdir(parents=True, exist_ok=True)
            listed.write_text("".join(f"{name}\n" for name in sorted(about_videos)))
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out


def _letters(number: int) -> str:
    """a, b, ..., z, ba, bb, ..."""
    text = ""
    while number or not text:
        number, digit = divmod(number, 26)
        text = chr(ord("a") + digit) + text
    return text


def _write(
    about: Manifest, root: Path, name: str, number: int, preset: str, seed: int, full: bool
) -> dict[str, Any]:
    """One video; returns what a meta file says of it."""
    every = _ANNOTATED if about.only_annotated else 1
    clip = render(replace(PRESETS[preset], seed=seed, annotate_every=every), "val", number)
    masks = clip.masks  # (A, O, H, W)
    if not about.late_objects:
        masks = masks[:, masks[0].any((1, 2))]
    names = _frame_names(about.made_up, len(clip.frames))
    pictures = root / about.pictures / name
    pictures.mkdir(parents=True)
    for frame, pixels in zip(names, clip.frames, strict=True):
        Image.fromarray(pixels).save(pictures / f"{frame}.jpg", quality=95)
    annotated, truth = names[::every], root / about.truth / name
    if about.folder_per_object:
        for o in range(masks.shape[1]):
            for frame, mask in zip(annotated, masks[:, o], strict=True):
                write_label_map(truth / f"{o:03d}" / f"{frame}.png", mask)
    else:
        present = np.any(masks, axis=(2, 3))  # (A, O)
        starts = present.argmax(0)
        public = {"all": set(range(len(annotated))), "first": {0}, "starts": set(starts.tolist())}
        for t in range(len(annotated)) if full else sorted(public[about.made_up.public_truth]):
            shown = starts == t if about.made_up.public_truth == "starts" and not full else starts <= t
            write_label_map(truth / f"{annotated[t]}.png", _ids(masks[t], shown))
    return {"objects": _objects(about, masks, names), "length": len(names)}


def _frame_names(style: MadeUp, count: int) -> list[str]:
    return [f"{style.first_number + style.step * t:0{style.digits}d}" for t in range(count)]


def _ids(masks: Bools, shown: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Objects (O, H, W) as ids from 1; the renderer draws them without overlap."""
    ids = np.zeros(masks.shape[1:], np.uint8)
    for o in np.flatnonzero(shown).tolist():
        ids[masks[o]] = o + 1
    return ids


def _objects(about: Manifest, masks: Bools, names: list[str]) -> dict[str, Any]:
    if about.folder_per_object:
        return {str(o + 1): {} for o in range(masks.shape[1])}
    present = np.any(masks, axis=(2, 3))
    objects = {}
    for o in range(masks.shape[1]):
        start, end = int(present[:, o].argmax()), len(names) - 1
        objects[str(o + 1)] = {
            "category": f"kind {o % 2}",
            "frames": names[start : end + 1],
            "frame_range": {"start": names[start], "end": names[end], "frame_nums": str(end - start + 1)},
        }
    return objects
