"""OVIS, YouTube-VIS and others in their style: one JSON of videos with run lengths or polygons.

ROOT/ANNOTATIONS.json        "videos", "annotations", "categories"
ROOT/FRAMES/FILE_NAME        what "file_names" of a video say, in the folder that the option `frames` names

ROOT may be the JSON itself; frames are then looked for beside it. Of a video these keys are read: id, width, height and
file_names; of an annotation, which is one object: id, video_id, category_id, iscrowd and segmentations, one a frame:
null where the object is absent, run lengths {"size": [h, w], "counts": ...}, compressed (a string) or not (a list), or
polygons. Objects may overlap. File names that are numbers are the frames' numbers.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from data.clip import AnnotatedVideo, DataError, SourceClip
from data.formats.frame_folder import frame_numbers, image_clip
from data.formats.inside import inside
from data.formats.json_fields import objects, whole
from data.formats.json_file import read_object
from data.formats.json_mask import rle_mask
from data.formats.label_images import MaskTable
from data.formats.outlines import polygon_mask
from data.look import look
from data.shard import MAX_CELLS, MAX_SIDE, as_key

log = logging.getLogger(__name__)

_FRAMES = ("train/JPEGImages", "train", "JPEGImages/train", "JPEGImages", "Images/train", "images", "")
_MOST = 2**62


@dataclass(frozen=True)
class Source:
    """Videos of a JSON in the style of YouTube-VIS.

    Attributes:
        root: the folder, or the JSON.
        annotations: the JSON, relative to the folder; "": the one for training in it, or in its folders annotations and
            train.
        frames: folder of the frames, relative to the folder or absolute; "": a usual one.
        crowds: "skip" or "keep" annotations with iscrowd=1: a crowd is no single object.
        fps: of the frames' numbers; 5 suits OVIS, YouTube-VIS has 30.
        split: what `meta.json` names as the split.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    annotations: str = ""
    frames: str = ""
    crowds: str = "skip"
    fps: float = 5.0
    split: str = "train"
    name: str = "ovis"
    license: str = ""

    def __post_init__(self) -> None:
        if self.crowds not in ("skip", "keep"):
            raise DataError(f"crowds must be skip or keep, got {self.crowds!r}")
        if not isinstance(self.fps, int | float) or not 0 < self.fps <= 1000:
            raise DataError(f"fps must be a number above 0 and at most 1000, got {self.fps!r}")

    @property
    def _folder(self) -> Path:
        return self.root.parent if self.root.is_file() else self.root

    def clips(self) -> list[SourceClip]:
        """Every video with objects in the order of the JSON; how many have none is said.

        Raises:
            DataError: no JSON, or another kind of it, or none of its frames is there.
        """
        path = self._json()
        found = read_object(path)
        videos = objects(found.get("videos"), f"{path}, videos")
        if found.get("annotations") is None:
            raise DataError(
                f"{path}: has no annotations; give the JSON of the training set with annotations="
            )
        by_video = defaultdict[int, list[dict[str, Any]]](list)
        for annotation in objects(found["annotations"], f"{path}, annotations"):
            by_video[
                whole(annotation.get("video_id"), f"{path}, video_id of an annotation", 0, _MOST)
            ].append(annotation)
        categories = {
            item.get("id"): str(item.get("name", ""))
            for item in objects(found.get("categories", []), f"{path}, categories")
        }
        known = {whole(video.get("id"), f"{path}, id of a video", 0, _MOST): video for video in videos}
        if len(known) != len(videos):
            raise DataError(f"{path}: two videos have one id; export it again", "duplicate-id")
        wanted = {i: video for i, video in known.items() if i in by_video}
        if len(wanted) < len(known):
            log.warning(
                "%s: without annotations, left out: %d of %d videos",
                path,
                len(known) - len(wanted),
                len(known),
            )
        frames = self._frames(path, wanted)
        return [
            SourceClip(
                _key(video, i),
                partial(self._read, video, by_video[i], frames, categories, f"{path}, video {i}"),
            )
            for i, video in wanted.items()
        ]

    def _json(self) -> Path:
        if self.root.is_file():
            return self.root
        if self.annotations:
            return self.root / self.annotations
        found = sorted(
            path for place in (".", "annotations", "train") for path in (self.root / place).glob("*.json")
        )
        train = [path for path in found if "train" in str(path.relative_to(self.root))]
        if len(train) == 1 or len(found) == 1:
            return (train or found)[0]
        shown = ", ".join(str(path.relative_to(self.root)) for path in found[:4]) or look(self.root)
        raise DataError(
            f"{self.root}: expected one JSON for training, found {shown}; name it with annotations="
        )

    def _frames(self, path: Path, videos: Mapping[int, dict[str, Any]]) -> Path:
        """The folder of the frames: the first usual one that has the first frame of some video."""
        places = [self._folder / self.frames] if self.frames else [self._folder / place for place in _FRAMES]
        first = None
        for video in videos.values():
            names = video.get("file_names")
            if isinstance(names, list) and names:
                first = first or names[0]
                for place in places:
                    if inside(place, names[0], f"{path}, file_names").is_file():
                        return place
        if not first:
            return places[0]
        raise DataError(
            f"{path}: none of its frames is there, {first[:80]!r} for instance; found {look(self._folder)}; say what "
            "holds them with frames="
        )

    def _read(
        self,
        video: dict[str, Any],
        annotations: Sequence[dict[str, Any]],
        folder: Path,
        categories: Mapping[Any, str],
        where: str,
    ) -> AnnotatedVideo:
        names = video.get("file_names")
        if not isinstance(names, list) or not names:
            raise DataError(f"{where}: file_names is {str(names)[:60]}, expected a list of names")
        paths = [inside(folder, name, f"{where}, file_names") for name in names]
        single = [
            annotation
            for annotation in annotations
            if self.crowds == "keep" or not whole(annotation.get("iscrowd", 0), f"{where}, iscrowd", 0, 1)
        ]
        table = _objects(video, single, len(paths), where)
        meta = {
            "source": self.name,
            "license": self.license,
            "split": self.split,
            "categories": [categories.get(annotation.get("category_id"), "") for annotation in single],
        }
        frames = list(zip(frame_numbers(paths), paths, strict=True))
        return image_clip(_key(video, video["id"]), frames, table, self.fps, meta)


def _key(video: Mapping[str, Any], number: int) -> str:
    """The folder of the first frame, else the video's number."""
    names = video.get("file_names")
    folder = (
        str(PurePosixPath(names[0]).parent)
        if isinstance(names, list) and names and isinstance(names[0], str)
        else "."
    )
    return as_key(folder if folder != "." else f"video_{number}")


def _objects(
    video: dict[str, Any], annotations: Sequence[dict[str, Any]], frames: int, where: str
) -> MaskTable:
    """The masks of a video's objects."""
    height, width = (whole(video.get(side), f"{where}, {side}", 1, MAX_SIDE) for side in ("height", "width"))
    if len(annotations) * frames > MAX_CELLS:
        raise DataError(f"{where}: {len(annotations)} objects in {frames} frames are too many")
    ids, rows = [], []
    for annotation in annotations:
        ids.append(whole(annotation.get("id"), f"{where}, id of an annotation", 0, _MOST))
        found = annotation.get("segmentations")
        if not isinstance(found, list) or len(found) != frames:
            count = len(found) if isinstance(found, list) else "no"
            raise DataError(f"{where}, annotation {ids[-1]}: {count} segmentations for {frames} frames")
        at = f"{where}, annotation {ids[-1]}, frame"
        rows.append(tuple(_mask(mask, height, width, f"{at} {k}") for k, mask in enumerate(found)))
    if len(set(ids)) != len(ids):
        raise DataError(f"{where}: two annotations have one id; export it again", "duplicate-id")
    if not any(any(row) for row in rows):
        raise DataError(f"{where}: no single object in any of {frames} frames; leave the video out")
    return MaskTable(tuple(ids), tuple(rows), height, width)


def _mask(found: Any, height: int, width: int, where: str) -> str:
    if found is None:
        return ""
    if isinstance(found, list):
        return polygon_mask(found, height, width, where)
    return rle_mask(found, height, width, where)
