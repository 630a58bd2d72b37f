"""Still images with masks of their objects: COCO files, and folders of label maps.

Masks come from files that others made: every run and every corner is checked before native code sees it, and no name
leads out of the folder of the images.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from data.rle import run_lengths
from sam2.broken_images import BROKEN_IMAGE
from sam2.evaluation.boundary import Bools
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.label_files import MAX_PIXELS, read_mask
from sam2.pictures import FramesError, as_rgb

MAX_JSON_BYTES = 2 << 30
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
Size = tuple[int, int]


@dataclass(frozen=True)
class SegmentedImage:
    """An image and its objects.

    Attributes:
        name: path inside the folder of the images.
        path: of the file.
        masks: gives id and mask (H, W) of every object, given height and width.
    """

    name: str
    path: Path
    masks: Callable[[Size], list[tuple[int | str, Bools]]]

    def pixels(self) -> NDArray[np.uint8]:
        """RGB (H, W, 3), as the file has them: no rotation by its EXIF tag, which masks do not know either.

        Raises:
            EvaluationError: the file is missing, damaged, too large or no image.
        """
        try:
            with Image.open(self.path) as image:
                return as_rgb(image)
        except FramesError as error:
            raise EvaluationError(f"{self.path}: {error}") from error
        except BROKEN_IMAGE as error:
            raise EvaluationError(f"{self.path}: is no image that can be read ({error})") from error


@dataclass(frozen=True)
class SegmentedImages:
    """The data of an evaluation: images in the order of their names, and how often something was left out, by what."""

    images: tuple[SegmentedImage, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------- COCO


def open_coco(file: Path, folder: Path) -> SegmentedImages:
    """The images of a COCO file that have objects; regions marked `iscrowd` are left out.

    Raises:
        EvaluationError: the file is not as it should be; names the key.
    """
    content = _load(file)
    images: dict[int, tuple[str, Size]] = {}
    for k, row in enumerate(content["images"]):
        where = f"{file}: images[{k}]"
        number, name = _get(row, "id", int, where), _get(row, "file_name", str, where)
        size = _get(row, "height", int, where), _get(row, "width", int, where)
        if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
            raise EvaluationError(f"{where}: is {size[1]}x{size[0]}, expected 1 to {MAX_PIXELS} pixels")
        if number in images:
            raise EvaluationError(f"{where}: the id {number} is another image's, too")
        images[number] = _inside(name, where), size
    by_image: dict[int, list[tuple[int, Any, str]]] = {}
    skipped = Counter({"crowds": 0, "images without objects": 0})
    for k, row in enumerate(content["annotations"]):
        where = f"{file}: annotations[{k}]"
        number = _get(row, "image_id", int, where)
        if number not in images:
            raise EvaluationError(f"{where}: image_id is {number}, which no image has")
        if row.get("iscrowd", 0):
            skipped["crowds"] += 1
            continue
        by_image.setdefault(number, []).append((_get(row, "id", int, where), row.get("segmentation"), where))
    found = []
    for number, (name, size) in images.items():
        if number in by_image:
            found.append(
                SegmentedImage(name, folder / name, _coco_masks(by_image[number], size, folder / name))
            )
    absent = [image.name for image in found if not image.path.is_file()]
    if absent:
        raise EvaluationError(
            f"{folder}: has no {min(absent)} ({len(absent)} of {len(found)} images of {file.name} are not there); name "
            "the folder of its images with --images"
        )
    skipped["images without objects"] = len(images) - len(found)
    return SegmentedImages(_in_order(found, file), skipped)


def _load(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise EvaluationError(f"{file}: is larger than {MAX_JSON_BYTES >> 30} GB; split it by images")
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, EvaluationError):
            raise
        raise EvaluationError(f"{file}: is no JSON that can be read ({error})") from error
    for key in ("images", "annotations"):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise EvaluationError(f"{file}: expected a COCO file with a list of objects {key!r}")
    return content


def _get(row: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value = row.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise EvaluationError(f"{where}: {key} is {value!r}, expected {kind.__name__}")
    return value


def _inside(name: str, where: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
        raise EvaluationError(f"{where}: file_name is {name!r}, expected a path inside the folder of images")
    return path.as_posix()


def _coco_masks(
    rows: Sequence[tuple[int, Any, str]], size: Size, path: Path
) -> Callable[[Size], list[tuple[int | str, Bools]]]:
    def masks(actual: Size) -> list[tuple[int | str, Bools]]:
        if actual != size:
            raise EvaluationError(
                f"{path}: is {actual[1]}x{actual[0]}, its COCO file says {size[1]}x{size[0]}; nothing is resized here"
            )
        return [(number, decode_coco(segmentation, size, where)) for number, segmentation, where in rows]

    return masks


def decode_coco(segmentation: Any, size: Size, where: str) -> Bools:
    """The mask (H, W) of a COCO segmentation: polygons, compressed or uncompressed run lengths.

    Raises:
        EvaluationError, DataError: it is none of these.
    """
    height, width = size
    if isinstance(segmentation, list):
        polygons = [_polygon(corners, size, where) for corners in segmentation]
        if not polygons:
            raise EvaluationError(f"{where}: has no polygon")
        merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        return np.array(coco_mask.decode(merged), bool)
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        raise EvaluationError(
            f"{where}: expected polygons, or run lengths with the size [{height}, {width}] of the image"
        )
    counts = segmentation.get("counts")
    runs = (
        run_lengths(counts, height, width, where) if isinstance(counts, str) else _runs(counts, size, where)
    )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T.copy()


def _polygon(corners: Any, size: Size, where: str) -> list[float]:
    """Corners that may lie beyond the image by its own size at most: what is drawn takes memory by their distance."""
    is_list = isinstance(corners, list) and len(corners) >= 6 and len(corners) % 2 == 0
    if not is_list or not all(type(v) in (int, float) and math.isfinite(v) for v in corners):
        raise EvaluationError(f"{where}: a polygon is not a list x1, y1, x2, y2, ... of 3 or more corners")
    for values, side in ((corners[::2], size[1]), (corners[1::2], size[0])):
        if min(values) < -side or max(values) > 2 * side:
            raise EvaluationError(
                f"{where}: a polygon reaches from {min(values)} to {max(values)}, the image to {side}"
            )
    return [float(v) for v in corners]


def _runs(counts: Any, size: Size, where: str) -> NDArray[np.int64]:
    pixels = size[0] * size[1]
    if not isinstance(counts, list) or not all(type(v) is int and 0 <= v <= pixels for v in counts):
        raise EvaluationError(f"{where}: counts are neither text nor a list of run lengths")
    if sum(counts) != pixels:
        raise EvaluationError(f"{where}: the run lengths sum to {sum(counts)}, the image has {pixels} pixels")
    return np.array(counts, np.int64)


# ---------------------------------------------------------------------------------------------- folders


def open_folders(masks: Path, folder: Path, void: int | None = None) -> SegmentedImages:
    """Images whose masks have their names: `masks/NAME.png` of object ids, or `masks/NAME/` with a PNG an object.

    Args:
        masks: palette, 8-bit or 16-bit grey PNGs; 0 is background.
        folder: of the images; may be the same if no image is a PNG.
        void: an id that is no object.

    Raises:
        EvaluationError: a folder is missing, an image has no mask or a mask no image.
    """
    for path in (masks, folder):
        if not path.is_dir():
            raise EvaluationError(f"{path}: is no folder")
    together = masks.resolve() == folder.resolve()
    files = _by_stem(
        p for p in _visible(folder) if _is_image(p) and not (together and p.suffix.lower() == ".png")
    )
    labels = _by_stem(p for p in _visible(masks) if p.suffix.lower() == ".png" or p.is_dir())
    if not files:
        raise EvaluationError(f"{folder}: has no image ({', '.join(SUFFIXES)})")
    for name in sorted(files.keys() ^ labels.keys()):
        path, lacks = (files[name], "mask") if name in files else (labels[name], "image")
        raise EvaluationError(f"{path}: has no {lacks} of its name; {len(files)} images, {len(labels)} masks")
    found = [SegmentedImage(p.name, p, _label_masks(labels[name], void)) for name, p in files.items()]
    return SegmentedImages(_in_order(found, folder), {})


def _by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Paths by their names without suffix, which must differ."""
    found: dict[str, Path] = {}
    for path in paths:
        name = path.name if path.is_dir() else path.stem
        if found.setdefault(name, path) != path:
            raise EvaluationError(f"{path}: {found[name].name} has the same name; keep one of them")
    return found


def _visible(folder: Path) -> Iterable[Path]:
    return (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def _label_masks(path: Path, void: int | None) -> Callable[[Size], list[tuple[int | str, Bools]]]:
    def masks(size: Size) -> list[tuple[int | str, Bools]]:
        if path.is_dir():
            each = [(p.stem, read_mask(p).astype(bool)) for p in _visible(path) if p.suffix.lower() == ".png"]
            found: list[tuple[int | str, Bools]] = [*each]
        else:
            ids = read_labels(path)
            found = [(i, ids == i) for i in np.unique(ids).tolist() if i not in (0, void)]
        for _, mask in found:
            if mask.shape != size:
                found_size, wanted = (f"{width}x{height}" for height, width in (mask.shape, size))
                raise EvaluationError(
                    f"{path}: is {found_size}, its image is {wanted}; nothing is resized here"
                )
        return found

    return masks


def read_labels(path: Path) -> NDArray[np.int64]:
    """Object ids of a PNG (H, W): palette indices, or 8- or 16-bit grey values.

    Raises:
        EvaluationError: it is damaged, too large, or holds colours.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise EvaluationError(f"{path}: is {image.width}x{image.height}; no mask is that large")
            if image.mode not in ("1", "L", "P", "I;16", "I;16B", "I"):
                raise EvaluationError(
                    f"{path}: is an {image.mode} image, expected palette indices or grey values that are object ids"
                )
            return np.asarray(image).astype(np.int64)
    except EvaluationError:
        raise
    except BROKEN_IMAGE as error:
        raise EvaluationError(f"{path}: is no PNG that can be read ({error}); write it again") from error


def _in_order(found: Iterable[SegmentedImage], source: Path) -> tuple[SegmentedImage, ...]:
    ordered = tuple(sorted(found, key=lambda image: image.name))
    if not ordered:
        raise EvaluationError(f"{source}: has no image with an object")
    for one, other in zip(ordered, ordered[1:], strict=False):
        if one.name == other.name:
            raise EvaluationError(f"{source}: two images are called {one.name}")
    return ordered
