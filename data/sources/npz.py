"""Arrays of numpy (.npz): volumes or videos with labels, as MedSAM2 stores them.

ROOT/**/NAME.npz or one file     imgs: (T, H, W) or (T, H, W, 3) uint8
                                 gts: (T, H, W) whole numbers; each value but 0 is an object
                                 spacing, if known: three numbers in mm, x, y, z (columns, rows, slices)

A single image is (H, W) or (H, W, 3) with labels (H, W). Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.clip import AnnotatedVideo, DataError, Pictures, SourceClip
from data.formats.npz_file import NpzArray, npz_array, npz_arrays
from data.formats.volume import (
    FPS,
    check_ignore,
    check_patient,
    group_of,
    label_table,
    parse_window,
    pictures,
)
from data.look import look
from data.shard import MAX_FRAMES, MAX_SIDE, as_key

_ORDERS = ("xyz", "zyx")


@dataclass(frozen=True)
class Source:
    """Files of numpy arrays.

    Attributes:
        root: folder, searched with its subfolders, or one file.
        images: name of the array of pictures.
        labels: name of the array of labels.
        window: null: pictures are uint8 and stay as they are. For other numbers, the values that become black and
            white: "auto" (the percentiles 0.5 and 99.5), "brain", "lung", "abdomen" or "bone" for CT, or centre and
            width such as "40,400".
        spacing_order: of the array spacing: "xyz", as SimpleITK gives it, or "zyx".
        ignore: labels that are background beside 0.
        patient: regular expression on the names whose group says whose volume it is, "CT_([^_]+)" for instance; "":
            each is another's.
        split: what `meta.json` names as the split.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    images: str = "imgs"
    labels: str = "gts"
    window: str | list[float] | None = None
    spacing_order: str = "xyz"
    ignore: Collection[int] = ()
    patient: str = ""
    split: str = ""
    name: str = "npz"
    license: str = ""

    def __post_init__(self) -> None:
        if self.window is not None:
            parse_window(self.window)
        if self.spacing_order not in _ORDERS:
            raise DataError(f"spacing_order must be {' or '.join(_ORDERS)}, got {self.spacing_order!r}")
        check_ignore(self.ignore)
        check_patient(self.patient)

    def clips(self) -> list[SourceClip]:
        """Every file in the order of the names.

        Raises:
            DataError: none is there, or a name does not tell its patient.
        """
        found = {self.root.stem: self.root}
        if self.root.is_dir():
            paths = [(path.relative_to(self.root), path) for path in self.root.rglob("*.npz")]
            found = {
                inner.with_suffix("").as_posix(): path
                for inner, path in paths
                if not any(part.startswith(".") for part in inner.parts)
            }
        if not found:
            raise DataError(f"{self.root}: expected NAME.npz, found {look(self.root)}")
        return [
            SourceClip(as_key(name), partial(self._read, name, path), group_of(name, self.patient))
            for name, path in sorted(found.items())
        ]

    def _read(self, name: str, path: Path) -> AnnotatedVideo:
        images, labels = npz_array(path, self.images), npz_array(path, self.labels)
        self._check(images, labels)
        meta: dict[str, Any] = {"source": self.name, "license": self.license, "split": self.split}
        if "spacing" in npz_arrays(path):
            meta["spacing_mm"] = self._spacing(npz_array(path, "spacing"))
        if self.window is not None:
            meta["window"] = self.window
        slices = labels.read()
        table = label_table(
            slices if len(labels.shape) == 3 else slices[None], self.ignore, f"{path}, {self.labels}"
        )
        frames = len(table.rows[0])
        return AnnotatedVideo(
            key=as_key(name),
            media=Pictures(path, (path,), partial(self._pictures, images, len(labels.shape) == 3)),
            height=table.height,
            width=table.width,
            fps=FPS if frames > 1 else 0.0,
            frame_index=tuple(range(frames)),
            object_ids=table.object_ids,
            masks=table.rows,
            meta=meta,
        )

    def _check(self, images: NpzArray, labels: NpzArray) -> None:
        """See that pictures and labels fit together."""
        where, shape = f"{images.path}, {images.name}", labels.shape
        if len(shape) not in (2, 3) or max(shape[-2:]) > MAX_SIDE or shape[0] > MAX_FRAMES:
            raise DataError(f"{labels.path}, {labels.name}: shape {shape}, expected (T, H, W) or (H, W)")
        if images.shape not in (shape, (*shape, 3)):
            raise DataError(
                f"{where}: shape {images.shape}, the labels have {shape}; expected the same, or (..., 3)"
            )
        if self.window is None and images.dtype != np.uint8:
            raise DataError(
                f"{where}: holds {images.dtype}, not uint8; say by window= what is black and white"
            )
        if self.window is not None and images.shape != shape:
            raise DataError(f"{where}: holds colours, which have no window; leave window= out")

    def _spacing(self, array: NpzArray) -> list[float]:
        """From slice to slice, row to row, column to column."""
        if array.shape != (3,):
            raise DataError(f"{array.path}, spacing: shape {array.shape}, expected three numbers")
        values = np.asarray(array.read(), np.float64)
        if not np.isfinite(values).all() or values.min() <= 0:
            raise DataError(f"{array.path}, spacing: {values.tolist()}, expected mm; correct or remove it")
        return values.tolist() if self.spacing_order == "zyx" else values[::-1].tolist()

    def _pictures(self, images: NpzArray, is_video: bool) -> Iterator[NDArray[np.uint8]]:
        """The pictures of a file, which is read when the first is asked for."""
        found = images.read() if is_video else images.read()[None]
        if self.window is None:
            return iter(found)
        return pictures(lambda: iter(found), len(found), parse_window(self.window))
