"""Images and masks in two folders, with the same names.

ROOT/images/**/NAME.jpg          any image format; the option `images` names the folder
ROOT/masks/**/NAME.png           kind=labels: the value of a pixel is its object's id (palette, or grey of 8 or 16 bits)
                                 kind=binary: one object, where the image is not 0 or not black
ROOT/masks/**/NAME/*.png         whatever the kind: a folder of masks of one object each, which may overlap

With the option `suffix` masks may be called NAME_mask.png.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.choices import check_choices
from data.clip import AnnotatedVideo, DataError, SourceClip
from data.formats.components import components
from data.formats.copies import original_of
from data.formats.frame_folder import image_clip, natural
from data.formats.inside import inside
from data.formats.label_images import MaskTable, object_table, read_labels, read_mask, tell_of_void
from data.look import look
from data.media import IMAGE_SUFFIXES
from data.plural import plural
from data.rle import encode_labels
from data.shard import MAX_OBJECTS, as_key

log = logging.getLogger(__name__)

_LOSSY = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Source:
    """Images with masks.

    Attributes:
        root: the folder of both folders.
        images: folder of the images, searched with its subfolders.
        masks: folder of the masks, with the same subfolders.
        suffix: what the name of a mask has more than that of its image.
        kind: of a mask file: "labels" or "binary".
        ignore: with "labels", the values that are background beside 0.
        components: every connected part of a mask file is an object of its own, for maps of classes.
        unannotated: "skip" images without mask, their number is said, or "refuse" them.
        split: what `meta.json` names as the split.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    images: str = "images"
    masks: str = "masks"
    suffix: str = ""
    kind: str = "labels"
    ignore: Collection[int] = (255,)
    components: bool = False
    unannotated: str = "skip"
    split: str = ""
    name: str = "images"
    license: str = ""

    def __post_init__(self) -> None:
        check_choices(self, {"kind": ("labels", "binary"), "unannotated": ("skip", "refuse")})
        if not isinstance(self.components, bool):
            raise DataError(f"components must be true or false, got {self.components!r}")
        if not isinstance(self.ignore, tuple | list) or not all(type(value) is int for value in self.ignore):
            raise DataError(f"ignore must be a list of values such as [255], got {self.ignore!r}")

    def clips(self) -> list[SourceClip]:
        """Every image with a mask, and every mask without an image, in the order of their names.

        Raises:
            DataError: one of the folders is missing, or no mask is there.
        """
        images, masks = (
            inside(self.root, name, "the options images and masks") if name else self.root
            for name in (self.images, self.masks)
        )
        if not images.is_dir() or not masks.is_dir():
            raise DataError(
                f"{self.root}: expected {self.images}/NAME.jpg and {self.masks}/NAME.png, found {look(self.root)}; "
                "name the two folders, images=img and masks=gt for instance"
            )
        if images == masks and not self.suffix:
            raise DataError(
                f"{images}: images and masks in one folder; say by suffix=_mask which are the masks"
            )
        pictures = _by_name(images)
        if images == masks:
            pictures = {name: paths for name, paths in pictures.items() if not name.endswith(self.suffix)}
        annotated, lost = self._annotated(pictures, _by_name(masks))
        if not annotated:
            raise DataError(
                f"{masks}: expected NAME{self.suffix}.png or NAME{self.suffix}/*.png for the images in {images}, found "
                f"{look(masks)}"
            )
        empty = sorted(pictures.keys() - annotated.keys())
        if empty and self.unannotated == "skip":
            log.warning("%s: %s without mask left out", images, plural(len(empty), "image"))
        names = annotated.keys() | lost.keys() | set(empty if self.unannotated == "refuse" else ())
        return [
            self._clip(name, pictures.get(name, []), annotated.get(name, lost.get(name)))
            for name in sorted(names)
        ]

    def _annotated(self, pictures: _Paths, masks: _Paths) -> tuple[dict[str, _Masks], dict[str, _Masks]]:
        """By the names of images: the file or the folder that holds its masks, and those that belong to no image."""
        folders = defaultdict[str, list[Path]](list)
        for name, paths in masks.items():
            folders[name.rpartition("/")[0]] += paths
        annotated = {}
        for name in pictures:
            if files := masks.pop(name + self.suffix, None):
                annotated[name] = _Masks(files, is_folder=False)
            elif files := folders.get(name + self.suffix):
                annotated[name] = _Masks(sorted(files, key=natural), is_folder=True)
        used = {name + self.suffix for name, found in annotated.items() if found.is_folder}
        lost = {
            name: _Masks(files, is_folder=False)
            for name, files in masks.items()
            if name.endswith(self.suffix) and name.rpartition("/")[0] not in used
        }
        return annotated, lost

    def _clip(self, name: str, pictures: list[Path], masks: _Masks | None) -> SourceClip:
        return SourceClip(as_key(name), partial(self._read, name, pictures, masks), original_of(name))

    def _read(self, name: str, pictures: list[Path], masks: _Masks | None) -> AnnotatedVideo:
        if masks is None:
            raise DataError(
                f"{pictures[0]}: has no mask; annotate it or set unannotated=skip", "image-without-mask"
            )
        if not pictures:
            raise DataError(
                f"{masks.files[0]}: no image {name} in {self.images or self.root}; restore it or remove the mask",
                "mask-without-image",
            )
        for files in (pictures, [] if masks.is_folder else masks.files):
            if len(files) > 1:
                raise DataError(
                    f"{files[0]}: and {files[1].name} have one name; remove one of them", "duplicate-frame"
                )
        meta: dict[str, Any] = {"source": self.name, "license": self.license, "split": self.split}
        if masks.is_folder:
            table = object_table({k: [path] for k, path in enumerate(masks.files, 1)})
            meta["mask_files"] = [path.name for path in masks.files]
        else:
            table, values = self._table(masks.files[0])
            if self.components:
                meta["labels"] = values
        return image_clip(as_key(name), [(0, pictures[0])], table, 0.0, meta)

    def _table(self, path: Path) -> tuple[MaskTable, list[int]]:
        """The objects of a mask file, and the value that each has in it."""
        labels = self._labels(path)
        numbers = components(labels) if self.components else labels
        objects = encode_labels(numbers)
        if not objects or len(objects) > MAX_OBJECTS:
            raise DataError(
                f"{path}: holds {len(objects)} objects, expected 1 to {MAX_OBJECTS}; correct or remove it",
                "mask-file" if objects else "nothing-visible",
            )
        height, width = labels.shape
        table = MaskTable(tuple(objects), tuple((mask,) for mask in objects.values()), height, width)
        if not self.components:
            return table, list(objects)
        values = labels.ravel()[np.unique(numbers, return_index=True)[1]]
        return table, values[values != 0].tolist()

    def _labels(self, path: Path) -> NDArray[Any]:
        """The values of a mask file, 0 where there is no object."""
        if self.kind == "binary":
            return read_mask(path).astype(np.uint8)
        if path.suffix.lower() in _LOSSY:
            raise DataError(f"{path}: JPEG does not keep values; save masks as PNG (or set kind=binary)")
        labels = read_labels(path)
        tell_of_void(path, labels, self.ignore)
        kept = np.where(np.isin(labels, list(self.ignore)), 0, labels)
        if labels.any() and not kept.any():
            raise DataError(
                f"{path}: holds no value but 0 and {labels.max()}, which is ignored; is it a mask of one object "
                "(kind=binary), or does ignore=[] help?",
                "void-255",
            )
        return kept


@dataclass(frozen=True)
class _Masks:
    """Of one image: a file, or the files of a folder."""

    files: list[Path]
    is_folder: bool


_Paths = dict[str, list[Path]]


def _by_name(folder: Path) -> _Paths:
    """The images in a folder and its subfolders by their paths in it without ending; hidden ones are left out."""
    found = defaultdict[str, list[Path]](list)
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if path.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith(".") for part in inner.parts):
            found[str(inner.with_suffix("").as_posix())].append(path)
    return dict(found)
