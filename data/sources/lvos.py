"""LVOS, versions 1 and 2: videos of minutes, 8-digit names, palette masks with sparse ids.

ROOT/[train/]JPEGImages/VIDEO/00000001.jpg, 00000006.jpg, ...     names are frame numbers
ROOT/[train/]Annotations/VIDEO/00000001.png, ...                  the palette index is the object's id
ROOT/[train/]*meta.json                                           optional: {"videos": {VIDEO: {"objects": {ID: ...}}}}

ROOT is the folder that holds `train` and `valid`, or one of them. Ids may have gaps, objects come late, leave for
minutes and come back. Of the JSON the categories are read, where it has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.clip import SourceClip
from data.formats.vos_folder import Categories, VosFolder, part_of, read_categories


@dataclass(frozen=True)
class Source:
    """Videos of LVOS.

    Attributes:
        root: the folder that holds `train` and `valid`, or one of them.
        subset: "train" or "valid".
        fps: of the numbers in the names; every fifth is annotated, which makes 6 fps.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    subset: str = "train"
    fps: float = 30.0
    name: str = "lvos"
    license: str = ""

    def clips(self) -> list[SourceClip]:
        """Every video with masks, in the order of the names."""
        folder, split = part_of(self.root, self.subset)
        meta = {"source": self.name, "license": self.license, "split": split}
        return VosFolder(folder, self.fps, meta=meta, categories=_read_categories(folder, split)).clips()


def _read_categories(folder: Path, split: str) -> Categories | None:
    short = "val" if split == "valid" else split
    for place in (folder, folder.resolve().parent):
        for name in ("meta.json", f"{split}_meta.json", f"{short}_meta.json"):
            if (place / name).is_file():
                return read_categories(place / name)
    return None
