"""SA-V, training layout: `NAME.mp4` beside `NAME_manual.json` and, for most videos, `NAME_auto.json`.

ROOT/**/NAME.mp4             24 frames a second
ROOT/**/NAME_manual.json     masklets drawn by annotators
ROOT/**/NAME_auto.json       masklets found by a model

A JSON holds `masklet[frame][object]`, COCO compressed run lengths of every fourth frame of a 24 fps video. Counts and
sizes are written as floats; an object that is not in the picture has an empty mask, not a missing one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data.clip import AnnotatedVideo, DataError, SourceClip, VideoFile
from data.formats.json_file import read_object
from data.look import look
from data.media import probe_fps
from data.rle import area
from data.shard import MAX_CELLS, MAX_FRAMES, MAX_OBJECTS, MAX_SIDE, as_key

_MOST_BYTES = 1 << 30  # of one video's annotation
_TRACKS = {"manual": ("manual",), "auto": ("auto",), "both": ("manual", "auto")}


@dataclass(frozen=True)
class Source:
    """Videos of SA-V.

    Attributes:
        root: folder, searched with all its subfolders.
        tracks: "manual" (annotated by people), "auto" (found by a model) or "both".
        stride: video frames from one annotated frame to the next.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    tracks: str = "manual"
    stride: int = 4
    name: str = "sav"
    license: str = "CC BY 4.0"

    def __post_init__(self) -> None:
        if not isinstance(self.tracks, str) or self.tracks not in _TRACKS:
            raise DataError(f"tracks must be one of {', '.join(_TRACKS)}, got {self.tracks!r}")
        if not isinstance(self.stride, int) or self.stride < 1:
            raise DataError(f"stride must be a whole number from 1, got {self.stride!r}")

    def clips(self) -> list[SourceClip]:
        """Every video in the order of its path."""
        stems = self._stems()
        if not stems:
            raise DataError(
                f"{self.root}: expected NAME.mp4 with NAME_manual.json, here or in a subfolder, "
                f"found {look(self.root)}; `sam2 data sources` lists what else can be read"
            )
        return [SourceClip(as_key(stem.name), partial(self._read, stem)) for stem in stems]

    def _stems(self) -> list[Path]:
        """Paths without ending of all videos and all annotations, each once."""
        videos = {path.with_suffix("") for path in self.root.rglob("*.mp4")}
        tracks = {
            path.with_name(path.name.removesuffix(f"_{kind}.json"))
            for kind in _TRACKS[self.tracks]
            for path in self.root.rglob(f"*_{kind}.json")
        }
        return sorted(videos | tracks)

    def _read(self, stem: Path) -> AnnotatedVideo:
        media = stem.with_name(stem.name + ".mp4")
        if not media.is_file():
            raise DataError(
                f"{media}: missing, its annotation is there; restore the video or remove the annotation",
                "mask-without-image",
            )
        paths = [stem.with_name(f"{stem.name}_{kind}.json") for kind in _TRACKS[self.tracks]]
        found = [path for path in paths if path.is_file()]
        if not found:
            names = " nor ".join(path.name for path in paths)
            raise DataError(
                f"{media}: no {names} beside it; restore the annotation or remove the video",
                "image-without-mask",
            )
        tracks = [_read_annotation(path) for path in found]
        first = tracks[0]
        for path, other in zip(found, tracks, strict=True):
            if (other.height, other.width, other.frames) != (first.height, first.width, first.frames):
                raise DataError(
                    f"{path}: {other.frames} frames of {other.height}x{other.width}, but {found[0].name} has "
                    f"{first.frames} of {first.height}x{first.width}; they belong to different videos"
                )
        kinds = [kind for kind, path in zip(_TRACKS[self.tracks], paths, strict=True) if path in found]
        object_ids = _distinct_ids([track.ids for track in tracks])
        masks = [masks for track in tracks for masks in track.masks]
        return AnnotatedVideo(
            key=as_key(stem.name),
            media=VideoFile(media),
            height=first.height,
            width=first.width,
            fps=probe_fps(media),
            frame_index=tuple(range(0, first.frames * self.stride, self.stride)),
            object_ids=object_ids,
            masks=tuple(masks),
            meta={
                "source": self.name,
                "license": self.license,
                "split": first.split,
                "object_types": [kind for kind, track in zip(kinds, tracks, strict=True) for _ in track.ids],
                "masklet_ids": [i for track in tracks for i in track.ids],
            },
        )


@dataclass(frozen=True)
class _Annotation:
    """One JSON: `masks[object][frame]`, "" where the object is absent."""

    height: int
    width: int
    frames: int
    split: str
    ids: list[int]
    masks: list[tuple[str, ...]]


def _read_annotation(path: Path) -> _Annotation:
    found = read_object(path, _MOST_BYTES)
    height, width = (
        _whole(found, "video_height", path, MAX_SIDE),
        _whole(found, "video_width", path, MAX_SIDE),
    )
    rows = found.get("masklet")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise DataError(f"{path}: 'masklet' must be a list with one list of masks for each annotated frame")
    objects = len(rows[0])
    if len(rows) > MAX_FRAMES or objects > MAX_OBJECTS or len(rows) * objects > MAX_CELLS:
        raise DataError(f"{path}: {len(rows)} frames x {objects} masklets are too many")
    if objects == 0:
        raise DataError(f"{path}: annotates no object; remove the video or annotate it", "nothing-visible")
    ids = found.get("masklet_id", list(range(objects)))
    if not isinstance(ids, list) or len(ids) != objects or len({*map(repr, ids)}) != objects:
        raise DataError(
            f"{path}: 'masklet_id' must name each of the {objects} masklets once, got {str(ids)[:80]}",
            "duplicate-id",
        )
    columns: list[list[str]] = [[] for _ in rows[0]]
    for k, row in enumerate(rows):
        if len(row) != objects:
            raise DataError(f"{path}: frame {k} has {len(row)} masklets, frame 0 has {objects}")
        for i, rle in enumerate(row):
            columns[i].append(_counts(rle, height, width, f"{path}, annotated frame {k}, masklet {i}"))
    return _Annotation(
        height=height,
        width=width,
        frames=len(rows),
        split=str(found.get("video_split", "")),
        ids=[_as_whole(i, f"{path}: 'masklet_id'", 2**31) for i in ids],
        masks=[tuple(column) for column in columns],
    )


def _counts(rle: Any, height: int, width: int, where: str) -> str:
    """The run-length string of one mask, "" if it is empty."""
    if rle is None:
        return ""
    if (
        not isinstance(rle, dict)
        or not isinstance(rle.get("counts"), str)
        or not isinstance(rle.get("size"), list)
    ):
        raise DataError(f"{where}: expected {{'size': [h, w], 'counts': '...'}}, got {str(rle)[:80]}")
    if rle["size"] != [height, width]:
        size = "x".join(str(side) for side in rle["size"])[:40]
        raise DataError(
            f"{where}: mask is {size}, the video is {height}x{width}; export masks at frame size",
            "size-mismatch",
        )
    return rle["counts"] if area(rle["counts"], height, width, where) else ""


def _whole(found: dict[str, Any], field: str, path: Path, most: int) -> int:
    value = _as_whole(found.get(field), f"{path}: {field!r}", most)
    if value < 1:
        raise DataError(f"{path}: {field!r} is {value}, expected a whole number from 1 to {most}")
    return value


def _as_whole(value: Any, where: str, most: int) -> int:
    """SA-V writes whole numbers as floats."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
    if not good or value != int(value):
        raise DataError(f"{where} is {str(value)[:40]}, expected a whole number from 0 to {most}")
    return int(value)


def _distinct_ids(ids: list[list[int]]) -> tuple[int, ...]:
    """Ids of several tracks side by side: each later track is shifted above the ones before it."""
    joined: list[int] = []
    for track in ids:
        shift = max(joined, default=-1) + 1
        joined += [shift + i for i in track]
    return tuple(joined)
