"""DAVIS 2017: `JPEGImages/480p`, `Annotations/480p`, and lists of videos in `ImageSets/2017`.

ROOT/ImageSets/2017/train.txt, val.txt            names of videos
ROOT/JPEGImages/480p/VIDEO/00000.jpg, ...         24 frames a second
ROOT/Annotations/480p/VIDEO/00000.png, ...        the palette index is the object's id, 255 is void, read as background

ROOT is the folder DAVIS. Every frame that has a mask is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.clip import DataError, SourceClip
from data.formats.vos_folder import VosFolder
from data.look import look


@dataclass(frozen=True)
class Source:
    """Videos of DAVIS 2017.

    Attributes:
        root: the folder DAVIS.
        subset: name of a list in ImageSets/2017, such as "train" or "val"; "": all videos with masks.
        resolution: "480p" or "Full-Resolution".
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    subset: str = "train"
    resolution: str = "480p"
    name: str = "davis2017"
    license: str = ""

    def clips(self) -> list[SourceClip]:
        """Every video in the order of the list."""
        names = None
        if self.subset:
            path = self.root / "ImageSets" / "2017" / f"{self.subset}.txt"
            if not path.parent.is_dir():
                raise DataError(
                    f"{self.root}: expected ImageSets/2017/{self.subset}.txt, found {look(self.root)}; without lists, "
                    'set subset="" to take all videos'
                )
            if not path.is_file():
                raise DataError(
                    f'{path}: missing; give subset= the name of a list in {path.parent}, or "" for all'
                )
            names = tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
        meta = {"source": self.name, "license": self.license, "split": self.subset}
        return VosFolder(self.root, 24.0, self.resolution, names, meta=meta).clips()
