"""CVAT: images and videos, as "CVAT for images 1.1" and "CVAT for video 1.1".

ROOT/**/annotations.xml          one for each task, or any other NAME.xml; ROOT may be the XML itself
beside an XML for images:        images/NAME, as the export with images has it, or NAME
beside an XML for a video:       the video file that its task was made from, or images/ with the frames of the task

Polygons (as pycocotools rasterises them) and masks become objects; of an image, shapes of one label and one group are
one object; of a video, each track is one, visible where CVAT says so (keyframes, outside). Frames are counted as in the
video, by start_frame and step of the task. The option `pictures` names the video or the folder, if it is elsewhere.
Tasks of images and of videos become two data sets: where ROOT holds both, `kind` chooses.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data.clip import AnnotatedVideo, DataError, SourceClip
from data.formats.copies import original_of
from data.formats.cvat_media import find_media
from data.formats.cvat_shapes import SHAPES, ShapeRules, whole_attribute
from data.formats.cvat_tracks import TaskFrames, shapes_by_frame
from data.formats.frame_folder import image_clip
from data.formats.inside import inside
from data.formats.label_images import MaskTable
from data.formats.outlines import union
from data.formats.xml_file import read_xml
from data.look import look
from data.media import seen_size
from data.shard import MAX_CELLS, MAX_FRAMES, MAX_OBJECTS, MAX_SIDE, as_key

_SUFFIXES = ("", ".png", ".PNG", ".jpg", ".jpeg")  # frames of a video are named without ending


@dataclass(frozen=True)
class Source:
    """Images and videos that were annotated with CVAT.

    Attributes:
        root: folder, searched for XML files with all its subfolders, or one XML.
        kind: "images" or "videos": the tasks to take; "auto": all, if they are of one kind.
        pictures: the video or the folder of images, relative to each XML's folder; "": see the layout.
        boxes: "refuse", "skip" or "fill" boxes; filled ones are the masks of their objects.
        unusable: "refuse" or "skip" polylines, points, ellipses, cuboids, skeletons, and outlines around no pixel.
        gaps: frames of a video in which no object is: "drop" or "keep" them, between the first and the last with one.
        fps: frames a second of a video that is a folder of images.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    kind: str = "auto"
    pictures: str = ""
    boxes: str = "refuse"
    unusable: str = "refuse"
    gaps: str = "drop"
    fps: float = 30.0
    name: str = "cvat"
    license: str = ""

    def __post_init__(self) -> None:
        ShapeRules(self.boxes, self.unusable)
        if self.kind not in ("auto", "images", "videos"):
            raise DataError(f"kind must be auto, images or videos, got {self.kind!r}")
        if self.gaps not in ("drop", "keep"):
            raise DataError(f"gaps must be drop or keep, got {self.gaps!r}")
        if type(self.fps) not in (int, float) or not 0 < self.fps <= 10_000:
            raise DataError(f"fps must be a number from 0 to 10000, got {self.fps!r}")

    def clips(self) -> list[SourceClip]:
        """Every image with shapes and every video, in the order of the XML files and in them.

        Raises:
            DataError: no XML, one that is not CVAT's, or both kinds of tasks.
        """
        paths = [self.root] if self.root.is_file() else sorted(self.root.rglob("*.xml"))
        if not paths:
            raise DataError(f"{self.root}: expected annotations.xml of CVAT, found {look(self.root)}")
        clips: list[SourceClip] = []
        first: dict[str, Path] = {}  # XML of each kind
        for path in paths:
            found = read_xml(path)
            if found.tag != "annotations" or found.find("meta") is None:
                raise DataError(f"{path}: is no XML of CVAT (<{found.tag[:40]}>); move it out of {self.root}")
            images = found.findall("image")
            if images and found.find("track") is not None:
                raise DataError(f"{path}: holds images and tracks; export the task again")
            kind = "images" if images else "videos"
            if self.kind in ("auto", kind):
                first.setdefault(kind, path)
                clips += self._images(path, found, images) if images else [self._video(path)]
        if not first:
            raise DataError(f"{self.root}: no task is of {self.kind}; leave kind out")
        if len(first) > 1:
            raise DataError(
                f"{self.root}: holds tasks of images ({first['images']}) and of videos ({first['videos']}), which are "
                "two data sets to train on; take them one after the other, with kind=images and with kind=videos"
            )
        return clips

    def _title(self, path: Path) -> str:
        """What an XML is called: its folder, where it has the name that CVAT gives it."""
        inner = path.relative_to(self.root) if self.root.is_dir() else Path(path.name)
        inner = inner.with_suffix("")
        return (inner.parent if inner.name == "annotations" and inner.parent.name else inner).as_posix()

    def _video(self, path: Path) -> SourceClip:
        return SourceClip(as_key(self._title(path)), partial(self._read_video, path))

    def _images(self, path: Path, found: ET.Element, images: list[ET.Element]) -> list[SourceClip]:
        title = self._title(path)
        above = "" if title == "annotations" else f"{title}/"
        # Frames of one video must not be divided between training and evaluation.
        group = title if found.findtext(".//meta/*/mode") == "interpolation" else ""
        clips = []
        for image in images:
            stem = os.path.splitext(image.get("name", ""))[0]
            if any(shape.tag in SHAPES for shape in image):
                read = partial(self._read_image, path, image, above + stem)
                clips.append(SourceClip(as_key(above + stem), read, group or original_of(stem)))
        return clips

    def _read_image(self, path: Path, image: ET.Element, name: str) -> AnnotatedVideo:
        where = f'{path}, image "{image.get("name", "")[:200]}"'
        file = self._image_file(path, image.get("name"), where)
        height, width = (whole_attribute(image, side, where, 1, MAX_SIDE) for side in ("height", "width"))
        seen = seen_size(file, where)
        if seen != (height, width):
            raise DataError(
                f"{where}: is {height}x{width} there, but {file} is {seen[0]}x{seen[1]}; restore the image"
            )
        rules, objects = ShapeRules(self.boxes, self.unusable), dict[tuple[str, str], list[str]]()
        for k, shape in enumerate(image):
            if shape.tag not in SHAPES:
                continue
            label, group = shape.get("label", ""), shape.get("group_id", "0")
            mask = rules.mask(shape, height, width, f'{where}, shape {k} ("{label[:80]}")')
            if mask is not None:
                objects.setdefault((label, f"shape {k}" if group == "0" else group), []).append(mask)
        if not 0 < len(objects) <= MAX_OBJECTS:
            raise DataError(
                f"{where}: {len(objects)} objects, expected 1 to {MAX_OBJECTS}; annotate it or remove it"
            )
        masks = tuple((union(parts, height, width),) for parts in objects.values())
        table = MaskTable(tuple(range(1, len(masks) + 1)), masks, height, width)
        meta = self._meta([label for label, _ in objects]) | {"split": image.get("subset", "")}
        return image_clip(as_key(name), [(0, file)], table, 0.0, meta)

    def _meta(self, categories: list[str]) -> dict[str, Any]:
        return {"source": self.name, "license": self.license, "categories": categories}

    def _image_file(self, path: Path, name: str | None, where: str) -> Path:
        folder = self._folder(path)
        plain = inside(folder, name, where)
        return next((p for end in _SUFFIXES if (p := plain.with_name(plain.name + end)).is_file()), plain)

    def _folder(self, path: Path) -> Path:
        """Of the images."""
        if self.pictures:
            return inside(path.parent, self.pictures, "the option pictures")
        return path.parent / "images" if (path.parent / "images").is_dir() else path.parent

    def _read_video(self, path: Path) -> AnnotatedVideo:
        found = read_xml(path)
        task = next((e for name in ("task", "job") if (e := found.find(f"meta/{name}")) is not None), None)
        if task is None:
            raise DataError(f"{path}: is of no single task; export the tasks of a project one by one")
        frames = TaskFrames.of(task, str(path))
        tracks = _tracks(found, path)
        media = find_media(path, self.pictures, task, frames)
        height, width = media.height, media.width
        rules, rows, categories = ShapeRules(self.boxes, self.unusable), dict[int, dict[int, str]](), []
        for number, track in tracks.items():
            where = f'{path}, track {number} ("{track.get("label", "")[:80]}")'
            shapes = shapes_by_frame(track, frames, where)
            masks = {
                f: rules.mask(shape, height, width, f"{where}, frame {f}") for f, shape in shapes.items()
            }
            if row := {frame: mask for frame, mask in masks.items() if mask is not None}:
                rows[number] = row
                categories.append(track.get("label", ""))
        if not rows:
            raise DataError(f"{path}: no track has a mask; annotate the video or remove the file")
        numbers = self._numbers({frame for row in rows.values() for frame in row}, frames, path)
        if len(rows) > MAX_OBJECTS or len(rows) * len(numbers) > MAX_CELLS:
            raise DataError(f"{path}: {len(rows)} tracks x {len(numbers)} frames are too many")
        pictures, fps = media.at(numbers, float(self.fps))
        masks_of = tuple(tuple(row.get(frame, "") for frame in numbers) for row in rows.values())
        return AnnotatedVideo(
            as_key(self._title(path)),
            pictures,
            height,
            width,
            fps,
            numbers,
            tuple(rows),
            masks_of,
            self._meta(categories),
        )

    def _numbers(self, seen: set[int], frames: TaskFrames, path: Path) -> tuple[int, ...]:
        """The frames of the clip."""
        if self.gaps == "drop":
            return tuple(sorted(seen))
        span = range(min(seen), max(seen) + 1, frames.step)
        if len(span) > MAX_FRAMES:
            raise DataError(f"{path}: {len(span)} frames are too many")
        return tuple(frame for frame in span if frame not in frames.deleted)


def _tracks(found: ET.Element, path: Path) -> dict[int, ET.Element]:
    tracks: dict[int, ET.Element] = {}
    for track in found.findall("track"):
        number = whole_attribute(track, "id", f"{path}, a track", 0, 2**62)
        if number in tracks:
            raise DataError(f"{path}: two tracks have the id {number}; export it again")
        tracks[number] = track
    return tracks
