"""YouTube-VOS 2018 and 2019, `train`: frames and palette masks at 6 fps, objects and categories in `meta.json`.

ROOT/[train/]JPEGImages/VIDEO/00000.jpg, 00005.jpg, ...     names are frame numbers at 30 fps
ROOT/[train/]Annotations/VIDEO/00000.png, 00005.png, ...    the palette index is the object's id
ROOT/[train/]meta.json                                      {"videos": {VIDEO: {"objects": {ID: {"category": ...}}}}}
ROOT/train_all_frames/JPEGImages/VIDEO/00000.jpg, 00001.jpg, ...     optional, taken where `train` has no frames

ROOT is the folder that holds `train`, or `train` itself. An object may appear after the first frame; it is absent
before. Of the frames those with a mask are read. The folders `valid` and `test` have the masks of an object's first
frame only, so they are refused: they are for evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.clip import DataError, SourceClip
from data.formats.vos_folder import VosFolder, part_of, read_categories

_FPS = 30.0
_FIRST_FRAMES_ONLY = ("valid", "valid_all_frames", "test", "test_all_frames")


@dataclass(frozen=True)
class Source:
    """Training videos of YouTube-VOS.

    Attributes:
        root: the folder that holds `train`, or `train` itself.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    name: str = "ytvos"
    license: str = ""

    def clips(self) -> list[SourceClip]:
        """Every video of `meta.json`, in the order of the names."""
        folder, split = part_of(self.root, "train")
        if split in _FIRST_FRAMES_ONLY:
            raise DataError(
                f"{folder}: has masks of first frames only; give the folder with `train`, evaluate on this one with "
                "recipes/eval_ytvos.yaml"
            )
        categories = read_categories(folder / "meta.json") if folder.is_dir() else {}
        return VosFolder(
            root=folder,
            fps=_FPS,
            names=tuple(sorted(categories)),
            meta={"source": self.name, "license": self.license, "split": "train"},
            categories=categories,
            more_frames=folder.parent / "train_all_frames",
        ).clips()
