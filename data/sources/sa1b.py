"""SA-1B: images with the masks that a model found in them, unpacked or in the published tars.

ROOT/**/sa_1.jpg, ROOT/**/sa_1.json        as unpacked, or
ROOT/**/sa_000000.tar                      as downloaded; read where they lie, both kinds may be mixed

Of a JSON these keys are read: `image` (`height`, `width`, `image_id`) and `annotations`, of each `id`, `segmentation`
(COCO compressed run lengths), and, kept as they are, `predicted_iou`, `stability_score`, `point_coords`, `crop_box`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.clip import AnnotatedVideo, DataError, ImageFiles, Media, Pictures, SourceClip
from data.formats.frame_folder import natural
from data.formats.json_fields import number, objects, whole
from data.formats.json_file import parse_json, read_json
from data.formats.json_mask import rle_mask
from data.formats.tar_files import TarFile, files_in_tar
from data.look import look
from data.media import open_image
from data.shard import MAX_OBJECTS, MAX_SIDE, as_key

_MOST_BYTES = 1 << 28  # of one image or its JSON


@dataclass(frozen=True)
class Source:
    """Images of SA-1B.

    Attributes:
        root: folder, searched with all its subfolders, or one tar.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    name: str = "sa1b"
    license: str = "SA-1B Dataset Research License"

    def clips(self) -> list[SourceClip]:
        """Every image: those of a folder in the order of their numbers, then those of each tar in its order.

        Raises:
            DataError: none is there, or a tar is damaged.
        """
        found: list[Path] = [self.root]
        if self.root.is_dir():
            found = [
                Path(folder, name)
                for folder, _, names in os.walk(self.root)
                for name in names
                if name.endswith(".tar") or (name.startswith("sa_") and name.endswith((".jpg", ".json")))
            ]
        tars = sorted(path for path in found if path.suffix == ".tar")
        stems = {path.with_suffix("") for path in found if path.suffix != ".tar"}
        clips = [
            SourceClip(as_key(stem.name), partial(self._read_files, stem))
            for stem in sorted(stems, key=lambda stem: (stem.parent, natural(stem)))
        ]
        for tar in tars:
            clips += self._in_tar(tar)
        if not clips:
            raise DataError(
                f"{self.root}: expected sa_1.jpg with sa_1.json, or sa_000000.tar, found {look(self.root)}"
            )
        return clips

    def _in_tar(self, tar: Path) -> list[SourceClip]:
        pairs: dict[str, dict[str, TarFile]] = {}
        for file in files_in_tar(tar):
            stem, _, ending = file.name.rpartition(".")
            if stem.startswith("sa_") and ending in ("jpg", "json"):
                pairs.setdefault(stem, {})[ending] = file
        return [
            SourceClip(as_key(stem), partial(self._read_pair, tar / stem, pair))
            for stem, pair in pairs.items()
        ]

    def _read_files(self, stem: Path) -> AnnotatedVideo:
        image, annotation = stem.with_name(f"{stem.name}.jpg"), stem.with_name(f"{stem.name}.json")
        _expect_both(stem, image.is_file(), annotation.is_file())
        return self._image(annotation, read_json(annotation, _MOST_BYTES), ImageFiles((image,)))

    def _read_pair(self, stem: Path, pair: dict[str, TarFile]) -> AnnotatedVideo:
        _expect_both(stem, "jpg" in pair, "json" in pair)
        image, annotation = pair["jpg"], pair["json"]
        found = parse_json(annotation.read(_MOST_BYTES), str(annotation.path))
        return self._image(
            annotation.path, found, Pictures(image.path, (image.tar,), partial(_pictures, image))
        )

    def _image(self, path: Path, found: Any, media: Media) -> AnnotatedVideo:
        """The clip that a JSON describes."""
        image = found.get("image") if isinstance(found, dict) else None
        if not isinstance(image, dict):
            raise DataError(f"{path}: expected an object with 'image' and 'annotations'; is it of SA-1B?")
        height, width = (
            whole(image.get(side), f"{path}, image, {side}", 1, MAX_SIDE) for side in ("height", "width")
        )
        annotations = objects(found.get("annotations"), f"{path}, annotations")
        if not 0 < len(annotations) <= MAX_OBJECTS:
            raise DataError(f"{path}: {len(annotations)} annotations, expected 1 to {MAX_OBJECTS}")
        ids = [whole(item.get("id"), f"{path}, an annotation's id", 0, 2**62) for item in annotations]
        if len(set(ids)) < len(ids):
            raise DataError(f"{path}: two annotations have one id; download it again", "duplicate-id")
        places = [f"{path}, annotation {i}" for i in ids]
        masks = tuple(
            (rle_mask(item.get("segmentation"), height, width, place),)
            for item, place in zip(annotations, places, strict=True)
        )
        meta = {
            "source": self.name,
            "license": self.license,
            "object_types": ["auto"] * len(ids),
            "image_id": whole(image.get("image_id", 0), f"{path}, image_id", 0, 2**62),
        }
        for score in ("predicted_iou", "stability_score"):
            found = [
                number(a.get(score), f"{at}, {score}") for a, at in zip(annotations, places, strict=True)
            ]
            meta[score] = found
        for points in ("point_coords", "crop_box"):
            meta[points] = [
                _numbers(a.get(points), f"{at}, {points}") for a, at in zip(annotations, places, strict=True)
            ]
        return AnnotatedVideo(as_key(path.stem), media, height, width, 0.0, (0,), tuple(ids), masks, meta)


def _numbers(found: Any, where: str) -> list[Any]:
    """A list of numbers, or of points."""
    if not isinstance(found, list):
        raise DataError(f"{where}: is {str(found)[:60]}, expected a list of numbers")
    return [
        [number(value, where) for value in item] if isinstance(item, list) else number(item, where)
        for item in found
    ]


def _expect_both(stem: Path, image: bool, annotation: bool) -> None:
    if not image or not annotation:
        there, missing = (".json", ".jpg") if annotation else (".jpg", ".json")
        raise DataError(
            f"{stem}{missing}: missing, its {there} is there; restore it or remove both",
            "mask-without-image" if annotation else "image-without-mask",
        )


def _pictures(image: TarFile) -> Iterator[NDArray[np.uint8]]:
    """The one picture of a file in a tar, RGB."""
    with open_image(image.path, io.BytesIO(image.read(_MOST_BYTES))) as picture:
        yield np.asarray(picture.convert("RGB"))
