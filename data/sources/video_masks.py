"""Video files with folders of masks: your own videos, masks named by frame numbers.

ROOT/VIDEO.mp4            ROOT/VIDEO/00000.png ...
ROOT/VIDEO.mp4            ROOT/masks/VIDEO/00000.png ...
ROOT/videos/VIDEO.mp4     ROOT/masks/VIDEO/00000.png ...

Any container that FFmpeg reads. Other folders are given by the options videos and masks. The last number in the name of
a mask says which frame it belongs to: mask number n is that of frame (n - first) x step of the video, counted from 0.
Masks need not exist for every frame.

Masks are one of: maps of object ids (palette, or grey of 8 or 16 bits); one object a file, what is not 0; a folder for
each object, VIDEO/OBJECT/00000.png, whose objects may overlap.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from data.checking.finding import tell_of_bare
from data.clip import AnnotatedVideo, DataError, SourceClip, VideoFile
from data.formats.frame_folder import images_in, natural
from data.formats.inside import inside
from data.formats.mask_folder import FolderMasks, check_kind, read_masks
from data.formats.video_folders import VIDEO, Pattern, find, parse
from data.look import look
from data.media import VIDEO_SUFFIXES, open_video, probe_fps
from data.shard import as_key

log = logging.getLogger(__name__)

_USUAL: tuple[Pattern, ...] = (("masks", VIDEO), (VIDEO,))
_MOST = 2**31


@dataclass(frozen=True)
class Source:
    """Video files with folders of masks.

    Attributes:
        root: the folder.
        videos: the folder of the video files in it; "": `videos` if there is one, else `root`.
        masks: where the masks are: a path with VIDEO for the name of a video without ending; "": as above.
        first: the number in the names that stands for the first frame, 0 or 1.
        step: frames of the video from one number to the next.
        kind: of the masks: "labels", "binary", "objects", or "auto": objects where there are folders, one object where
            masks hold nothing but 0 and 255 or black and white, else labels.
        ignore: ids in labels that are background, [255] for instance; null: none, and 255 beside other ids is refused.
        split: what `meta.json` names as the split.
        name: what `meta.json` names as the source.
        license: what `meta.json` names as the license.
    """

    root: Path
    videos: str = ""
    masks: str = ""
    first: int = 0
    step: int = 1
    kind: str = "auto"
    ignore: list[int] | None = None
    split: str = ""
    name: str = "video_masks"
    license: str = ""

    def __post_init__(self) -> None:
        check_kind(self.kind, self.ignore)
        if self.masks:
            parse(self.masks, "masks", self.root)
        if self.first not in (0, 1) or type(self.first) is not int:
            raise DataError(f"first must be 0 or 1, got {self.first!r}")
        if type(self.step) is not int or not 1 <= self.step <= 10_000:
            raise DataError(f"step must be a whole number from 1 to 10000, got {self.step!r}")

    def clips(self) -> list[SourceClip]:
        """Every video with masks in the order of the names; which have none is said."""
        place = self._place()
        videos = self._videos(place)
        masks = self._masks({path.stem for path in videos}, place)
        bare = [path.name for path in videos if path.stem not in masks]
        if bare:
            shown = ", ".join(bare[:3]) + (", ..." if len(bare) > 3 else "")
            log.warning("%s: without masks, left out: %s (%d in all)", place, shown, len(bare))
            tell_of_bare(place / name for name in bare)
        by_name: dict[str, list[Path]] = {
            name: [] for name in sorted(masks, key=lambda name: natural(Path(name)))
        }
        for path in videos:
            if path.stem in by_name:
                by_name[path.stem].append(path)
        return [
            SourceClip(as_key(name), partial(self._read, place / name, found, masks[name]))
            for name, found in by_name.items()
        ]

    def _place(self) -> Path:
        if self.videos:
            return self.root if self.videos == "." else inside(self.root, self.videos, "videos")
        usual = self.root / "videos"
        return usual if usual.is_dir() else self.root

    def _videos(self, place: Path) -> list[Path]:
        found = images_in(place, VIDEO_SUFFIXES) if place.is_dir() else []
        if not found:
            raise DataError(
                f"{place}: expected video files ({', '.join(VIDEO_SUFFIXES)}), found {look(place)}; say where they are "
                "with videos="
            )
        return found

    def _masks(self, names: set[str], place: Path) -> dict[str, Path]:
        """By the name of the video, the folder of its masks; also those whose video is missing."""
        if self.masks:
            pattern = parse(self.masks, "masks", self.root)
            patterns = [pattern if VIDEO in pattern else (*pattern, VIDEO)]
        else:
            patterns = [pattern for pattern in _USUAL if names & set(find(self.root, pattern))]
        if len(patterns) > 1:
            shown = " and ".join("/".join(pattern) for pattern in patterns)
            raise DataError(f"{self.root}: has both {shown}; say which are the masks with masks=")
        found = find(self.root, patterns[0]) if patterns else {}
        found = {name: folder for name, folder in found.items() if folder != place}
        if not names & set(found):
            raise DataError(
                f"{self.root}: expected masks in masks/VIDEO or VIDEO, {min(names)} for instance, found "
                f"{look(self.root)}; say where they are with masks=, masks=labels/VIDEO for instance"
            )
        return found

    def _read(self, stem: Path, videos: Sequence[Path], masks: Path) -> AnnotatedVideo:
        if not videos:
            raise DataError(
                f"{masks}: no video {stem.name} in {stem.parent}; restore it or remove the masks",
                "mask-without-image",
            )
        if len(videos) > 1:
            raise DataError(
                f"{videos[1]}: {videos[0].name} has the same masks; rename one of them, and its masks"
            )
        path = videos[0]
        found, numbers = self._in_order(read_masks(masks, self.kind, self.ignore))
        self._expect_frames(path, found.files[-1], numbers[-1])
        meta: dict[str, object] = {"source": self.name, "license": self.license, "split": self.split}
        if found.names:
            meta["object_names"] = list(found.names)
        return AnnotatedVideo(
            key=as_key(stem.name),
            media=VideoFile(path),
            height=found.table.height,
            width=found.table.width,
            fps=probe_fps(path),
            frame_index=tuple(numbers),
            object_ids=found.table.object_ids,
            masks=found.table.rows,
            meta=meta,
        )

    def _in_order(self, found: FolderMasks) -> tuple[FolderMasks, list[int]]:
        """The masks in the order of their frames, and the numbers of these."""
        numbers = [self._frame(path) for path in found.files]
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        for before, after in zip(order, order[1:], strict=False):
            if numbers[before] == numbers[after]:
                raise DataError(
                    f"{found.files[after]}: and {found.files[before].name} belong to one frame, {numbers[after]}; "
                    "remove one of them",
                    "duplicate-frame",
                )
        rows = tuple(tuple(row[k] for k in order) for row in found.table.rows)
        files = tuple(found.files[k] for k in order)
        return replace(found, files=files, table=replace(found.table, rows=rows)), [numbers[k] for k in order]

    def _frame(self, path: Path) -> int:
        """The number of the frame that a mask belongs to."""
        digits = re.findall(r"[0-9]+", path.stem)
        if not digits or len(digits[-1]) > 18:
            raise DataError(f"{path}: no frame number in its name; name masks by the numbers of their frames")
        number = (int(digits[-1]) - self.first) * self.step
        if not 0 <= number < _MOST:
            raise DataError(
                f"{path}: is mask number {int(digits[-1])}, the first possible is {self.first}; see first="
            )
        return number

    def _expect_frames(self, path: Path, mask: Path, last: int) -> None:
        """See that the video has the frame of its last mask, as far as its header tells; decoding finds the rest."""
        with open_video(path, 1) as (_, stream):
            frames = int(stream.frames)  # 0 where the container does not say
        if 0 < frames <= last:
            raise DataError(
                f"{mask}: belongs to frame {last} (first={self.first}, step={self.step}), but {path.name} has the "
                f"frames 0 to {frames - 1}; correct first= or step=, or the masks are of another video"
            )
