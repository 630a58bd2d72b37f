"""Frames and masks in folders: your own videos, of any of several layouts.

ROOT/VIDEO/frames/00000.jpg ...          ROOT/VIDEO/masks/00000.png ...
ROOT/frames/VIDEO/00000.jpg ...          ROOT/masks/VIDEO/00000.png ...
ROOT/JPEGImages/VIDEO/00000.jpg ...      ROOT/Annotations/VIDEO/00000.png ...
ROOT/frames/00000.jpg ...                ROOT/masks/00000.png ...                  a single video

These are found by themselves, also with images, imgs, img or rgb for frames; mask, labels, annotations, gt or
segmentations for masks. Other names are given by the options frames and masks.

A mask has the name of its frame, without the ending. Frames come in the order of the numbers in their names: frame_2
before frame_10. Names that are nothing but numbers are the frames' numbers. Frames without a mask are not read.

Masks are one of: maps of object ids (palette, or grey of 8 or 16 bits); one object a file, what is not 0; a folder for
each object, masks/VIDEO/OBJECT/00000.png, whose objects may overlap.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data.checking.finding import tell_of_bare
from data.clip import AnnotatedVideo, DataError, SourceClip
from data.formats.frame_folder import folders_in, image_clip, images_in, natural, pair
from data.formats.mask_folder import check_kind, read_masks
from data.formats.video_folders import Pattern, alike, complete, find, parse, recognise
from data.look import look
from data.shard import as_key

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Videos as folders of frames and masks.

    Attributes:
        root: the folder.
        frames: where the frames are in it: a folder name, or a path with VIDEO for the name of a video ("VIDEO/rgb",
            "JPEGImages/480p/VIDEO"); "": a usual name.
        masks: where the masks are, likewise.
        kind: of the masks: "labels", "binary", "objects", or "auto": objects where there are folders, one object where
            masks hold nothing but 0 and 255 or black and white, else labels.
        ignore: ids in labels that are background, [255] for instance; null: none, and 255 beside other ids is refused.
        fps: frames a second of the frames' numbers.
        split: what `meta.json` names as the split.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    frames: str = ""
    masks: str = ""
    kind: str = "auto"
    ignore: list[int] | None = None
    fps: float = 30.0
    split: str = ""
    name: str = "frames"
    license: str = ""

    def __post_init__(self) -> None:
        check_kind(self.kind, self.ignore)
        if bool(self.frames) != bool(self.masks):
            raise DataError("give both frames= and masks=, or none of them")
        if not isinstance(self.fps, int | float) or not 0 < self.fps <= 1000:
            raise DataError(f"fps must be a number above 0 and at most 1000, got {self.fps!r}")

    def clips(self) -> list[SourceClip]:
        """Every video with masks in the order of the names; which have none is said."""
        frames, masks = self._patterns()
        pictures, annotated = find(self.root, frames), find(self.root, masks)
        if not annotated:
            raise self._unknown(f"{'/'.join(frames)} and {'/'.join(masks)}")
        self._tell(pictures, annotated, frames)
        names = sorted(annotated, key=lambda name: natural(Path(name)))
        return [
            SourceClip(as_key(name), partial(self._read, name, pictures.get(name), annotated[name]))
            for name in names
        ]

    def _patterns(self) -> tuple[Pattern, Pattern]:
        if self.frames:
            frames = complete(parse(self.frames, "frames", self.root), self.root)
            masks = alike(parse(self.masks, "masks", self.root), frames)
            if frames == masks:
                raise DataError(
                    f"frames and masks are both {'/'.join(frames)}; they must be different folders"
                )
            return frames, masks
        found = recognise(self.root)
        if found is None:
            raise self._unknown("VIDEO/frames and VIDEO/masks, or frames/VIDEO and masks/VIDEO")
        return found

    def _unknown(self, expected: str) -> DataError:
        return DataError(
            f"{self.root}: expected folders {expected}, found {look(self.root)}; say where they are with frames= and "
            "masks=, VIDEO/rgb for instance"
        )

    def _tell(self, pictures: Mapping[str, Path], annotated: Mapping[str, Path], frames: Pattern) -> None:
        """Say which videos have no masks, and which folders do not look like the others."""
        bare = set(pictures) - set(annotated)
        if frames[0] == "VIDEO":
            bare |= {place.name for place in folders_in(self.root)} - set(annotated)
        if bare:
            shown = ", ".join(sorted(bare)[:3]) + (", ..." if len(bare) > 3 else "")
            log.warning("%s: without masks, left out: %s (%d in all)", self.root, shown, len(bare))
            tell_of_bare(pictures.get(name, self.root / name) for name in sorted(bare))

    def _read(self, name: str, frames: Path | None, masks: Path) -> AnnotatedVideo:
        if frames is None:
            raise DataError(
                f'{masks}: no frames of video "{name}"; restore them or remove the masks',
                "mask-without-image",
            )
        found = read_masks(masks, self.kind, self.ignore)
        paired = pair(images_in(frames), found.files)
        meta: dict[str, object] = {"source": self.name, "license": self.license, "split": self.split}
        if found.names:
            meta["object_names"] = list(found.names)
        return image_clip(as_key(name), [(k, frame) for k, frame, _ in paired], found.table, self.fps, meta)
