"""Label Studio: images with brushes and polygons, exported as JSON.

ROOT/project-1.json      the export "JSON" (not JSON-MIN); ROOT may be the JSON itself
ROOT/NAME.jpg            the images, in the folder that the option `images` names

Regions of brushes (Label Studio's own run lengths) and polygons become objects. An image is looked for under the path
that the task names (an upload, a local file, a URL), under its last part, and without the hash before the name of an
uploaded file.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data.choices import check_choices
from data.clip import AnnotatedVideo, DataError, SourceClip
from data.formats.copies import original_of
from data.formats.frame_folder import image_clip
from data.formats.inside import inside
from data.formats.json_fields import number, objects, whole
from data.formats.json_file import read_json
from data.formats.label_images import MaskTable
from data.formats.labelstudio_files import bare_name, image_file
from data.formats.labelstudio_rle import brush_alpha
from data.formats.outlines import NoOutline, polygon_mask
from data.look import look
from data.media import seen_size
from data.plural import plural
from data.rle import encode_mask
from data.shard import MAX_OBJECTS, MAX_SIDE, as_key

log = logging.getLogger(__name__)

_CHOICES = {"unannotated": ("skip", "refuse"), "unusable": ("refuse", "skip")}


@dataclass(frozen=True)
class Source:
    """Images of a Label Studio project.

    Attributes:
        root: the folder, or the JSON.
        annotations: the JSON, relative to the folder; "": the only one in it.
        images: folder of the images, relative to the folder.
        field: of a task's `data`, the one that names the image.
        annotator: number or e-mail of the person whose annotations are taken; "": of all, the latest of each task.
        least_alpha: of a brush's pixel, from 1 (whatever it touched, as Label Studio's COCO export has it) to 255.
        unannotated: "skip" tasks without region, their number is said, or "refuse" them.
        unusable: "refuse" images with boxes, ellipses, key points, or outlines around no pixel, or "skip" that region.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    annotations: str = ""
    images: str = ""
    field: str = "image"
    annotator: str | int = ""
    least_alpha: int = 1
    unannotated: str = "skip"
    unusable: str = "refuse"
    name: str = "labelstudio"
    license: str = ""

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        if type(self.least_alpha) is not int or not 1 <= self.least_alpha <= 255:
            raise DataError(f"least_alpha must be a whole number from 1 to 255, got {self.least_alpha!r}")

    def clips(self) -> list[SourceClip]:
        """Every task with regions in the order of the JSON.

        Raises:
            DataError: no JSON, several, or another kind of it.
        """
        path = self._json()
        tasks = objects(read_json(path), str(path))
        if any("annotations" not in task or not isinstance(task.get("data"), dict) for task in tasks):
            raise DataError(
                f"{path}: tasks must have 'data' and 'annotations'; export as JSON, not as JSON-MIN"
            )
        chosen = [(task, self._chosen(task, f"{path}, task {task.get('id')}")) for task in tasks]
        empty = sum(not found for _, found in chosen)
        if empty and self.unannotated == "skip":
            log.warning("%s: %s without region left out", path, plural(empty, "task"))
            chosen = [(task, found) for task, found in chosen if found]
        if not chosen:
            raise DataError(
                f"{path}: no task has a region" + (f" by {self.annotator}" if self.annotator else "")
            )
        images = {str(task["data"].get(self.field)) for task, _ in chosen}
        names = Counter(bare_name(image, str(path)) for image in images)
        return [self._clip(path, task, found, names) for task, found in chosen]

    def _json(self) -> Path:
        if self.root.is_file():
            return self.root
        if self.annotations:
            return inside(self.root, self.annotations, "the option annotations")
        found = sorted(self.root.glob("*.json"))
        if len(found) != 1:
            shown = ", ".join(path.name for path in found[:4])
            raise DataError(
                f"{self.root}: expected one JSON, found {shown or look(self.root)}; name it: annotations=NAME"
            )
        return found[0]

    def _chosen(self, task: dict[str, Any], where: str) -> list[dict[str, Any]]:
        """The regions of the annotation that is taken; none: the task is not annotated."""
        candidates = []
        for annotation in objects(task["annotations"], f"{where}, annotations"):
            person = annotation.get("completed_by")
            names = [person.get("id"), person.get("email")] if isinstance(person, dict) else [person]
            is_wanted = self.annotator == "" or str(self.annotator) in map(str, names)
            if is_wanted and not annotation.get("was_cancelled"):
                candidates.append(annotation)
        if not candidates:
            return []
        latest = max(candidates, key=lambda item: (str(item.get("updated_at", "")), str(item.get("id", ""))))
        found = objects(latest.get("result"), f"{where}, result")
        return [
            region for region in found if isinstance(region.get("value"), dict) and _is_place(region["value"])
        ]

    def _clip(
        self, path: Path, task: dict[str, Any], regions: list[dict[str, Any]], names: Counter[str]
    ) -> SourceClip:
        name = task["data"].get(self.field)
        bare = bare_name(name, str(path))
        stem = Path(bare).stem
        key = as_key(f"{stem}-{task.get('id')}")
        read = partial(self._read, path, key, task, regions, names[bare] < 2)
        return SourceClip(key, read, original_of(stem) or bare)

    def _read(
        self, path: Path, key: str, task: dict[str, Any], regions: list[dict[str, Any]], is_alone: bool
    ) -> AnnotatedVideo:
        where = f"{path}, task {task.get('id')}"
        if "video" in task["data"] and self.field not in task["data"]:
            raise DataError(
                f"{where}: is of a video; Label Studio has boxes there, no masks: annotate its frames as images"
            )
        if not regions:
            raise DataError(f"{where}: has no region; annotate it or set unannotated=skip")
        folder = self.root.parent if self.root.is_file() else self.root
        folder = inside(folder, self.images, "the option images") if self.images else folder
        image = image_file(folder, task["data"].get(self.field), where, is_alone)
        size = seen_size(image, where)
        found: dict[str, tuple[list[str], str]] = {}
        for k, region in enumerate(regions):
            labels, name = _labels(region["value"]), str(region.get("id", f"region {k}"))
            if name in found:  # a brush or polygon, and its label, may be two entries of one region
                found[name][0].extend(label for label in labels if label not in found[name][0])
                continue
            mask = self._mask(region, size, f"{where}, region {name[:40]}", image)
            if mask is not None:
                found[name] = labels, mask
        if not 0 < len(found) <= MAX_OBJECTS:
            raise DataError(
                f"{where}: {len(found)} objects, expected 1 to {MAX_OBJECTS}; annotate it or remove it"
            )
        meta = {
            "source": self.name,
            "license": self.license,
            "categories": [", ".join(labels) for labels, _ in found.values()],
            "regions": list(found),
        }
        masks = tuple((mask,) for _, mask in found.values())
        return image_clip(
            key, [(0, image)], MaskTable(tuple(range(1, len(masks) + 1)), masks, *size), 0.0, meta
        )

    def _mask(self, region: dict[str, Any], size: tuple[int, int], where: str, image: Path) -> str | None:
        """Of a region, None if it is to be left out."""
        stated = tuple(
            whole(region.get(f"original_{s}"), f"{where}, original_{s}", 1, MAX_SIDE) for s in _SIDES
        )
        if stated != size:
            raise DataError(
                f"{where}: was drawn on {stated[0]}x{stated[1]}, but {image} is {size[0]}x{size[1]}; restore the image"
            )
        if number(region.get("image_rotation", 0), f"{where}, image_rotation") % 360:
            raise DataError(
                f"{where}: was drawn on a turned image; turn it back in Label Studio and export again"
            )
        try:
            return self._outline(region["value"], size, where)
        except NoOutline as error:
            if self.unusable == "skip":
                return None
            raise DataError(f"{error}; correct it, or leave such regions out with unusable=skip") from None

    def _outline(self, value: dict[str, Any], size: tuple[int, int], where: str) -> str:
        if "rle" in value:
            counts = encode_mask(brush_alpha(value["rle"], *size, where) >= self.least_alpha)
            if not counts:
                raise NoOutline(f"{where}: the brush has touched no pixel")
            return counts
        if "points" not in value or value.get("closed") is False:
            raise NoOutline(f"{where}: is no brush and no closed polygon")
        return polygon_mask([_pixels(value["points"], size, where)], *size, where)


_SIDES = ("height", "width")


def _is_place(value: dict[str, Any]) -> bool:
    """Whether a result is about a place in the image, not about the image as a whole."""
    return any(name in value for name in ("rle", "points", "x", "vertices", "sequence"))


def _labels(value: dict[str, Any]) -> list[str]:
    """The names that a region was given: "brushlabels", "polygonlabels", "labels", ..."""
    found = [names for key, names in value.items() if key.endswith("labels") and isinstance(names, list)]
    return [str(name) for names in found for name in names]


def _pixels(points: Any, size: Sequence[int], where: str) -> list[float]:
    """Per cent of width and height as x1, y1, x2, y2, ... in pixels."""
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 for point in points
    ):
        raise DataError(f"{where}: points must be a list of [x, y], got {str(points)[:80]}")
    pairs = [(number(x, f"{where}, points"), number(y, f"{where}, points")) for x, y in points]
    return [value for x, y in pairs for value in (x * size[1] / 100, y * size[0] / 100)]
