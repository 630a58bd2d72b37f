"""DICOM: series of slices with DICOM segmentations (DICOM SEG), the slices as video frames.

ROOT/**        DICOM files under any names, in any folders: images, one file a slice, and segmentations of them
               a file with many frames (ultrasound) is a video of its own

Files are put together by what they say: slices by series, in the order of their positions; segmentations by the series
they refer to, frame by frame. Every segment is an object; segments may overlap. Series without segmentation are left
out, and so is whatever is no picture; contours (RTSTRUCT) are not read.

Names, ids and dates of patients, the identifiers of studies and series, and names of files do not enter the shards:
clips are named by a hash of the series' identifier. Pictures are taken as they are, with text that is burned in.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.choices import check_choices
from data.clip import AnnotatedVideo, DataError, Pictures, SourceClip
from data.formats.dicom_file import is_dicom, naming, read_dicom
from data.formats.dicom_segmentation import STORAGE, Segment, read_segmentation
from data.formats.dicom_series import Series, read_series
from data.formats.label_images import MaskTable
from data.formats.volume import Window, object_rows, parse_window, pictures
from data.look import look
from data.shard import sha256

log = logging.getLogger(__name__)

_TAGS = (
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID PatientID Rows NumberOfFrames FrameOfReferenceUID "
    "ReferencedSeriesSequence"
).split()
_CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"
_CHOICES = {
    "group": ("patient", "study", "series"),
    "uneven": ("refuse", "keep"),
    "burned_in": ("refuse", "keep"),
}


@dataclass(frozen=True)
class Source:
    """DICOM series.

    Attributes:
        root: the folder.
        window: values that become black and white: "auto" (the percentiles 0.5 and 99.5), "file" (what the files say),
            "brain", "lung", "abdomen" or "bone" for CT, or centre and width such as "40,400".
        group: what `--split` never divides: all series of a "patient", a "study", or just the "series".
        uneven: "refuse" series with uneven distances of slices, missing ones for instance, or "keep" them.
        burned_in: "refuse" pictures that say that text is burned into them, or "keep" them.
        split: what `meta.json` names as the split.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    window: str | list[float] = "auto"
    group: str = "patient"
    uneven: str = "refuse"
    burned_in: str = "refuse"
    split: str = ""
    name: str = "dicom"
    license: str = ""

    def __post_init__(self) -> None:
        parse_window(self.window, ("file",))
        check_choices(self, _CHOICES)

    def clips(self) -> list[SourceClip]:
        """Every series with a segmentation, then every file that belongs to none, in the order of the names of files.

        Raises:
            DataError: there is no segmentation, or no DICOM file.
        """
        files, damaged = _scan(self.root)
        images = _images(files)
        segmentations = [file for file in files if file.kind == STORAGE]
        if not segmentations and not damaged:
            raise DataError(_nothing(self.root, files, len(images)))
        by_series: dict[str, list[str]] = defaultdict(list)
        for name, image in images.items():
            by_series[image.files[0].series].append(name)
        for file in segmentations:
            try:
                for name in _images_of(file, images, by_series):
                    images[name].segmentations.append(file.path)
            except DataError as error:
                damaged[file.path] = error
        bare = sum(not image.segmentations for image in images.values())
        if bare:
            log.warning("%s: %d series without segmentation left out", self.root, bare)
        clips = [
            SourceClip(_key(name), partial(self._read, name, image), self._group(image.files[0]))
            for name, image in images.items()
            if image.segmentations
        ]
        return clips + [SourceClip(_key(str(path)), partial(_fail, error)) for path, error in damaged.items()]

    def _group(self, file: _File) -> str:
        return {"patient": file.patient or file.study, "study": file.study, "series": file.series}[self.group]

    def _read(self, name: str, image: _Image) -> AnnotatedVideo:
        paths = [file.path for file in image.files]
        series = read_series(paths, self.uneven == "keep", self.burned_in == "keep")
        window = self._window(series)
        table, meta = _masks(image.segmentations, series)
        meta |= {"source": self.name, "license": self.license, "split": self.split}
        meta |= {"patient": image.patient, "window": self.window}
        if series.spacing:
            meta["spacing_mm"] = list(series.spacing)
        place = paths[0].parent if len(paths) > 1 else paths[0]
        return AnnotatedVideo(
            key=_key(name),
            media=Pictures(place, series.paths, partial(_pictures, series, window)),
            height=series.rows,
            width=series.columns,
            fps=series.fps,
            frame_index=tuple(range(series.frames)),
            object_ids=table.object_ids,
            masks=table.rows,
            meta=meta,
        )

    def _window(self, series: Series) -> Window | None:
        """What is black and white in a series; None: "auto"."""
        if self.window != "file":
            return parse_window(self.window)
        first = series.windows[0]
        if series.is_grey and (first is None or any(window != first for window in series.windows)):
            found = "no usable window" if first is None else "windows that differ from slice to slice"
            raise DataError(
                f"{series.paths[0]}: its series has {found}; set window=auto, or centre and width"
            )
        return first


@dataclass(frozen=True)
class _File:
    """What is needed of a file to put it with others."""

    path: Path
    kind: str
    instance: str
    series: str
    study: str
    patient: str
    place: str
    frames: int
    is_picture: bool
    refers_to: tuple[str, ...]  # series
    instances: frozenset[str]  # in them


@dataclass
class _Image:
    """The files of a series, or the one of a video, with the segmentations of it."""

    files: list[_File]
    patient: str
    segmentations: list[Path] = field(default_factory=list)


def _scan(root: Path) -> tuple[list[_File], dict[Path, DataError]]:
    """All DICOM files of a folder in the order of their names, and what is wrong with some."""
    found: list[_File] = []
    damaged: dict[Path, DataError] = {}
    for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if hidden or path.name == "DICOMDIR" or not path.is_file() or not is_dicom(path):
            continue
        try:
            found.append(_file(path))
        except DataError as error:
            damaged[path] = error
    return found, damaged


def _file(path: Path) -> _File:
    header = read_dicom(path, tags=_TAGS)
    with naming(path, "reading the header"):
        series = header.get("ReferencedSeriesSequence") or []
        instances = [item for one in series for item in one.get("ReferencedInstanceSequence") or []]
        return _File(
            path=path,
            kind=str(header.SOPClassUID),
            instance=str(header.SOPInstanceUID),
            series=str(header.SeriesInstanceUID),
            study=str(header.StudyInstanceUID),
            patient=str(header.get("PatientID") or ""),
            place=str(header.get("FrameOfReferenceUID") or ""),
            frames=int(header.get("NumberOfFrames") or 1),
            is_picture="Rows" in header,
            refers_to=tuple(str(one.SeriesInstanceUID) for one in series),
            instances=frozenset(str(item.ReferencedSOPInstanceUID) for item in instances),
        )


def _images(files: list[_File]) -> dict[str, _Image]:
    """The series of pictures by their identifiers, files of many frames by their own."""
    studies: dict[str, str] = {}
    for file in files:
        patient = file.patient or file.study
        studies[patient] = min(studies.get(patient, file.study), file.study)
    found: dict[str, _Image] = {}
    for file in files:
        if not file.is_picture or file.kind == STORAGE:
            continue
        name = file.instance if file.frames > 1 else file.series
        patient = file.patient or file.study
        # A hash of the id alone could be guessed: ids are short numbers. Identifiers of studies are not.
        image = found.setdefault(name, _Image([], sha256(f"{patient} {studies[patient]}".encode())[:16]))
        image.files.append(file)
    return found


def _images_of(file: _File, images: dict[str, _Image], by_series: dict[str, list[str]]) -> list[str]:
    """The images that a segmentation belongs to."""
    named = [
        name
        for series in file.refers_to
        for name in by_series.get(series, [])
        if name == series or name in file.instances or not file.instances  # of videos those that are meant
    ]
    if not file.refers_to and file.place:
        named = [name for name, image in images.items() if image.files[0].place == file.place]
        named = named if len(named) == 1 else []
    if not named:
        raise DataError(
            f"{file.path}: the series that it segments is not there; restore the series or remove it"
        )
    return named


def _nothing(root: Path, files: list[_File], series: int) -> str:
    if not files:
        return f"{root}: expected DICOM files, found {look(root)}"
    contours = any(file.kind == _CONTOURS for file in files)
    return (
        f"{root}: expected DICOM segmentations beside series of pictures, found {series} series of pictures and none"
        + ("; contours (RTSTRUCT) are not read, convert them to DICOM SEG" if contours else "")
    )


def _masks(paths: list[Path], series: Series) -> tuple[MaskTable, dict[str, Any]]:
    """The objects of all segmentations of a series and what is known of them.

    The id of an object is the number of its segment, or, of several files, its number in all of them.
    """
    found: list[Segment] = [segment for path in paths for segment in read_segmentation(path, series)]
    ids = [segment.number for segment in found] if len(paths) == 1 else list(range(1, len(found) + 1))
    frames: list[dict[int, str]] = [{} for _ in range(series.frames)]
    for number, segment in zip(ids, found, strict=True):
        for place, mask in segment.masks.items():
            frames[place][number] = mask
    table = object_rows(frames, (series.rows, series.columns), str(paths[0]))
    return table, {
        "categories": [segment.label for segment in found],
        "object_types": [segment.kind for segment in found],
    }


def _pictures(series: Series, window: Window | None) -> Iterator[NDArray[np.uint8]]:
    if not series.is_grey:
        return series.values()
    if window and series.is_inverted:
        window = Window(-window.high, -window.low)
    return pictures(series.values, series.frames, window)


def _key(name: str) -> str:
    return f"series-{sha256(name.encode())[:20]}"


def _fail(error: DataError) -> AnnotatedVideo:
    raise error
