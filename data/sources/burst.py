"""BURST: run lengths in one JSON a split, over the frames of TAO.

ROOT/[annotations/]train/all_classes.json
ROOT/[frames/ or images/]train/DATASET/SEQUENCE/FRAME.jpg       frames that may also be elsewhere, see the option frames

Of a sequence these keys are read: width, height, dataset, seq_name, fps, all_image_paths, annotated_image_paths,
track_category_ids and segmentations, which holds for each annotated frame {"TRACK": {"rle": "...", "is_gt": true}}. A
track that a frame does not name is absent. Tracks may overlap. Frames' numbers are their places in all_image_paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data.clip import AnnotatedVideo, DataError, SourceClip
from data.formats.frame_folder import image_clip
from data.formats.inside import inside
from data.formats.json_fields import objects, text, whole
from data.formats.json_file import read_object
from data.formats.json_mask import rle_mask
from data.formats.label_images import MaskTable
from data.look import look
from data.shard import MAX_CELLS, MAX_SIDE, as_key

_SCENE = "_scene_"  # AVA and HACS: several scenes of one film are sequences of their own


@dataclass(frozen=True)
class Source:
    """Sequences of BURST.

    Attributes:
        root: the folder.
        subset: "train", "val" or "test": the folder of the JSON.
        annotations: the JSON, relative to `root`, if it is not where it usually is.
        frames: the folder that holds train, val and test with the frames, relative to `root` or absolute.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    subset: str = "train"
    annotations: str = ""
    frames: str = ""
    name: str = "burst"
    license: str = ""

    def clips(self) -> list[SourceClip]:
        """Every sequence in the order of the JSON.

        Raises:
            DataError: no JSON, or another kind of it, or no frames.
        """
        path = self._json()
        found = read_object(path)
        sequences = objects(found.get("sequences"), f"{path}, sequences")
        split = text(found.get("split", self.subset), f"{path}, split")
        categories = _names(found.get("categories"), path)
        folder = inside(self._frames(), split, f"{path}, split")
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder with frames; say what holds {split} with frames=")
        clips = []
        for k, sequence in enumerate(sequences):
            where = f"{path}, sequence {k}"
            place = "/".join(text(sequence.get(key), f"{where}, {key}") for key in ("dataset", "seq_name"))
            read = partial(self._read, sequence, folder, place, categories, f"{path}, sequence {place}")
            clips.append(SourceClip(as_key(place), read, place.partition(_SCENE)[0]))
        return clips

    def _json(self) -> Path:
        if self.annotations:
            return self.root / self.annotations
        usual = [self.root / place / self.subset / "all_classes.json" for place in ("annotations", ".")]
        for path in usual:
            if path.is_file():
                return path
        raise DataError(
            f"{self.root}: expected annotations/{self.subset}/all_classes.json, found {look(self.root)}; say where "
            "it is with annotations="
        )

    def _frames(self) -> Path:
        if self.frames:
            return self.root / self.frames
        usual = [self.root / place for place in ("frames", "images")]
        return next((place for place in usual if place.is_dir()), self.root)

    def _read(
        self, sequence: dict[str, Any], folder: Path, place: str, categories: Mapping[int, str], where: str
    ) -> AnnotatedVideo:
        table, is_drawn = _tracks(sequence, where)
        paths = _texts(sequence.get("annotated_image_paths"), f"{where}, annotated_image_paths")
        if len(paths) != len(table.rows[0]):
            raise DataError(
                f"{where}: {len(paths)} annotated_image_paths for {len(table.rows[0])} segmentations"
            )
        known = sequence.get("track_category_ids", {})
        kinds = [known.get(str(i)) if isinstance(known, dict) else None for i in table.object_ids]
        frames = inside(folder, place, where)
        return image_clip(
            key=as_key(place),
            frames=[
                (number, inside(frames, name, where))
                for number, name in zip(_numbers(sequence, paths, where), paths, strict=True)
            ],
            table=table,
            fps=whole(sequence.get("fps"), f"{where}, fps", 1, 1000),
            meta={
                "source": self.name,
                "license": self.license,
                "split": folder.name,
                "object_types": [_type(is_drawn[i]) for i in table.object_ids],
                "categories": [categories.get(kind, "") if type(kind) is int else "" for kind in kinds],
            },
        )


def _tracks(sequence: dict[str, Any], where: str) -> tuple[MaskTable, dict[int, set[bool]]]:
    """The masks of all tracks, and for each whether people drew them."""
    height, width = (
        whole(sequence.get(side), f"{where}, {side}", 1, MAX_SIDE) for side in ("height", "width")
    )
    frames = objects(sequence.get("segmentations"), f"{where}, segmentations")
    tracks = sorted({_track(i, where) for frame in frames for i in frame})
    if not tracks:
        raise DataError(f"{where}: no track in any of {len(frames)} annotated frames; leave the sequence out")
    if len(frames) * len(tracks) > MAX_CELLS:
        raise DataError(f"{where}: {len(tracks)} tracks in {len(frames)} frames are too many")
    rows = {i: [""] * len(frames) for i in tracks}
    is_drawn: dict[int, set[bool]] = {i: set() for i in tracks}
    for k, frame in enumerate(frames):
        for i, mask in frame.items():
            at = f"{where}, annotated frame {k}, track {i}"
            counts = mask.get("rle") if isinstance(mask, dict) else None
            if not isinstance(counts, str):
                raise DataError(f"{at}: expected {{'rle': '...'}}, got {str(mask)[:80]}")
            rows[int(i)][k] = rle_mask({"size": [height, width], "counts": counts}, height, width, at)
            is_drawn[int(i)].add(mask.get("is_gt", True) is not False)
    return MaskTable(tuple(tracks), tuple(tuple(row) for row in rows.values()), height, width), is_drawn


def _track(i: str, where: str) -> int:
    if not i.isascii() or not i.isdecimal() or len(i) > 9 or str(int(i)) != i:
        raise DataError(f"{where}: a track is called {i[:40]!r}, expected a number")
    return int(i)


def _numbers(sequence: dict[str, Any], annotated: list[str], where: str) -> list[int]:
    """The place of each annotated frame among all."""
    every = _texts(sequence.get("all_image_paths", annotated), f"{where}, all_image_paths")
    places = {name: k for k, name in enumerate(every)}
    lost = [name for name in annotated if name not in places]
    if lost:
        raise DataError(f"{where}: annotated frame {lost[0][:80]!r} is not in all_image_paths")
    return [places[name] for name in annotated]


def _texts(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DataError(f"{where}: is {str(value)[:60]}, expected a list of names")
    return value


def _type(is_drawn: set[bool]) -> str:
    """Tracks of the training set are drawn in some frames and propagated to the others: neither manual nor auto."""
    if len(is_drawn) > 1:
        return ""
    return "manual" if True in is_drawn else "auto"


def _names(categories: Any, path: Path) -> dict[int, str]:
    found = objects(categories if categories is not None else [], f"{path}, categories")
    return {item["id"]: str(item.get("name", "")) for item in found if type(item.get("id")) is int}
