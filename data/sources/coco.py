"""COCO JSON: images with one file of outlines, as COCO, LVIS and most annotation tools write it.

ROOT/ANNOTATIONS.json        "images", "annotations", "categories"
ROOT/IMAGES/FILE_NAME        what "file_name" of an image says, in the folder that the option `images` names

LVIS has no "file_name": its images are ROOT/IMAGES/train2017/NAME.jpg, as "coco_url" says.
ROOT may be the JSON itself; images are then looked for beside it. Of an annotation these keys are read: `id`,
`image_id`, `category_id`, `iscrowd` and `segmentation`, which is a list of polygons (the parts of one object), or run
lengths {"size": [h, w], "counts": ...}, compressed (a string) or not (a list). Polygons become masks as pycocotools
makes them.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data.choices import check_choices
from data.clip import AnnotatedVideo, DataError, SourceClip
from data.formats.copies import original_of
from data.formats.frame_folder import image_clip
from data.formats.inside import inside
from data.formats.json_fields import objects, whole
from data.formats.json_file import read_object
from data.formats.json_mask import rle_mask
from data.formats.label_images import MaskTable
from data.formats.outlines import NoOutline, polygon_mask
from data.look import look
from data.plural import plural
from data.shard import MAX_OBJECTS, MAX_SIDE, as_key

log = logging.getLogger(__name__)

_CHOICES = {"crowds": ("skip", "keep"), "unannotated": ("skip", "refuse"), "unusable": ("refuse", "skip")}


@dataclass(frozen=True)
class Source:
    """Images of a COCO JSON.

    Attributes:
        root: the folder, or the JSON.
        annotations: the JSON, relative to the folder; "": the only one in it or in its folder annotations.
        images: folder of the images, relative to the folder.
        crowds: "skip" or "keep" annotations with iscrowd=1; a crowd is no single object.
        unannotated: "skip" images without annotation, their number is said, or "refuse" them.
        unusable: "refuse" images with an annotation that has no outline (a box alone) or covers no pixel, or "skip"
            that annotation.
        split: what `meta.json` names as the split.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license; "": what the JSON says of the image.
    """

    root: Path
    annotations: str = ""
    images: str = ""
    crowds: str = "skip"
    unannotated: str = "skip"
    unusable: str = "refuse"
    split: str = ""
    name: str = "coco"
    license: str = ""

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)

    def clips(self) -> list[SourceClip]:
        """Every image with annotations in the order of the JSON.

        Raises:
            DataError: no JSON, several, or another kind of it; or none of its images is there.
        """
        path = self._json()
        found = read_object(path)
        known = _Names(path, _names(found, "categories", path), _names(found, "licenses", path))
        by_image = defaultdict[Any, list[dict[str, Any]]](list)
        for annotation in objects(found.get("annotations"), f"{path}, annotations"):
            by_image[_id(annotation, "image_id", path)].append(annotation)
        listed = objects(found.get("images"), f"{path}, images")
        images = {_id(image, "id", path): image for image in listed}
        if len(images) != len(listed):
            raise DataError(f"{path}: two images have one id; export it again", "duplicate-id")
        self._tell_of_gaps(path, images, by_image)
        wanted = {i: image for i, image in images.items() if i in by_image or self.unannotated == "refuse"}
        if not wanted:
            raise DataError(f"{path}: holds no image with annotations")
        self._expect_images(path, wanted.values())
        return [
            SourceClip(
                _key(image), partial(self._read, image, by_image.get(i, []), known), original_of(_stem(image))
            )
            for i, image in wanted.items()
        ]

    def _json(self) -> Path:
        if self.root.is_file():
            return self.root
        if self.annotations:
            return inside(self.root, self.annotations, "the option annotations")
        found = sorted([*self.root.glob("*.json"), *self.root.glob("annotations/*.json")])
        if len(found) != 1:
            shown = ", ".join(str(path.relative_to(self.root)) for path in found[:4])
            raise DataError(
                f"{self.root}: expected one JSON, found {shown or look(self.root)}; name it: "
                "annotations=annotations/instances_train2017.json"
            )
        return found[0]

    @property
    def _folder(self) -> Path:
        return self.root.parent if self.root.is_file() else self.root

    def _image(self, image: dict[str, Any], where: str) -> Path:
        folder = inside(self._folder, self.images, "the option images") if self.images else self._folder
        return inside(folder, _file_name(image), where)

    def _tell_of_gaps(self, path: Path, images: dict[Any, Any], by_image: dict[Any, list[Any]]) -> None:
        """Say how much is left out that no clip will speak of."""
        empty = sum(i not in by_image for i in images)
        if empty and self.unannotated == "skip":
            log.warning("%s: %s without annotation left out", path, plural(empty, "image"))
        lost = sum(len(found) for i, found in by_image.items() if i not in images)
        if lost:
            log.warning("%s: %s of images that it does not list left out", path, plural(lost, "annotation"))

    def _expect_images(self, path: Path, images: Iterable[dict[str, Any]]) -> None:
        """Where not one image is in its place, it is the place that is wrong."""
        place = path
        for image in images:
            try:
                place = self._image(image, str(path))
            except DataError:  # is said of this image when it is read
                return
            if place.is_file():
                return
        raise DataError(
            f"{path}: none of its images is there, {place} for instance; {self._folder} holds {look(self._folder)}; "
            "name the folder of the images: images=train2017"
        )

    def _read(
        self, image: dict[str, Any], annotations: list[dict[str, Any]], known: _Names
    ) -> AnnotatedVideo:
        where = f'{known.path}, image "{_file_name(image)}" (id {image["id"]})'
        path = self._image(image, where)
        height, width = (
            whole(image.get(side), f"{where}, {side}", 1, MAX_SIDE) for side in ("height", "width")
        )
        if not annotations:
            raise DataError(
                f"{where}: has no annotation; annotate it or set unannotated=skip", "image-without-mask"
            )
        if len(annotations) > MAX_OBJECTS:
            raise DataError(f"{where}: {len(annotations)} annotations are too many")
        kept = [
            (annotation, mask)
            for annotation in annotations
            if (mask := self._mask(annotation, height, width, where)) is not None
        ]
        if not kept:
            raise DataError(
                f"{where}: has annotations of crowds alone, or that are skipped as unusable; remove it"
            )
        ids = [whole(found.get("id"), f"{where}, an annotation's id", 0, 2**62) for found, _ in kept]
        if repeated := [i for i, count in Counter(ids).items() if count > 1]:
            raise DataError(
                f"{where}: two annotations have the id {repeated[0]}; export it again", "duplicate-id"
            )
        meta = {
            "source": self.name,
            "license": self.license or known.license(image),
            "split": self.split,
            "image_id": image["id"],
            "file_name": _file_name(image),
            "categories": [known.category(found, where) for found, _ in kept],
        }
        table = MaskTable(tuple(ids), tuple((mask,) for _, mask in kept), height, width)
        return image_clip(_key(image), [(0, path)], table, 0.0, meta)

    def _mask(self, annotation: dict[str, Any], height: int, width: int, where: str) -> str | None:
        """The mask of an annotation, None if it is to be left out."""
        place = f"{where}, annotation {annotation.get('id')}"
        if whole(annotation.get("iscrowd", 0), f"{place}, iscrowd", 0, 1) and self.crowds == "skip":
            return None
        try:
            return _outline(annotation.get("segmentation"), height, width, place)
        except NoOutline as error:
            if self.unusable == "skip":
                return None
            raise DataError(
                f"{error}; correct it, or leave such annotations out with unusable=skip"
            ) from None


@dataclass(frozen=True)
class _Names:
    """What a JSON, `path`, says for all images: names by id."""

    path: Path
    categories: dict[Any, str]
    licenses: dict[Any, str]

    def category(self, annotation: dict[str, Any], where: str) -> str:
        """Of an annotation; "" if it has none."""
        category = annotation.get("category_id")
        if category is None:
            return ""
        if type(category) not in (int, str) or category not in self.categories:
            raise DataError(
                f"{where}, annotation {annotation.get('id')}: category {str(category)[:40]} is not listed in categories"
            )
        return self.categories[category]

    def license(self, image: dict[str, Any]) -> str:
        """Of an image; "" if none is listed for it."""
        number = image.get("license")
        return self.licenses.get(number, "") if type(number) in (int, str) else ""


def _outline(found: Any, height: int, width: int, where: str) -> str:
    if found is None or found == []:
        raise NoOutline(f"{where}: has no segmentation, a box alone is no mask")
    if isinstance(found, list):
        return polygon_mask(found, height, width, where)
    mask = rle_mask(found, height, width, where)
    if not mask:
        raise NoOutline(f"{where}: the mask has no pixel")
    return mask


def _id(found: dict[str, Any], field: str, path: Path) -> int | str:
    value = found.get(field)
    if type(value) not in (int, str):
        raise DataError(
            f"{path}: {field!r} is {str(value)[:40]}, expected a number or a string, in {str(found)[:80]}"
        )
    return value  # type: ignore[return-value]


def _names(found: dict[str, Any], field: str, path: Path) -> dict[Any, str]:
    listed = objects(found.get(field) or [], f"{path}, {field}")
    return {_id(item, "id", path): str(item.get("name", "")) for item in listed}


def _file_name(image: dict[str, Any]) -> Any:
    """Where an image is; LVIS says it by a URL that ends in train2017/NAME.jpg."""
    url = image.get("coco_url")
    if "file_name" in image or not isinstance(url, str):
        return image.get("file_name")
    return "/".join(url.split("/")[-2:])


def _stem(image: dict[str, Any]) -> str:
    """The path of an image without ending, by which it is known; what is wrong with it is said when it is read."""
    return os.path.splitext(str(_file_name(image)))[0]


def _key(image: dict[str, Any]) -> str:
    return as_key(_stem(image))
