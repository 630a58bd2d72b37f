"""SA-V, layout of val and test: JPEGs at 24 fps, a folder of binary masks at 6 fps for each object.

ROOT/sav_val.txt                                       names of the videos, one a line
ROOT/JPEGImages_24fps/VIDEO/00000.jpg, 00001.jpg, ...
ROOT/Annotations_6fps/VIDEO/OBJECT/00000.png, 00004.png, ...

ROOT is the folder sav_val or sav_test. Objects may overlap. A frame counts as annotated where one of the objects has a
file; where another has none it is absent. Of the JPEGs those of annotated frames are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data.clip import AnnotatedVideo, DataError, SourceClip
from data.formats.frame_folder import folders_in, image_clip, images_in, pair
from data.formats.inside import inside
from data.formats.mask_folder import object_folders
from data.look import look
from data.shard import as_key

_FRAMES, _MASKS = "JPEGImages_24fps", "Annotations_6fps"
_FPS = 24.0


@dataclass(frozen=True)
class Source:
    """Videos of SA-V val or test.

    Attributes:
        root: the folder sav_val or sav_test.
        videos: the list of videos in `root`; "": the only .txt there, or all that have masks if there is none.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    videos: str = ""
    name: str = "sav"
    license: str = "CC BY 4.0"

    def clips(self) -> list[SourceClip]:
        """Every video in the order of the list."""
        if not (self.root / _FRAMES).is_dir() or not (self.root / _MASKS).is_dir():
            raise DataError(
                f"{self.root}: expected {_FRAMES}/VIDEO/00000.jpg and {_MASKS}/VIDEO/000/00000.png, found "
                f"{look(self.root)}"
            )
        path = self._list()
        if path is None:
            names, split = [folder.name for folder in folders_in(self.root / _MASKS)], ""
        else:
            names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
            split = path.stem.removeprefix("sav_")
        return [SourceClip(as_key(name), partial(self._read, name, split)) for name in names]

    def _list(self) -> Path | None:
        if self.videos:
            path = inside(self.root, self.videos, "videos")
            if not path.is_file():
                raise DataError(f"{path}: no such file; give videos= the list of videos")
            return path
        found = sorted(path for path in self.root.glob("*.txt") if not path.name.startswith("."))
        if len(found) > 1:
            names = ", ".join(path.name for path in found[:4])
            raise DataError(f"{self.root}: has several lists ({names}); give videos= one of them")
        return found[0] if found else None

    def _read(self, name: str, split: str) -> AnnotatedVideo:
        masks, frames = (
            inside(self.root / kind, name, f"{self.root}: list of videos") for kind in (_MASKS, _FRAMES)
        )
        for folder in (masks, frames):
            if not folder.is_dir():
                raise DataError(f"{folder}: missing, though the list of videos names it; download it again")
        found = object_folders(masks)
        paired = pair(images_in(frames), found.files)
        meta = {
            "source": self.name,
            "license": self.license,
            "split": split,
            "object_types": ["manual"] * len(found.table.object_ids),
        }
        return image_clip(as_key(name), [(k, frame) for k, frame, _ in paired], found.table, _FPS, meta)
