"""NIfTI: volumes with volumes of labels (.nii, .nii.gz), the slices as video frames.

ROOT/imagesTr/NAME_0000.nii.gz, ROOT/labelsTr/NAME.nii.gz      nnU-Net; `channel` chooses _0000, _0001, ...
ROOT/imagesTr/NAME.nii.gz, ROOT/labelsTr/NAME.nii.gz           MSD; `channel` chooses a volume of four dimensions
ROOT/**/NAME/image.nii.gz, ROOT/**/NAME/label.nii.gz           a folder a case; or, with label=FOLDER,
ROOT/**/NAME/image.nii.gz, ROOT/**/NAME/FOLDER/*.nii.gz        one file an object, which may overlap

Every value of a volume of labels but 0 is an object. Names of labels are taken from ROOT/dataset.json, if there is one.
Slices are cut along the voxels' own axes, nothing is resampled; `meta.json` says the spacing in mm.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.clip import AnnotatedVideo, DataError, Pictures, SourceClip
from data.formats.inside import inside
from data.formats.json_file import read_object
from data.formats.label_images import MaskTable
from data.formats.nifti_file import NiftiFile, read_header, stem_of
from data.formats.volume import (
    FPS,
    Slicing,
    check_axis,
    check_ignore,
    check_patient,
    group_of,
    label_table,
    object_rows,
    parse_window,
    pictures,
    slicing,
)
from data.look import look
from data.plural import plural
from data.rle import encode_mask
from data.shard import MAX_OBJECTS, as_key

log = logging.getLogger(__name__)

_TOLERANCE = 0.05  # voxels that the corners of two grids may lie apart
_MAX_JSON_BYTES = 16 << 20


@dataclass(frozen=True)
class Source:
    """NIfTI volumes.

    Attributes:
        root: the folder.
        images: folder of the images; without it in `root`, every case has a folder of its own.
        labels: folder of the labels, with the names of the images.
        image: in the folder of a case, the name of its image without ending; NAME stands for the folder's name.
        label: likewise of its labels, a file or a folder of files.
        axis: what slices are cut across: "axial", "coronal", "sagittal", or "auto", the largest spacing.
        window: values that become black and white: "auto" (the percentiles 0.5 and 99.5), "brain", "lung", "abdomen" or
            "bone" for CT, or centre and width such as "40,400".
        channel: which image of several: NAME_0001 for 1, or the second volume of four dimensions. null: NAME_0000, and
            a file of several volumes is refused.
        ignore: labels that are background beside 0.
        patient: regular expression on the names whose group says whose volume it is, "(sub-[^_]+)" for instance; "":
            each is another's.
        grid: "refuse" labels whose header places them elsewhere than the image, or "trust" that the voxels correspond.
        split: what `meta.json` names as the split.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    images: str = "imagesTr"
    labels: str = "labelsTr"
    image: str = "image"
    label: str = "label"
    axis: str = "auto"
    window: str | list[float] = "auto"
    channel: int | None = None
    ignore: Collection[int] = ()
    patient: str = ""
    grid: str = "refuse"
    split: str = ""
    name: str = "nifti"
    license: str = ""

    def __post_init__(self) -> None:
        check_axis(self.axis)
        parse_window(self.window)
        check_ignore(self.ignore)
        check_patient(self.patient)
        if self.channel is not None and (type(self.channel) is not int or not 0 <= self.channel < 10_000):
            raise DataError(f"channel must be a whole number from 0 on, or null, got {self.channel!r}")
        if self.grid not in ("refuse", "trust"):
            raise DataError(f"grid must be refuse or trust, got {self.grid!r}")

    def clips(self) -> list[SourceClip]:
        """Every volume with labels, in the order of the names; how many have none is said.

        Raises:
            DataError: neither layout is there, or a name does not tell its patient.
        """
        images, labels = (
            inside(self.root, name, "the options images and labels") for name in (self.images, self.labels)
        )
        cases = self._pairs(images, labels) if labels.is_dir() else self._folders()
        if not cases:
            raise DataError(
                f"{self.root}: expected {self.images}/NAME.nii.gz and {self.labels}/NAME.nii.gz, or NAME/{self.image}"
                f".nii.gz and NAME/{self.label}.nii.gz, found {look(self.root)}; see images=, labels=, image=, label="
            )
        return [
            SourceClip(as_key(name), partial(self._read, name, case), group_of(name, self.patient))
            for name, case in sorted(cases.items())
        ]

    def _pairs(self, images: Path, labels: Path) -> dict[str, _Case]:
        """Cases by name, from a folder of images and one of labels."""
        found = _by_stem(images) if images.is_dir() else {}
        cases = {}
        for name, files in _by_stem(labels).items():
            channel = found.pop(f"{name}_{self.channel or 0:04d}", [])
            cases[name] = _Case(channel + found.pop(name, []), files)
        bare = [name for name in found if name[:-5] not in cases or not name[-4:].isdecimal()]
        _say_bare(images, len(bare))
        return cases

    def _folders(self) -> dict[str, _Case]:
        """Cases by the paths of their folders."""
        cases, bare = {}, 0
        for folder in sorted(path for path in self.root.rglob("*") if path.is_dir()):
            inner = folder.relative_to(self.root)
            if any(part.startswith(".") for part in inner.parts):
                continue
            here = _by_stem(folder)
            image, label = (name.replace("NAME", folder.name) for name in (self.image, self.label))
            parts = _by_stem(folder / label) if (folder / label).is_dir() else {}
            if image in here and (label in here or parts):
                files = here.get(label) or [path for same in parts.values() for path in same]
                cases[inner.as_posix()] = _Case(here[image], files, has_parts=label not in here)
            bare += image in here and inner.as_posix() not in cases
        _say_bare(self.root, bare)
        return cases

    def _read(self, name: str, case: _Case) -> AnnotatedVideo:
        case.check(name, self.images)
        image = read_header(case.images[0])
        volumes = image.shape[3]
        if volumes > 1 and (self.channel is None or self.channel >= volumes):
            raise DataError(
                f"{image.path}: holds {volumes} volumes; choose one, channel=0 to channel={volumes - 1}"
            )
        cut = slicing(image.affine, self.axis, str(image.path))
        labels = [self._label_header(path, image) for path in case.labels]
        table, names = self._objects(labels, cut) if case.has_parts else self._values(labels[0], cut)
        frames = len(table.rows[0])
        read = partial(_pictures, image, (self.channel or 0) if volumes > 1 else 0, cut, self.window)
        meta: dict[str, Any] = {"source": self.name, "license": self.license, "split": self.split}
        meta |= {"axis": cut.axis, "spacing_mm": list(cut.spacing), "window": self.window}
        return AnnotatedVideo(
            key=as_key(name),
            media=Pictures(image.path, (image.path,), read),
            height=table.height,
            width=table.width,
            fps=FPS if frames > 1 else 0.0,
            frame_index=tuple(range(frames)),
            object_ids=table.object_ids,
            masks=table.rows,
            meta=meta | ({"categories": names} if any(names) else {}),
        )

    def _label_header(self, path: Path, image: NiftiFile) -> NiftiFile:
        """The header of a volume of labels, which must have the grid of its image."""
        found = read_header(path)
        if found.shape != (*image.shape[:3], 1):
            raise DataError(
                f"{path}: has {_sizes(found)} voxels, its image {image.path.name} {_sizes(image)}; resample the labels "
                "to the image (nearest neighbour)"
            )
        corners = np.array(list(itertools.product(*((0, n - 1) for n in image.shape[:3]), [1]))).T
        apart = np.linalg.norm(((found.affine - image.affine) @ corners)[:3], axis=0).max()
        if self.grid == "refuse" and apart > _TOLERANCE * np.linalg.norm(image.affine[:3, :3], axis=0).min():
            raise DataError(
                f"{path}: its header places it up to {apart:.3g} mm from its image {image.path.name}; resample the "
                "labels to the image, or set grid=trust if only the header is wrong"
            )
        return found

    def _values(self, labels: NiftiFile, cut: Slicing) -> tuple[MaskTable, list[str]]:
        """The objects of a volume of labels, and their names."""
        table = label_table(_slices(labels, 0, cut), self.ignore, str(labels.path))
        known = _names(self.root / "dataset.json")
        return table, [known.get(i, "") for i in table.object_ids]

    def _objects(self, labels: Sequence[NiftiFile], cut: Slicing) -> tuple[MaskTable, list[str]]:
        """The objects of a folder of one volume each, and their names; those without a voxel are left out."""
        if len(labels) > MAX_OBJECTS:
            raise DataError(f"{labels[0].path.parent}: {len(labels)} files are too many objects")
        frames: list[dict[int, str]] = []
        size = (0, 0)
        for number, file in enumerate(labels, 1):
            seen: set[float] = set()
            for k, values in enumerate(_slices(file, 0, cut)):
                seen.update(np.unique(values[values != 0]).tolist())
                if len(seen) > 1:
                    raise DataError(
                        f"{file.path}: has the values 0, {sorted(seen)}, expected 0 and one other"
                    )
                size = (values.shape[0], values.shape[1])
                if len(frames) <= k:
                    frames.append({})
                if mask := encode_mask(values):
                    frames[k][number] = mask
        table = object_rows(frames, size, str(labels[0].path.parent))
        return table, [stem_of(labels[i - 1].path) for i in table.object_ids]


@dataclass(frozen=True)
class _Case:
    """The files of an image and of its labels; several of one name are reported when it is read."""

    images: list[Path]
    labels: list[Path]
    has_parts: bool = False  # one file an object

    def check(self, name: str, images: str) -> None:
        """See that there is one image, and one file of labels for each name."""
        if not self.images:
            raise DataError(f"{self.labels[0]}: no image {name} in {images}; restore it or remove the labels")
        for files in (self.images, self.labels):
            stems = [stem_of(path) for path in files]
            if len(set(stems)) < len(stems) or (len(files) > 1 and not self.has_parts):
                raise DataError(f"{files[0]}: and {files[1].name} are for one volume; remove one of them")


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """The NIfTI files of a folder by their names without ending; hidden ones are left out."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if (stem := stem_of(path)) and not path.name.startswith("."):
            found.setdefault(stem, []).append(path)
    return found


def _say_bare(folder: Path, count: int) -> None:
    if count:
        log.warning("%s: %s without labels left out", folder, plural(count, "volume"))


def _sizes(file: NiftiFile) -> str:
    return "x".join(map(str, file.shape if file.shape[3] > 1 else file.shape[:3]))


def _slices(file: NiftiFile, volume: int, cut: Slicing) -> Iterator[NDArray[Any]]:
    """What the voxels of a volume stand for, slice by slice."""
    for stored in cut.view(file.voxels(volume)):
        yield file.values(stored)


def _pictures(file: NiftiFile, volume: int, cut: Slicing, window: Any) -> Iterator[NDArray[np.uint8]]:
    """The slices of a volume, which is read when the first is asked for."""
    slices = cut.view(file.voxels(volume))
    return pictures(lambda: map(file.values, slices), len(slices), parse_window(window))


def _names(path: Path) -> dict[int, str]:
    """Names of labels from a dataset.json, as MSD ({"1": "liver"}) or nnU-Net ({"liver": 1}) write it."""
    labels = read_object(path, _MAX_JSON_BYTES).get("labels") if path.is_file() else None
    found = {}
    for key, value in labels.items() if isinstance(labels, dict) else ():
        number, name = (key, value) if isinstance(value, str) else (value, key)
        if isinstance(name, str) and str(number).isdecimal() and len(str(number)) < 10:
            found[int(number)] = name
    return found
