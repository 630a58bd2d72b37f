"""Which source a folder is laid out for, told by the names in it and the beginnings of a few files."""

from __future__ import annotations

import itertools
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data.clip import DataError
from data.formats.frame_folder import folders_in, images_in
from data.formats.video_folders import VIDEO, recognise
from data.look import look
from data.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from data.shard import META
from data.sources import source_names

SHARDS = "shards"
_DEPTH, _WIDE, _MOST = 4, 200, 5000  # folders deep, entries of each, entries in all
_BEGINNING = 1 << 16  # bytes of a JSON


def tell_source(root: Path) -> str:
    """The name of the source that can read `root`, or "shards".

    Raises:
        DataError: it is laid out for none, or for several; lists those that there are.
    """
    found = [name for name in possible_sources(root) if name == SHARDS or name in source_names()]
    if len(found) == 1:
        return found[0]
    known = ", ".join(source_names())
    if found:
        raise DataError(f"{root}: may be {' or '.join(found)}; say which with --from")
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    holds = look(root) if root.is_dir() else "a file that is none of a source"
    raise DataError(f"{root}: holds {holds}, which tells no source; say with --from what it is: {known}")


def possible_sources(root: Path) -> list[str]:
    """The sources that `root` may be laid out for."""
    if root.is_file():
        return _of_file(root)
    if not root.is_dir():
        return []
    seen = _Seen(root, tuple(_walk(root)))
    return _of_tars(seen) or _of_names(seen) or _of_json(seen) or _of_folders(seen)


@dataclass(frozen=True)
class _Seen:
    """Some of what is in a folder: paths relative to it, of files and, with a "/" at the end, of folders."""

    root: Path
    entries: Sequence[str]

    def folder(self, *names: str) -> bool:
        """Whether all of these folders are in the root or in one of its folders."""
        for place in (
            "",
            *(entry for entry in self.entries if entry.endswith("/") and entry.count("/") == 1),
        ):
            if all(f"{place}{name}/" in self.entries for name in names):
                return True
        return False

    def files(self, *suffixes: str) -> list[PurePosixPath]:
        """Files whose names end so."""
        return [PurePosixPath(entry) for entry in self.entries if entry.lower().endswith(suffixes)]


def _walk(root: Path) -> Iterator[str]:
    """The beginning of a tree, level by level; hidden entries are left out."""
    level, left = [root], _MOST
    for _ in range(_DEPTH):
        below = []
        for folder in level:
            with os.scandir(folder) as entries:
                names = sorted(itertools.islice(entries, min(_WIDE, left)), key=lambda entry: entry.name)
            left -= len(names)
            for entry in names:
                if entry.name.startswith("."):
                    continue
                is_folder = entry.is_dir()
                below += [Path(entry.path)] if is_folder else []
                yield Path(entry.path).relative_to(root).as_posix() + ("/" if is_folder else "")
        level = below


def _of_file(path: Path) -> list[str]:
    if path.suffix.lower() == ".xml":
        return ["cvat"]
    return _of_content(path) if path.suffix.lower() == ".json" else []


def _of_tars(seen: _Seen) -> list[str]:
    """Shards, or SA-1B as it is downloaded."""
    for name in seen.files(".tar"):
        try:
            with tarfile.open(seen.root / name, "r:") as tar:
                first = tar.next()
        except (tarfile.TarError, OSError, EOFError):
            first = None
        if first is not None and first.name.endswith(f".{META}"):
            return [SHARDS]
        if first is not None and PurePosixPath(first.name).name.startswith("sa_"):
            return ["sa1b"]
    # tars, but none of them is sound
    return [SHARDS] if seen.files(".tar") else []


def _of_names(seen: _Seen) -> list[str]:
    """Sources that the names of folders and files tell."""
    stems = {str(path.with_suffix("")) for path in seen.files(*IMAGE_SUFFIXES)}
    json_stems = [str(path.with_suffix("")) for path in seen.files(".json")]
    rules = {
        "sav_frames": seen.folder("JPEGImages_24fps", "Annotations_6fps"),
        "davis": seen.folder("ImageSets", "JPEGImages", "Annotations"),
        _of_vos(seen): seen.folder("JPEGImages", "Annotations"),
        "sav": bool(seen.files("_manual.json", "_auto.json")),
        "sa1b": any(PurePosixPath(stem).name.startswith("sa_") and stem in stems for stem in json_stems),
        "burst": bool(seen.files("all_classes.json")),
        "nifti": bool(seen.files(".nii", ".nii.gz")),
        "dicom": bool(seen.files(".dcm")),
        "npz": bool(seen.files(".npz")),
        "cvat": bool(seen.files(".xml")),
        "yolo": any("labels" in path.parts for path in seen.files(".txt")),
        "labelme": any(stem in stems for stem in json_stems),
    }
    return next(([name] for name, fits in rules.items() if fits), [])


def _of_vos(seen: _Seen) -> str:
    """Which of the data sets with JPEGImages and Annotations."""
    names = [path.stem for path in seen.files(".jpg") if "JPEGImages" in path.parts]
    if names and all(name.isdecimal() and len(name) == 8 for name in names):
        return "lvos"
    return "ytvos" if any(path.name == "meta.json" for path in seen.files(".json")) else "mose"


def _of_json(seen: _Seen) -> list[str]:
    """Sources of which one JSON describes all."""
    found = [_of_content(seen.root / path) for path in seen.files(".json") if len(path.parts) <= 2]
    return list(dict.fromkeys(itertools.chain(*found)))


def _of_content(path: Path) -> list[str]:
    """What the first bytes of a JSON tell."""
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING)
        file.seek(max(0, path.stat().st_size - _BEGINNING))
        text = beginning + file.read()
    if text.lstrip().startswith(b"["):
        return ["labelstudio"] if b'"annotations"' in text or b'"data"' in text else []
    if b'"segmentations"' in text or b'"videos"' in text:
        return ["ovis"]
    return ["coco"] if b'"images"' in text or b'"annotations"' in text else []


def _of_folders(seen: _Seen) -> list[str]:
    """Sources of plain folders."""
    if any(len(path.parts) <= 2 for path in seen.files(*VIDEO_SUFFIXES)):
        return ["video_masks"]
    try:
        patterns = recognise(seen.root)
    except DataError:  # several folders of frames or masks: the source asks which
        return ["frames"]
    if patterns is None:
        return []
    frames = patterns[0]
    if VIDEO in frames:
        return ["frames"] if _has_folders_of_images(seen.root, frames) else []
    return ["images", "frames"]  # independent images, or one video


def _has_folders_of_images(root: Path, pattern: tuple[str, ...]) -> bool:
    above = root.joinpath(*pattern[: pattern.index(VIDEO)])
    below = pattern[pattern.index(VIDEO) + 1 :]
    places = [folder.joinpath(*below) for folder in folders_in(above)]
    return any(images_in(place) for place in places if place.is_dir())
