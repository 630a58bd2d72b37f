"""MOSE, versions 1 and 2: `JPEGImages` and `Annotations`, palette masks of every frame.

ROOT/[train/]JPEGImages/VIDEO/00000.jpg, 00001.jpg, ...
ROOT/[train/]Annotations/VIDEO/00000.png, ...     the palette index is the object's id; ids may have gaps

ROOT is the folder that holds `train`, or `train` itself. Every frame that has a mask is read; objects may come late,
leave and come back. The public `valid` has masks of first frames only: its videos are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.clip import SourceClip
from data.formats.vos_folder import VosFolder, part_of


@dataclass(frozen=True)
class Source:
    """Videos of MOSE.

    Attributes:
        root: the folder that holds `train`, or `train` itself.
        subset: "train", or the name of another folder that is laid out like it.
        fps: frames a second; the data set does not say, 5 fits its published number of frames and seconds.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    subset: str = "train"
    fps: float = 5.0
    name: str = "mose"
    license: str = "CC BY-NC-SA 4.0"

    def clips(self) -> list[SourceClip]:
        """Every video with masks, in the order of the names."""
        folder, split = part_of(self.root, self.subset)
        meta = {"source": self.name, "license": self.license, "split": split}
        return VosFolder(folder, self.fps, meta=meta).clips()
