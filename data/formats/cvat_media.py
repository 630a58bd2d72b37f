"""Where the frames of a video task of CVAT are: in the video that it was made from, or in a folder of images."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from data.clip import DataError, ImageFiles, Media, VideoFile
from data.formats.cvat_tracks import TaskFrames
from data.formats.frame_folder import images_in
from data.formats.inside import inside
from data.media import probe_fps, seen_size
from data.shard import MAX_SIDE

_FRAME = re.compile(r"frame_(\d{1,9})")  # how CVAT calls the frames of a video that it exports


@dataclass(frozen=True)
class TaskMedia:
    """A video file, or images by their frame numbers; `height` and `width` are those of the frames."""

    path: Path
    images: dict[int, Path] | None
    height: int
    width: int

    def at(self, numbers: tuple[int, ...], fps: float) -> tuple[Media, float]:
        """The media of the frames `numbers`, and how many frames a second there are: of images, `fps`.

        Raises:
            DataError: a frame has no image, or the video cannot be opened.
        """
        if self.images is None:
            return VideoFile(self.path), probe_fps(self.path)
        missing = [number for number in numbers if number not in self.images]
        if missing:
            raise DataError(
                f"{self.path}: has no image of frame {missing[0]} ({len(missing)} of {len(numbers)} are missing); put "
                "all frames of the task there, or its video"
            )
        return ImageFiles(tuple(self.images[number] for number in numbers)), fps


def find_media(path: Path, option: str, task: ET.Element, frames: TaskFrames) -> TaskMedia:
    """The media of a task.

    Args:
        path: of the XML.
        option: the video or the folder, relative to the XML's folder; "": the video that the XML names, or images/.
        task: the element `<task>` or `<job>`.
        frames: of the task.

    Raises:
        DataError: nothing is there, or the number of images is not that of the task.
    """
    source = (task.findtext("source") or "").strip()
    if option:
        places = [inside(path.parent, option, "the option pictures")]
    else:
        places = [inside(path.parent, source, f"{path}, source")] if source else []
        places.append(path.parent / "images")
    place = next((place for place in places if place.exists()), None)
    if place is None:
        names = " nor ".join(str(place) for place in places)
        raise DataError(f"{path}: no {names}; put the video or the frames there, or name them: pictures=NAME")
    size = task.find("original_size")
    if place.is_file():
        return TaskMedia(place, None, _side(size, "height", path), _side(size, "width", path))
    images = _numbered(place, path, task, frames)
    if size is not None:
        return TaskMedia(place, images, _side(size, "height", path), _side(size, "width", path))
    return TaskMedia(place, images, *seen_size(next(iter(images.values())), str(path)))


def _numbered(folder: Path, path: Path, task: ET.Element, frames: TaskFrames) -> dict[int, Path]:
    """The images of a folder by their frame numbers."""
    images = images_in(folder)
    names = [_FRAME.fullmatch(image.stem) for image in images]
    # Only of a video CVAT says the size; of other tasks the names are those that the images had.
    if task.find("original_size") is not None and images and all(names):
        return {int(name[1]): image for name, image in zip(names, images, strict=True) if name}
    stated = (task.findtext("size") or "").strip()
    if not images or (stated and stated != str(len(images))):
        raise DataError(
            f"{path}: {folder} holds {len(images)} images, the task has {stated or 'some'}; put all its frames there"
        )
    return {frames.start + k * frames.step: image for k, image in enumerate(images)}


def _side(size: ET.Element | None, side: str, path: Path) -> int:
    word = "" if size is None else (size.findtext(side) or "").strip()
    if not (word.isdecimal() and len(word) < 9 and 1 <= int(word) <= MAX_SIDE):
        raise DataError(
            f"{path}: original_size, {side}: is {word[:40]!r}, expected 1 to {MAX_SIDE}; export it again"
        )
    return int(word)
