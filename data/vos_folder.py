"""The layout that DAVIS began and most video object segmentation data sets share: palette images beside frames.

ROOT/JPEGImages[/RESOLUTION]/VIDEO/00000.jpg ...
ROOT/Annotations[/RESOLUTION]/VIDEO/00000.png ...     the palette index is the object's id
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data.clip import AnnotatedVideo, DataError, SourceClip
from data.frame_folder import folders_in, image_clip, images_in, pair
from data.label_images import label_table
from data.look import look
from data.shard import as_key

_FRAMES, _MASKS = "JPEGImages", "Annotations"


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
    """

    root: Path
    fps: float
    resolution: str = ""
    names: tuple[str, ...] | None = None
    ignore: Collection[int] = (255,)
    meta: dict[str, Any] | None = None

    def clips(self) -> list[SourceClip]:
        """The videos in the order of their names.

        Raises:
            DataError: the folder is not laid out like this, or a video that was asked for is not there.
        """
        masks = self.root / _MASKS / self.resolution
        if not masks.is_dir() or not (self.root / _FRAMES / self.resolution).is_dir():
            between = f"/{self.resolution}" if self.resolution else ""
            raise DataError(
                f"{self.root}: expected {_FRAMES}{between}/VIDEO/00000.jpg and {_MASKS}{between}/VIDEO/00000.png, "
                f"found {look(self.root)}"
            )
        names = [path.name for path in folders_in(masks)] if self.names is None else list(self.names)
        missing = [name for name in names if not (masks / name).is_dir()]
        if missing:
            raise DataError(
                f"{masks / missing[0]}: missing, though the list of videos names it; download it again"
            )
        return [SourceClip(as_key(name), partial(self.read, name)) for name in names]

    def read(self, name: str) -> AnnotatedVideo:
        """One video.

        Raises:
            DataError: frames and masks do not fit together, or cannot be read.
        """
        frames, masks = (self.root / kind / self.resolution / name for kind in (_FRAMES, _MASKS))
        if not frames.is_dir():
            raise DataError(f"{frames}: missing, its masks are there; restore the frames or remove {masks}")
        found = images_in(masks, [".png"])
        if not found:
            raise DataError(f"{masks}: holds no .png; annotate the video or remove the folder")
        paired = pair(images_in(frames), found)
        table = label_table([mask for _, _, mask in paired], self.ignore)
        if not table.object_ids:
            raise DataError(
                f"{masks}: no object in any of {len(paired)} masks; annotate the video or remove it"
            )
        return image_clip(
            as_key(name), [(number, frame) for number, frame, _ in paired], table, self.fps, self.meta or {}
        )
