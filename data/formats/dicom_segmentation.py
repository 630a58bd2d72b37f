"""DICOM segmentations (DICOM SEG): which frame belongs to which slice of a series and to which segment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.clip import DataError
from data.formats.dicom_file import naming, picture_shape, read_dicom, unpack_bits
from data.formats.dicom_series import Series
from data.rle import encode_mask
from data.shard import MAX_CELLS

STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")  # implicit and explicit little endian
_KINDS = {"MANUAL": "manual", "SEMIAUTOMATIC": "manual", "AUTOMATIC": "auto"}
_NEAR = 0.1  # of the distance of pixels or slices


@dataclass(frozen=True)
class Segment:
    """One object: `masks` are COCO strings by the number of the slice, `kind` "manual", "auto" or ""."""

    number: int
    label: str
    kind: str
    masks: dict[int, str] = field(default_factory=dict)


def read_segmentation(path: Path, series: Series) -> list[Segment]:
    """The segments of a file that have a pixel, in the order of their numbers.

    Raises:
        DataError: not binary, compressed, damaged, or a frame lies on no slice of the series.
    """
    found = read_dicom(path, pixels=True)
    with naming(path, "reading the segmentation"):
        frames, rows, columns = picture_shape(path, found)
        _check(path, found, series, (frames, rows, columns))
        raw = found.PixelData
        segments = {}
        for item in found.SegmentSequence:
            kind = _KINDS.get(str(item.get("SegmentAlgorithmType", "")), "")
            segments[int(item.SegmentNumber)] = Segment(
                int(item.SegmentNumber), str(item.get("SegmentLabel", "")), kind
            )
        if len(segments) * series.frames > MAX_CELLS:
            raise DataError(f"{path}: {len(segments)} segments in {series.frames} slices are too many")
        shared = found.get("SharedFunctionalGroupsSequence") or [{}]
        for k, group in enumerate(found.PerFrameFunctionalGroupsSequence):
            where = f"{path}, frame {k + 1}"
            groups = _Groups(group, shared[0])
            number = int(groups.first("SegmentIdentificationSequence").ReferencedSegmentNumber)
            if number not in segments:
                raise DataError(
                    f"{where}: belongs to segment {number}, which is not described; export it again"
                )
            place = _place(groups, series, where)
            if mask := encode_mask(unpack_bits(raw, k, rows, columns)):
                if place in segments[number].masks:
                    raise DataError(f"{where}: segment {number} is on this slice twice; export it again")
                segments[number].masks[place] = mask
    return [segments[number] for number in sorted(segments) if segments[number].masks]


@dataclass(frozen=True)
class _Groups:
    """The functional groups of a frame, and those that all frames share."""

    own: Any
    shared: Any

    def first(self, keyword: str) -> Any:
        """The first item of a group; an empty one if there is none."""
        return (self.own.get(keyword) or self.shared.get(keyword) or [{}])[0]


def _check(path: Path, found: Any, series: Series, sizes: tuple[int, int, int]) -> None:
    """See that the file is of a kind that can be read, and of the size of its series."""
    if str(found.SegmentationType) != "BINARY" or int(found.BitsAllocated) != 1:
        raise DataError(
            f"{path}: is a {found.SegmentationType} segmentation, only BINARY ones are read; export it as that"
        )
    syntax = found.file_meta.TransferSyntaxUID
    if syntax not in _PLAIN:
        raise DataError(
            f"{path}: a segmentation stored as {syntax.name}; decompress it, with gdcmconv --raw for instance"
        )
    frames, rows, columns = sizes
    if (rows, columns) != (series.rows, series.columns):
        raise DataError(
            f"{path}: is {rows}x{columns}, its series {series.rows}x{series.columns}; export it on the series' own grid"
        )
    if (
        len(found.PerFrameFunctionalGroupsSequence) != frames
        or len(found.PixelData) * 8 < frames * rows * columns
    ):
        raise DataError(f"{path}: has not the {frames} frames that it says; export it again")


def _place(groups: _Groups, series: Series, where: str) -> int:
    """The number of the slice that a frame lies on, from what it refers to and from where it lies."""
    _expect_plane(groups, series, where)
    sources = [
        (str(source.ReferencedSOPInstanceUID), int(number))
        for derivation in groups.own.get("DerivationImageSequence") or []
        for source in derivation.get("SourceImageSequence") or []
        for number in np.atleast_1d(source.get("ReferencedFrameNumber") or 1)
    ]
    named = {series.places[source] for source in sources if source in series.places}
    position = groups.first("PlanePositionSequence").get("ImagePositionPatient")
    if position is None or series.positions is None:
        if len(named) != 1:
            raise DataError(
                f"{where}: refers to {len(named)} pictures of its series, expected one; export it again"
            )
        return named.pop()
    apart = np.linalg.norm(series.positions - np.array([float(v) for v in position]), axis=1)
    nearest = int(apart.argmin())
    if apart[nearest] > _NEAR * min(series.spacing or (1.0,)):
        raise DataError(
            f"{where}: lies on no slice of its series, {apart[nearest]:.3g} mm from the nearest; export it on the "
            "series' own grid"
        )
    if len(named) == 1 and nearest not in named:
        raise DataError(f"{where}: refers to another slice than the one it lies on; export it again")
    return nearest


def _expect_plane(groups: _Groups, series: Series, where: str) -> None:
    """See that rows and columns of a frame run as those of the series."""
    orientation = groups.first("PlaneOrientationSequence").get("ImageOrientationPatient")
    pixel = groups.first("PixelMeasuresSequence").get("PixelSpacing")
    if orientation is not None and series.orientation is not None:
        if np.abs(np.array([float(v) for v in orientation]) - series.orientation.ravel()).max() > 0.01:
            raise DataError(f"{where}: is turned against its series; export it on the series' own grid")
    if pixel is not None and series.spacing is not None:
        if np.abs(np.array([float(v) for v in pixel]) / series.spacing[1:] - 1).max() > 0.01:
            raise DataError(
                f"{where}: has another pixel spacing than its series; export it on the series' own grid"
            )
