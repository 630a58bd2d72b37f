"""YOLO segmentation: images with text files of outlines.

ROOT/images/train/NAME.jpg, ROOT/labels/train/NAME.txt      or
ROOT/train/images/NAME.jpg, ROOT/train/labels/NAME.txt      with any folders above and below; no split is needed
ROOT/data.yaml                                              "names" of the classes, if it is there

A line is an object: its class and the points of its outline, `0 x1 y1 x2 y2 x3 y3 ...`, as shares of width and height
from 0 to 1. A line of five numbers is a box, which is no mask. Outlines become masks as pycocotools makes them.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from data.choices import check_choices
from data.clip import AnnotatedVideo, DataError, SourceClip
from data.formats.copies import original_of
from data.formats.frame_folder import image_clip
from data.formats.inside import inside
from data.formats.label_images import MaskTable
from data.formats.outlines import NoOutline, polygon_mask
from data.look import look
from data.media import IMAGE_SUFFIXES, seen_size
from data.plural import plural
from data.shard import MAX_OBJECTS, as_key

log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 26  # of one text file
_SLACK = 0.01  # tools round, and let outlines reach a little over the edge
_CHOICES = {"unannotated": ("skip", "refuse"), "unusable": ("refuse", "skip")}


@dataclass(frozen=True)
class Source:
    """Images of a data set for YOLO segmentation.

    Attributes:
        root: the folder.
        split: name of a folder between ROOT and the images, such as "train"; "": all.
        names: the YAML with the names of the classes, relative to the folder; without it they stay numbers.
        unannotated: "skip" images without outline, their number is said, or "refuse" them.
        unusable: "refuse" images with a box, fewer than three points, or an outline around no pixel, or "skip" that
            line.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    split: str = ""
    names: str = "data.yaml"
    unannotated: str = "skip"
    unusable: str = "refuse"
    name: str = "yolo"
    license: str = ""

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)

    def clips(self) -> list[SourceClip]:
        """Every image with outlines, and every text file without image, in the order of their paths.

        Raises:
            DataError: no images with labels are there, or the names of the classes cannot be read.
        """
        images, labels = self._files("images", IMAGE_SUFFIXES), self._files("labels", (".txt",))
        for name in [name for name in labels if name.rpartition("/")[2] == "classes" and name not in images]:
            del labels[name]  # a list of classes that annotation tools leave beside the labels
        if not images.keys() & labels.keys():
            wanted = f"{self.split}/" if self.split else ""
            raise DataError(
                f"{self.root}: expected images/{wanted}NAME.jpg and labels/{wanted}NAME.txt, or {wanted}images and "
                f"{wanted}labels, found {look(self.root)}"
            )
        empty = {name for name in images if not any(path.stat().st_size for path in labels.get(name, []))}
        if empty and self.unannotated == "skip":
            log.warning("%s: %s without outline left out", self.root, plural(len(empty), "image"))
        wanted_names = sorted(
            (images.keys() | labels.keys()) - (empty if self.unannotated == "skip" else set())
        )
        names = self._names()
        return [
            SourceClip(
                as_key(name),
                partial(self._read, name, images.get(name, []), labels.get(name, []), names),
                original_of(name),
            )
            for name in wanted_names
        ]

    def _files(self, kind: str, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
        """Files in the folders called `kind` by their paths without that folder and without ending."""
        found = defaultdict[str, list[Path]](list)
        for path in sorted(self.root.rglob("*")):
            parts = path.relative_to(self.root).with_suffix("").parts
            if path.suffix.lower() not in suffixes or kind not in parts[:-1] or path.name.startswith("."):
                continue
            last = len(parts) - 2 - parts[:-1][::-1].index(kind)
            rest = parts[:last] + parts[last + 1 :]
            if not self.split or self.split in rest[:-1]:
                found["/".join(rest)].append(path)
        return dict(found)

    def _names(self) -> dict[int, str]:
        path = inside(self.root, self.names, "the option names")
        if not path.is_file():
            return {}
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: {path.stat().st_size} bytes are too many for names of classes")
        try:
            found = yaml.safe_load(path.read_bytes())
        except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not YAML ({str(error)[:200]}); correct it") from error
        names = found.get("names") if isinstance(found, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict) or not all(type(number) is int for number in names):
            raise DataError(
                f"{path}: 'names' must list the classes or give each number a name, got {str(names)[:80]}"
            )
        return {number: str(name) for number, name in names.items()}

    def _read(
        self, name: str, images: list[Path], labels: list[Path], names: dict[int, str]
    ) -> AnnotatedVideo:
        if not images or not labels:
            there, missing = (images, "label") if images else (labels, "image")
            raise DataError(
                f"{there[0]}: has no {missing}; restore it or remove this file",
                "image-without-mask" if images else "mask-without-image",
            )
        for files in (images, labels):
            if len(files) > 1:
                raise DataError(f"{files[0]}: and {files[1]} belong to one image; remove one of them")
        height, width = seen_size(images[0], str(labels[0]))
        classes, masks = [], []
        for number, line in enumerate(_lines(labels[0]), 1):
            if not line.strip():
                continue
            where = f"{labels[0]}, line {number}"
            try:
                category, mask = _object(line, height, width, where)
            except NoOutline as error:
                if self.unusable == "skip":
                    continue
                raise DataError(f"{error}; correct it, or leave such lines out with unusable=skip") from None
            if names and category not in names:
                raise DataError(f"{where}: class {category} has no name in {self.names}")
            classes.append(category)
            masks.append((mask,))
        if not 0 < len(masks) <= MAX_OBJECTS:
            raise DataError(
                f"{labels[0]}: {len(masks)} outlines, expected 1 to {MAX_OBJECTS}; annotate it or remove it",
                "mask-file" if masks else "image-without-mask",
            )
        above = name.rpartition("/")[0].split("/")
        meta: dict[str, Any] = {
            "source": self.name,
            "license": self.license,
            "split": self.split or above[0],
            "categories": [names.get(category, str(category)) for category in classes],
        }
        table = MaskTable(tuple(range(1, len(masks) + 1)), tuple(masks), height, width)
        return image_clip(as_key(name), [(0, images[0])], table, 0.0, meta)


def _lines(path: Path) -> list[str]:
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"{path}: {path.stat().st_size} bytes, at most {_MOST_BYTES} are accepted")
    try:
        return path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file ({error}); export it again") from error


def _object(line: str, height: int, width: int, where: str) -> tuple[int, str]:
    """Class and mask of a line."""
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        raise DataError(f"{where}: expected numbers, `class x1 y1 x2 y2 ...`, got {line[:60]!r}") from None
    category, points = values[0], values[1:]
    if not (category.is_integer() and 0 <= category < 2**31):
        raise DataError(f"{where}: the class is {line.split()[0][:40]}, expected a whole number from 0")
    if len(points) == 4:
        raise NoOutline(
            f"{where}: is a box (5 numbers), which is no mask; export polygons (YOLO segmentation)"
        )
    if not all(-_SLACK <= value <= 1 + _SLACK for value in points):  # false for nan, too
        raise DataError(f"{where}: points must be shares of width and height from 0 to 1; are these pixels?")
    scaled = [value * (height if k % 2 else width) for k, value in enumerate(points)]
    return int(category), polygon_mask([scaled], height, width, where)
