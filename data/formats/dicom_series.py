"""The slices of a DICOM series in the order of space, or the frames of one file in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.clip import DataError
from data.formats.dicom_file import frames_of, naming, picture_shape, read_dicom
from data.formats.volume import FPS, Window

_TAGS = (
    "SOPInstanceUID Rows Columns NumberOfFrames ImagePositionPatient ImageOrientationPatient PixelSpacing "
    "SamplesPerPixel SliceThickness WindowCenter WindowWidth VOILUTFunction PhotometricInterpretation "
    "BurnedInAnnotation RecommendedDisplayFrameRate CineRate FrameTime PerFrameFunctionalGroupsSequence"
).split()
_UNEVEN = 0.05  # of the usual step
_ALIKE = 1e-3


@dataclass(frozen=True)
class Series:
    """Pictures that follow each other in space or time.

    Attributes:
        paths: one file for each slice, or the one file of all frames.
        frames: number of pictures.
        rows: height of each, pixels.
        columns: width of each, pixels.
        places: number of the picture by the instance UID and the number of the frame in it, from 1.
        positions: (T, 3) mm, centre of the first pixel of each slice; None: not known.
        orientation: (2, 3), directions along a row and along a column; None: not known.
        spacing: mm from slice to slice, row to row, column to column; None: not known.
        fps: frames a second.
        windows: what each file says should be black and white; None: it says nothing usable.
        is_grey: whether a window makes sense.
        is_inverted: low numbers are bright.
    """

    paths: tuple[Path, ...]
    frames: int
    rows: int
    columns: int
    places: dict[tuple[str, int], int]
    positions: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing: tuple[float, float, float] | None
    fps: float
    windows: tuple[Window | None, ...]
    is_grey: bool
    is_inverted: bool

    def values(self) -> Iterator[NDArray[Any]]:
        """See `data.dicom_file.frames_of`; files are read one by one."""
        for path in self.paths:
            yield from frames_of(path, self.frames // len(self.paths), self.rows, self.columns)


def read_series(paths: Sequence[Path], keep_uneven: bool, keep_burned_in: bool) -> Series:
    """Read the headers of the files of a series and put its slices in order, along their normal.

    Args:
        paths: one file for each slice, or one with many frames.
        keep_uneven: distances between slices may differ.
        keep_burned_in: pictures may say that they show text such as the patient's name.

    Raises:
        DataError: the files do not make one even stack of slices, or as above.
    """
    headers = [(path, read_dicom(path, tags=_TAGS)) for path in paths]
    for path, found in headers:
        if str(found.get("BurnedInAnnotation", "")).upper() == "YES" and not keep_burned_in:
            raise DataError(
                f"{path}: says that text is burned into its pictures, maybe the patient's name; remove that, or set "
                "burned_in=keep"
            )
    (frames, *_) = sizes = picture_shape(*headers[0])
    for path, found in headers[1:]:
        if frames > 1:
            raise DataError(f"{path}: is {paths[0].name} again; remove one of them")
        if picture_shape(path, found) != sizes:
            raise DataError(
                f"{path}: its series has pictures of several sizes; remove those that do not belong to it"
            )
    with naming(paths[0], "reading the header"):
        return _cine(*headers[0], sizes) if frames > 1 else _stack(headers, sizes, keep_uneven)


def _cine(path: Path, found: Any, sizes: tuple[int, int, int]) -> Series:
    """The frames of one file."""
    if "PerFrameFunctionalGroupsSequence" in found:
        raise DataError(
            f"{path}: is an enhanced multi-frame image; convert it to one file a slice (dcm4che emf2sf)"
        )
    rate = found.get("RecommendedDisplayFrameRate") or found.get("CineRate")
    if not rate and float(found.get("FrameTime") or 0) > 0:
        rate = 1000.0 / float(found.FrameTime)
    fps = float(rate or FPS)
    return Series(
        paths=(path,),
        frames=sizes[0],
        rows=sizes[1],
        columns=sizes[2],
        places={(str(found.SOPInstanceUID), k + 1): k for k in range(sizes[0])},
        positions=None,
        orientation=None,
        spacing=None,
        fps=fps if 0 < fps <= 1000 else FPS,
        windows=(_window(found),),
        is_grey=int(found.SamplesPerPixel) == 1,
        is_inverted=found.PhotometricInterpretation == "MONOCHROME1",
    )


def _stack(headers: list[tuple[Path, Any]], sizes: tuple[int, int, int], keep_uneven: bool) -> Series:
    """Slices in the order of their positions along the normal."""
    positions, orientation, pixel = None, None, None
    order, step = [0], float(headers[0][1].get("SliceThickness") or 0)
    if len(headers) > 1 or "ImagePositionPatient" in headers[0][1]:
        orientation, pixel = _plane(headers)
        positions = np.array([_numbers(path, found, "ImagePositionPatient", 3) for path, found in headers])
        along = positions @ np.cross(*orientation)
        order = np.argsort(along, kind="stable").tolist()
        if len(headers) > 1:
            step = _even_step([headers[k][0] for k in order], along[order], keep_uneven)
        positions = positions[order]
    headers = [headers[k] for k in order]
    if len({(int(h.SamplesPerPixel), h.PhotometricInterpretation) for _, h in headers}) > 1:
        raise DataError(f"{headers[0][0]}: its series mixes kinds of pictures; divide it")
    first = headers[0][1]
    return Series(
        paths=tuple(path for path, _ in headers),
        frames=len(headers),
        rows=sizes[1],
        columns=sizes[2],
        places={(str(found.SOPInstanceUID), 1): k for k, (_, found) in enumerate(headers)},
        positions=positions,
        orientation=orientation,
        spacing=(step, *pixel) if pixel and step > 0 else None,
        fps=FPS if len(headers) > 1 else 0.0,
        windows=tuple(_window(found) for _, found in headers),
        is_grey=int(first.SamplesPerPixel) == 1,
        is_inverted=first.PhotometricInterpretation == "MONOCHROME1",
    )


def _plane(headers: list[tuple[Path, Any]]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Directions along rows and columns, and distances of rows and of columns, the same in all files."""
    found = [
        (p, _numbers(p, h, "ImageOrientationPatient", 6), _numbers(p, h, "PixelSpacing", 2))
        for p, h in headers
    ]
    first, orientation, pixel = found[0]
    plane = orientation.reshape(2, 3)
    if np.abs(plane @ plane.T - np.eye(2)).max() > 0.01 or pixel.min() <= 0:
        raise DataError(f"{first}: its orientation or pixel spacing is none; correct or remove the series")
    for path, other, spacing in found:
        if np.abs(other - orientation).max() > _ALIKE or np.abs(spacing / pixel - 1).max() > _ALIKE:
            raise DataError(
                f"{path}: lies otherwise than {first.name} of the same series (another orientation or pixel spacing); "
                "remove scouts, divide the series"
            )
    return plane, (float(pixel[0]), float(pixel[1]))


def _even_step(paths: Sequence[Path], along: NDArray[np.float64], keep_uneven: bool) -> float:
    """The distance of slices, mm."""
    steps = np.diff(along)
    usual = float(np.median(steps))
    if steps.min() < _ALIKE:
        k = int(steps.argmin())
        raise DataError(
            f"{paths[k + 1]}: lies where {paths[k].name} of the same series lies; divide the series, its phases or "
            "echoes for instance, or remove one"
        )
    k = int(np.abs(steps - usual).argmax())
    if abs(steps[k] - usual) > _UNEVEN * usual and not keep_uneven:
        raise DataError(
            f"{paths[k + 1]}: lies {steps[k]:.3g} mm from {paths[k].name}, slices of this series usually {usual:.3g}; "
            "restore missing files, or set uneven=keep"
        )
    return usual


def _numbers(path: Path, found: Any, keyword: str, count: int) -> NDArray[np.float64]:
    """So many finite numbers of an element."""
    values = np.array([float(value) for value in found.get(keyword) or []])
    if values.shape != (count,) or not np.isfinite(values).all():
        raise DataError(f"{path}: has no usable {keyword}, so its place is unknown; export the series again")
    return values


def _window(found: Any) -> Window | None:
    """The first window of a file, if it is linear."""
    if not str(found.get("VOILUTFunction") or "LINEAR").startswith("LINEAR"):
        return None
    pair = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = found.get(keyword)
        if value is None or value == "":
            return None
        pair.append(float(value if isinstance(value, int | float) else value[0]))
    centre, width = pair
    return Window(centre - width / 2, centre + width / 2) if width > 0 else None
