"""Make videos with exact masks, in the layout of SA-V: `NAME.mp4` and `NAME_manual.json`.

For tests, for the demo and for trying a change before real data is at hand. A clip follows from (config, split, number)
alone. Textures and shapes of different splits come from seeds that cannot meet.
"""

from __future__ import annotations

import difflib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pycocotools.mask
import threadpoolctl
from numpy.typing import NDArray

from data.claim import read_note, refuse_another, write_note
from data.clip import DataError
from data.scenes.staging import PRESETS, SPLITS, SyntheticConfig, render

__all__ = ["PRESETS", "SPLITS", "SyntheticConfig", "configure", "generate", "render"]

Progress = Callable[[int, int], None]
"""Called with (clips done, clips in all)."""

_MOST_VIDEOS = 1_000_000  # that a folder's note may claim


def configure(preset: str, **changes: Any) -> SyntheticConfig:
    """A preset with some fields changed; lists stand for pairs.

    Raises:
        ValueError: no such preset or field, or a value that is not possible.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    known = asdict(SyntheticConfig())
    for name, value in changes.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
            raise ValueError(f"unknown field {name!r}{hint}")
        changes[name] = tuple(value) if isinstance(value, list) else value
        if not _is_like(changes[name], known[name]):
            raise ValueError(f"{name} must be like {known[name]!r}, got {value!r}")
    return replace(PRESETS[preset], **changes)


def _is_like(value: Any, example: Any) -> bool:
    """Whether a value has the type of an example; a whole number is also a fraction, a pair has two of them."""
    if isinstance(example, tuple):
        return isinstance(value, tuple) and len(value) == 2 and all(map(_is_like, value, example))
    return type(value) is type(example) or (isinstance(example, float) and type(value) is int)


def generate(
    config: SyntheticConfig,
    split: str,
    count: int,
    out_dir: str | Path,
    workers: int = 1,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write `count` videos `SPLIT_000000.mp4`, ... with their `_manual.json` into `out_dir`.

    `synthetic_SPLIT.json` beside them holds the configuration and, for each object of each clip, the seeds of its
    texture and shape, how much of it is hidden on average, and what happens to it.

    Args:
        config: see `SyntheticConfig` and `PRESETS`.
        split: "train", "val" or "test"; no two splits share the seed of a texture or a shape.
        count: number of videos.
        out_dir: new, or without videos, or from an earlier call with the same config, split and count: what is complete
            stays, what is not is drawn again.
        workers: processes; does not change the result. (More than one starts fresh interpreters: a calling script
            needs its `if __name__ == "__main__"`.)
        progress: called after every clip.
        overwrite: videos that an earlier call made from something else are removed first, not refused.

    Returns:
        The mp4 files in order.

    Raises:
        DataError: `out_dir` holds other videos.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if not 1 <= count <= _MOST_VIDEOS or workers < 1:
        raise ValueError(
            f"count must be from 1 to {_MOST_VIDEOS}, workers at least 1, got {count} and {workers}"
        )
    out = Path(out_dir)
    asked = json.loads(json.dumps({"config": asdict(config), "split": split, "count": count}))
    if _claim(out, asked, overwrite):
        return _videos(out, asked)
    write = partial(_write_clip, config, split, out)
    if workers == 1:
        records = _collect(map(write, range(count)), count, progress)
    else:
        # spawned, because a forked child may inherit locks of the caller's threads
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_use_one_thread) as pool:
            chunk = max(1, min(8, count // (4 * workers)))
            records = _collect(pool.map(write, range(count), chunksize=chunk), count, progress)
    write_note(_note(out, split), asked | {"clips": records})
    return _videos(out, asked)


def _use_one_thread() -> None:
    """Keep BLAS on the worker's own thread: where threads outnumber cores they spin for one another, for minutes."""
    threadpoolctl.threadpool_limits(1)


def _note(out: Path, split: str) -> Path:
    return out / f"synthetic_{split}.json"


def _videos(out: Path, note: dict[str, Any]) -> list[Path]:
    """The videos that a note is about."""
    return [out / f"{note['split']}_{number:06d}.mp4" for number in range(note["count"])]


def _annotation_of(video: Path) -> Path:
    return video.with_name(f"{video.stem}_manual.json")


def _claim(out: Path, asked: dict[str, Any], overwrite: bool) -> bool:
    """Make the folder this call's; returns whether all that is asked for is there.

    Raises:
        DataError: it holds other videos.
    """
    earlier = _earlier(out)
    own = {video for note in earlier for video in _videos(out, note)}
    foreign = sorted(path.name for path in out.glob("*.mp4") if path not in own)
    if foreign:
        raise DataError(f"{out}: holds {foreign[0]}, which no earlier call noted; choose another folder")
    try:
        for note in earlier:
            refuse_another(out, "made-up videos", note, asked)
    except DataError:
        if not overwrite:
            raise
        for note in earlier:
            _remove(out, note)
        earlier = []
    is_complete = any("clips" in note for note in earlier) and all(
        path.is_file() for video in own for path in (video, _annotation_of(video))
    )
    if not is_complete:
        out.mkdir(parents=True, exist_ok=True)
        write_note(_note(out, asked["split"]), asked)
    return is_complete


def _earlier(out: Path) -> list[dict[str, Any]]:
    """What earlier calls noted, one for each split."""
    notes = []
    for split in SPLITS:
        path = _note(out, split)
        note = read_note(path)
        if note is not None:
            clips = note.get("clips")
            note = {
                "count": len(clips) if isinstance(clips, list) else 0,
                **note,
            }  # older notes have no count
            is_ours = note.get("split") == split and type(note["count"]) is int
            if not is_ours or not 0 <= note["count"] <= _MOST_VIDEOS:
                raise DataError(
                    f"{path}: not a note about videos of the split {split}; choose another folder"
                )
            notes.append(note)
    return notes


def _remove(out: Path, note: dict[str, Any]) -> None:
    """Remove the videos of a note, then the note; until it is gone it says that they are not complete."""
    path = _note(out, note["split"])
    write_note(path, {name: value for name, value in note.items() if name != "clips"})
    for video in reversed(_videos(out, note)):
        video.unlink(missing_ok=True)
        _annotation_of(video).unlink(missing_ok=True)
    path.unlink()


def _collect(
    records: Iterable[dict[str, Any]], count: int, progress: Progress | None
) -> list[dict[str, Any]]:
    collected = []
    for record in records:
        collected.append(record)
        if progress:
            progress(len(collected), count)
    return collected


def _write_clip(config: SyntheticConfig, split: str, out: Path, number: int) -> dict[str, Any]:
    """Render and write one clip; returns its record."""
    name = f"{split}_{number:06d}"
    clip = render(config, split, number)
    _write_video(out / f"{name}.mp4", clip.frames, config)
    _replace(out / f"{name}_manual.json", json.dumps(_annotation(name, clip.masks, config, split)).encode())
    return {"name": name, "background_seed": clip.background_seed, "objects": list(clip.objects)}


def _write_video(path: Path, frames: NDArray[np.uint8], config: SyntheticConfig) -> None:
    """H.264 with long groups of pictures, as originals have."""
    partial_path = path.with_name(f".{path.name}.tmp")
    with av.open(str(partial_path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=config.fps)
        stream.height, stream.width, stream.pix_fmt = config.height, config.width, "yuv420p"
        stream.thread_count = 1  # more threads give other bytes
        # mbtree with B-frames reads memory that was never written (x264's AVX-512 code): the bytes would vary.
        stream.options = {"crf": str(config.crf), "preset": config.preset, "g": "250", "mbtree": "0"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    os.replace(partial_path, path)


def _annotation(name: str, masks: NDArray[np.bool_], config: SyntheticConfig, split: str) -> dict[str, Any]:
    """The content of a `_manual.json`, every key that SA-V has; `masks` is (A, O, H, W)."""
    height, width = masks.shape[2:]
    areas = masks.sum((2, 3))
    visible = areas > 0
    objects = masks.shape[1]
    mean_area = [float(areas[visible[:, i], i].mean()) for i in range(objects)]
    return {
        "video_id": name,
        "video_duration": config.frames / config.fps,
        "video_frame_count": float(config.frames),
        "video_height": float(height),
        "video_width": float(width),
        "video_resolution": float(height * width),
        "video_environment": "Synthetic",
        "video_split": split,
        "masklet": [_encode(frame) for frame in masks],
        "masklet_id": list(range(objects)),
        "masklet_size_rel": [area / (height * width) for area in mean_area],
        "masklet_size_abs": mean_area,
        "masklet_size_bucket": [_bucket(area) for area in mean_area],
        "masklet_visibility_changes": (visible[1:] != visible[:-1]).sum(0).tolist(),
        "masklet_first_appeared_frame": [float(k) for k in visible.argmax(0)],
        "masklet_frame_count": [len(masks)] * objects,
        "masklet_edited_frame_count": [len(masks)] * objects,
        "masklet_type": ["manual"] * objects,
        "masklet_stability_score": [None] * objects,
        "masklet_num": objects,
    }


def _encode(masks: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """COCO RLE of the masks (O, H, W) of one frame; an absent object has an empty mask."""
    columns = np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))
    return [
        {"size": list(masks.shape[1:]), "counts": rle["counts"].decode()}
        for rle in pycocotools.mask.encode(columns)
    ]


def _bucket(area: float) -> str:
    return "small" if area < 32**2 else "medium" if area < 96**2 else "large"


def _replace(path: Path, raw: bytes) -> None:
    partial_path = path.with_name(f".{path.name}.tmp")
    partial_path.write_bytes(raw)
    os.replace(partial_path, path)
