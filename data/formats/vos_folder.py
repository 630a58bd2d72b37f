"""The layout that DAVIS began and most video object segmentation data sets share: palette images beside frames.

ROOT/JPEGImages[/RESOLUTION]/VIDEO/00000.jpg ...
ROOT/Annotations[/RESOLUTION]/VIDEO/00000.png ...     the palette index is the object's id
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from data.checking.finding import tell_of_bare
from data.clip import AnnotatedVideo, DataError, SourceClip
from data.formats.frame_folder import folders_in, image_clip, images_in, pair
from data.formats.inside import inside
from data.formats.json_file import read_object
from data.formats.label_images import label_table
from data.look import look
from data.shard import as_key

_FRAMES, _MASKS = "JPEGImages", "Annotations"
_MOST_BYTES = 1 << 30  # of a list of objects; the largest known has 10 MB

Categories = Mapping[str, Mapping[int, str]]
"""By video and object id, what the object is."""


def part_of(root: Path, subset: str) -> tuple[Path, str]:
    """ROOT/SUBSET and its name, or ROOT and its name if that holds the videos itself."""
    is_part = (root / _FRAMES).is_dir() or (root / _MASKS).is_dir()
    return (root, root.resolve().name) if is_part else (root / subset, subset)


def read_categories(path: Path) -> dict[str, dict[int, str]]:
    """Every video of `{"videos": {VIDEO: {"objects": {ID: {"category": ...}}}}}`, with what its objects are.

    Raises:
        DataError: the file is something else.
    """
    videos = read_object(path, _MOST_BYTES).get("videos")
    if not isinstance(videos, dict):
        raise DataError(f'{path}: expected {{"videos": {{VIDEO: {{"objects": ...}}}}}}; download it again')
    return {name: _categories(video, f"{path}, video {name[:80]}") for name, video in videos.items()}


def _categories(video: Any, where: str) -> dict[int, str]:
    objects = video.get("objects") if isinstance(video, dict) else None
    if not isinstance(objects, dict) or not all(i.isdecimal() and len(i) < 10 for i in objects):
        raise DataError(f'{where}: expected {{"objects": {{"1": ...}}}}, got {str(video)[:80]}')
    found = {int(i): about.get("category") for i, about in objects.items() if isinstance(about, dict)}
    return {i: category for i, category in found.items() if isinstance(category, str)}


@dataclass(frozen=True)
class VosFolder:
    """Videos of such a folder.

    Attributes:
        root: the folder.
        fps: of the numbers that the frames' names are.
        resolution: name of a folder between JPEGImages and the videos; "" if there is none.
        names: of the videos to take; None: all that have masks.
        ignore: palette indices that are background.
        meta: for all of them.
        categories: what the objects are, where that is known.
        more_frames: another folder with JPEGImages, for videos that `root` has no frames of.
    """

    root: Path
    fps: float
    resolution: str = ""
    names: tuple[str, ...] | None = None
    ignore: Collection[int] = (255,)
    meta: Mapping[str, Any] = field(default_factory=dict)
    categories: Categories | None = None
    more_frames: Path | None = None

    def clips(self) -> list[SourceClip]:
        """The videos in the order of their names.

        Raises:
            DataError: the folder is not laid out like this.
        """
        masks = self.root / _MASKS / self.resolution
        places = [self.root, *([self.more_frames] if self.more_frames else [])]
        if not masks.is_dir() or not any((place / _FRAMES / self.resolution).is_dir() for place in places):
            between = f"/{self.resolution}" if self.resolution else ""
            raise DataError(
                f"{self.root}: expected {_FRAMES}{between}/VIDEO/00000.jpg and {_MASKS}{between}/VIDEO/00000.png, "
                f"found {look(self.root)}"
            )
        names = self.names
        if names is None:
            names = tuple(path.name for path in folders_in(masks))
            frames = self.root / _FRAMES / self.resolution
            if frames.is_dir():
                tell_of_bare(path for path in folders_in(frames) if path.name not in names)
        return [SourceClip(as_key(name), partial(self.read, name)) for name in names]

    def read(self, name: str) -> AnnotatedVideo:
        """One video.

        Raises:
            DataError: it is not there, its frames and masks do not fit together, or cannot be read.
        """
        masks = inside(self.root / _MASKS / self.resolution, name, f"{self.root}: name of a video")
        if not masks.is_dir():
            raise DataError(
                f"{masks}: missing, though the list of videos names it; download it again",
                "image-without-mask",
            )
        frames = self._frames(name)
        if not frames.is_dir():
            raise DataError(
                f"{frames}: missing, its masks are there; restore the frames or remove {masks}",
                "mask-without-image",
            )
        found = images_in(masks, [".png"])
        if not found:
            raise DataError(
                f"{masks}: holds no .png; annotate the video or remove the folder", "image-without-mask"
            )
        pictures = images_in(frames)
        paired = pair(pictures, found)
        if len(paired) == 1 < len(pictures):
            raise DataError(
                f"{masks}: one of {len(pictures)} frames has a mask, as in sets that are for evaluation only; there is "
                "nothing to learn from; give the training set",
                "image-without-mask",
            )
        table = label_table([mask for _, _, mask in paired], self.ignore)
        if not table.object_ids:
            raise DataError(
                f"{masks}: no object in any of {len(paired)} masks; annotate the video or remove it",
                "nothing-visible",
            )
        meta = dict(self.meta)
        if self.categories is not None:
            known = self.categories.get(name, {})
            meta["categories"] = [known.get(i, "") for i in table.object_ids]
        return image_clip(
            as_key(name), [(number, frame) for number, frame, _ in paired], table, self.fps, meta
        )

    def _frames(self, name: str) -> Path:
        first = self.root / _FRAMES / self.resolution / name
        if self.more_frames is None or first.is_dir():
            return first
        return self.more_frames / _FRAMES / self.resolution / name
