"""Volumes as videos of their slices: which way round they are cut, which values are black and white, their masks.

Nothing is resampled: a slice has the rows and columns of the volume, so masks stay what they are, voxel for voxel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from data.clip import DataError
from data.formats.label_images import MaskTable
from data.rle import encode_labels
from data.shard import MAX_CELLS, MAX_OBJECTS

FPS = 6.0  # nominal: slices have no time; SA-V's annotated frames come at this rate
MAX_VOLUME_BYTES = 4 << 30  # of one volume, before memory is spent on it
AXES = ("sagittal", "coronal", "axial")  # cut across the first, second and third axis of RAS+
PRESETS = {"abdomen": (40.0, 400.0), "bone": (400.0, 1800.0), "brain": (40.0, 80.0), "lung": (-600.0, 1500.0)}
"""Centre and width for CT, in HU."""

_PERCENTILES = (0.5, 99.5)
_MOST_SAMPLED = 1 << 24  # voxels that percentiles are taken of
_BLOCK = 1 << 24
_ISOTROPIC = 1.01  # spacings that differ by less are equal


@dataclass(frozen=True)
class Window:
    """The values that become black and white; those between are spread evenly over 0 to 255."""

    low: float
    high: float

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """A picture of a slice; NaN is black, and so is all of a window without width."""
        if not self.high > self.low:
            return np.zeros(values.shape, np.uint8)
        with np.errstate(over="ignore", invalid="ignore"):  # infinite values, and windows beyond all bounds
            scaled = (np.asarray(values, np.float64) - self.low) / (self.high - self.low) * 255.0
        return np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0.0, 255.0)).astype(np.uint8)


def parse_window(text: Any, others: Collection[str] = ()) -> Window | None:
    """What the option `window` asks for; None: "auto", or one of the words in `others`.

    Args:
        text: "auto", a name of PRESETS, or centre and width as "40,400" or [40, 400].
        others: more words that are allowed.

    Raises:
        DataError: it is written otherwise.
    """
    if isinstance(text, str) and (text == "auto" or text in others):
        return None
    pair: Any = PRESETS.get(text) if isinstance(text, str) else text
    if isinstance(text, str) and pair is None:
        pair = text.split(",")
    try:
        centre, width = (float(value) for value in pair)
        if math.isfinite(centre) and math.isfinite(width) and width > 0:
            return Window(centre - width / 2, centre + width / 2)
    except (TypeError, ValueError):
        pass  # said below
    words = ", ".join(("auto", *others, *PRESETS))
    raise DataError(f"window must be {words}, or centre and width such as 40,400, got {text!r}")


def auto_window(slices: Iterable[NDArray[Any]], count: int) -> Window:
    """From the 0.5th to the 99.5th percentile of all finite values; of every n-th row and column of large volumes.

    Args:
        slices: (H, W) each, as they come: one is held at a time.
        count: how many.
    """
    kept: list[NDArray[Any]] = []
    for values in slices:
        step = math.ceil(math.sqrt(max(1.0, count * values.size / _MOST_SAMPLED)))
        part = values[::step, ::step]
        kept.append(part[np.isfinite(part)])
    sample = np.concatenate(kept)
    if sample.size == 0:
        return Window(0.0, 1.0)
    low, high = (float(value) for value in np.percentile(sample, _PERCENTILES))
    if low == high:  # nearly all of it is one value
        low, high = float(sample.min()), float(sample.max())
    return Window(low, high)


def read_numbers(file: Any, count: int, dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    """So many numbers from an open binary file, whose pages of memory are only taken as they are filled.

    Raises:
        DataError: the file ends before.
    """
    numbers = np.empty(count, dtype)
    memory = memoryview(cast(Any, numbers.view(np.uint8)))
    done = 0
    while done < len(memory):
        read = file.readinto(memory[done : done + _BLOCK])
        if not read:
            raise DataError(f"{where}: is cut off in its voxels; copy it again")
        done += read
    return numbers


def pictures(
    slices: Callable[[], Iterator[NDArray[Any]]], count: int, window: Window | None
) -> Iterator[NDArray[np.uint8]]:
    """The slices as 8-bit pictures; they are read twice where `window` is None, which stands for "auto"."""
    window = window or auto_window(slices(), count)
    for values in slices():
        yield window.apply(values)


@dataclass(frozen=True)
class Slicing:
    """How the voxels (I, J, K) of a volume become pictures.

    Attributes:
        axis: which of AXES is cut across.
        order: axes of the volume that count slices, rows and columns.
        reverse: which of these three run backwards.
        spacing: mm from slice to slice, row to row, column to column.
    """

    axis: str
    order: tuple[int, int, int]
    reverse: tuple[bool, bool, bool]
    spacing: tuple[float, float, float]

    def view(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """The voxels as (slices, rows, columns); shares their memory."""
        return voxels.transpose(self.order)[tuple(slice(None, None, -1 if r else 1) for r in self.reverse)]


def slicing(affine: NDArray[np.float64], axis: str, where: str) -> Slicing:
    """How to cut a volume across one of its own axes, seen as radiologists do.

    Slices go to the right, to the front and up (RAS+). Axial pictures have the front at the top, the others the head;
    axial and coronal ones have the patient's right on the left, sagittal ones the front.

    Args:
        affine: (4, 4), from voxel numbers to mm in RAS+; if it is oblique, the nearest axes are taken.
        axis: of AXES, or "auto": the one with the largest spacing, axial if they are equal.
        where: file that names it in messages.

    Raises:
        DataError: the affine is not invertible or not finite.
    """
    matrix = np.asarray(affine, np.float64)[:3, :3]
    steps = np.sqrt((matrix**2).sum(axis=0))
    if not np.isfinite(matrix).all() or steps.min() <= 0 or np.linalg.matrix_rank(matrix / steps) < 3:
        raise DataError(
            f"{where}: its affine {np.round(matrix, 4).tolist()} has no inverse; correct the header"
        )
    left, _, right = np.linalg.svd(matrix / steps)
    turn = left @ right
    place, sign = [0, 0, 0], [1.0, 1.0, 1.0]  # of each world axis: the volume's axis, and its direction
    free = np.abs(turn)
    for column in np.argsort(-free.max(axis=0), kind="stable"):
        world = int(free[:, column].argmax())
        place[world], sign[world] = int(column), turn[world, column]
        free[world] = -1.0
    mm = [float(steps[i]) for i in place]
    if axis == "auto":
        axis = next(name for name in reversed(AXES) if mm[AXES.index(name)] * _ISOTROPIC >= max(mm))
    cut = AXES.index(axis)
    rows, columns = (1 if cut == 2 else 2), (1 if cut == 0 else 0)
    return Slicing(
        axis=axis,
        order=(place[cut], place[rows], place[columns]),
        reverse=(sign[cut] < 0, sign[rows] > 0, sign[columns] > 0),
        spacing=(mm[cut], mm[rows], mm[columns]),
    )


def check_axis(axis: str) -> None:
    """See that the option `axis` is one.

    Raises:
        DataError: it is not.
    """
    if axis not in (*AXES, "auto"):
        raise DataError(f"axis must be auto, {', '.join(AXES)}, got {axis!r}")


def check_ignore(ignore: Any) -> None:
    """See that the option `ignore` is a list of labels.

    Raises:
        DataError: it is not.
    """
    if not isinstance(ignore, list | tuple) or not all(type(value) is int for value in ignore):
        raise DataError(f"ignore must be a list of labels such as [255], got {ignore!r}")


def label_table(slices: Iterable[NDArray[Any]], ignore: Collection[int], where: str) -> MaskTable:
    """The masks of a volume of labels: each value but 0 and those in `ignore` is an object.

    Args:
        slices: (H, W) each, of one size; integers, or floating-point numbers that are whole.
        ignore: labels that are background.
        where: file that names it in messages.

    Raises:
        DataError: values that are not labels, none, or too many.
    """
    found: list[dict[int, str]] = []
    size, cells, known = (0, 0), 0, set[int]()
    for k, values in enumerate(slices):
        labels = _as_labels(values, ignore, f"{where}, slice {k}")
        found.append(encode_labels(labels))
        known |= found[-1].keys()
        size, cells = (labels.shape[0], labels.shape[1]), len(known) * len(found)
        if len(known) > MAX_OBJECTS or cells > MAX_CELLS:
            raise DataError(f"{where}: {len(known)} labels in {len(found)} slices are too many")
    return object_rows(found, size, where)


def object_rows(found: Sequence[dict[int, str]], size: tuple[int, int], where: str) -> MaskTable:
    """The masks of a clip from those of each frame by object; an object without any mask is none.

    Raises:
        DataError: there is no object.
    """
    ids = sorted({i for frame in found for i in frame})
    if not ids:
        raise DataError(f"{where}: labels no voxel; annotate it or leave it out")
    return MaskTable(tuple(ids), tuple(tuple(frame.get(i, "") for frame in found) for i in ids), *size)


def _as_labels(values: NDArray[Any], ignore: Collection[int], where: str) -> NDArray[Any]:
    """Labels as unsigned integers, ignored ones as 0."""
    if values.dtype.kind not in "biuf":
        raise DataError(f"{where}: holds {values.dtype}, expected labels; save whole numbers")
    labels = np.where(np.isin(values, list(ignore)), 0, values) if ignore else values
    if labels.dtype.kind == "f":
        is_whole = np.isfinite(labels) & (np.rint(labels) == labels)
        if not is_whole.all():
            raise DataError(
                f"{where}: holds {labels[~is_whole].flat[0]:g}, labels are whole numbers; is it an image, or a map of "
                "probabilities, or was it resampled (nearest neighbour keeps labels)?"
            )
    low, high = labels.min(), labels.max()
    if low < 0 or high >= 2**31:
        raise DataError(
            f"{where}: holds {low if low < 0 else high:g}, labels are 0 to 2147483647; see ignore="
        )
    return labels.astype(np.uint16 if high < 1 << 16 else np.uint32)


def group_of(name: str, pattern: str) -> str:
    """The patient in the name of a volume: what the first group of a regular expression matches.

    Raises:
        DataError: the name does not match.
    """
    if not pattern:
        return ""
    found = re.search(pattern, name)
    if not found:
        raise DataError(f"{name}: does not match patient={pattern!r}; every name must tell its patient")
    return found[1]


def check_patient(pattern: Any) -> None:
    """See that the option `patient` is a regular expression with one group.

    Raises:
        DataError: it is not.
    """
    try:
        good = isinstance(pattern, str) and (not pattern or re.compile(pattern).groups == 1)
    except re.error:
        good = False
    if not good:
        raise DataError(
            f"patient must be a regular expression with one group, '(sub-[0-9]+)_' for instance, got {pattern!r}"
        )
