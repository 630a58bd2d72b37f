"""Masks of one video as image files: maps of ids, one object a frame, or a folder of masks for each object."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from data.clip import DataError
from data.formats.frame_folder import by_stem, folders_in, images_in, natural
from data.formats.label_images import VOID, MaskTable, has_colours, label_table, object_table
from data.media import IMAGE_SUFFIXES

KINDS = ("auto", "labels", "binary", "objects")
_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # the others change values
_MANY = 50  # ids in 8 bits; far more than people draw


@dataclass(frozen=True)
class FolderMasks:
    """What a folder of masks holds.

    Attributes:
        files: one for each annotated frame, in the order of the numbers in their names; of several objects' any.
        table: the masks.
        names: of the objects, where they have folders; else empty.
    """

    files: tuple[Path, ...]
    table: MaskTable
    names: tuple[str, ...] = ()


def check_kind(kind: str, ignore: Collection[int] | None) -> None:
    """See that the options are such; for sources that have them.

    Raises:
        DataError: they are not.
    """
    if kind not in KINDS:
        raise DataError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    good = ignore is None or (isinstance(ignore, list | tuple) and all(type(i) is int for i in ignore))
    if not good:
        raise DataError(f"ignore must be a list of ids such as [255], got {ignore!r}")


def read_masks(folder: Path, kind: str = "auto", ignore: Collection[int] | None = None) -> FolderMasks:
    """The masks in a folder.

    Args:
        folder: of one video.
        kind: "labels", maps of ids; "binary", one object, which is what is not 0; "objects", a folder for each object
            with binary masks; "auto", objects where there are folders, else binary where nothing but 0 and 255 (or
            black and another colour) is found, else labels.
        ignore: ids in labels that are background, too; None: none is, and 255 beside other ids is refused, because it
            can be void or an object.

    Raises:
        DataError: no masks, or not of this kind, or they cannot be read.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: missing, its frames are there; restore the masks or remove the frames",
            "image-without-mask",
        )
    folders = folders_in(folder)
    files = images_in(folder, _SUFFIXES)
    if kind == "objects" or (kind == "auto" and folders and not files):
        return object_folders(folder)
    if kind == "auto" and folders and files:
        raise DataError(
            f"{folder}: holds masks and also folders ({folders[0].name}, ...); remove one of both, or set kind="
        )
    if not files:
        lossy = images_in(folder, set(IMAGE_SUFFIXES) - set(_SUFFIXES))
        found = f"{lossy[0].name}, whose format changes values;" if lossy else "no mask;"
        raise DataError(f"{folder}: holds {found} save masks as .png", "image-without-mask")
    by_stem(files)  # refuses a frame that has two masks
    return FolderMasks(tuple(files), _table(files, kind, ignore))


def object_folders(folder: Path) -> FolderMasks:
    """The masks in folders of one object each; a frame that an object has no file for shows it nowhere.

    Raises:
        DataError: no folders, an empty one, or a mask that cannot be read or is not of one object.
    """
    folders = sorted(folders_in(folder), key=natural)
    if not folders:
        raise DataError(f"{folder}: expected a folder for each object with its masks, found none")
    ids = _ids(folders)
    masks = {i: by_stem(images_in(place, _SUFFIXES)) for i, place in zip(ids, folders, strict=True)}
    for place, found in zip(folders, masks.values(), strict=True):
        if not found:
            raise DataError(f"{place}: holds no .png; annotate the object or remove the folder", "mask-file")
    of_any = {stem: path for found in reversed(masks.values()) for stem, path in found.items()}
    files = sorted(of_any.values(), key=natural)
    table = object_table({i: [found.get(path.stem) for path in files] for i, found in masks.items()})
    is_numbered = all(place.name.isdecimal() for place in folders)
    return FolderMasks(tuple(files), table, () if is_numbered else tuple(place.name for place in folders))


def _ids(folders: list[Path]) -> list[int]:
    """The numbers that folders are called; 1, 2, ... if one is called otherwise."""
    if not all(place.name.isdecimal() and len(place.name) < 10 for place in folders):
        return list(range(1, len(folders) + 1))
    ids = [int(place.name) for place in folders]
    for i, place in zip(ids, folders, strict=True):
        if ids.count(i) > 1:
            raise DataError(f"{place}: another folder is object {i}, too; rename one of them", "duplicate-id")
    return ids


def _table(files: list[Path], kind: str, ignore: Collection[int] | None) -> MaskTable:
    """The masks in files of one frame each, as objects with ids."""
    folder = files[0].parent
    if kind == "binary" or (kind == "auto" and has_colours(files[0])):
        table = object_table({1: files})
    else:
        table = label_table(files, ignore or ())
    if kind != "binary" and ignore is None:
        table = _without_doubt(table, kind, folder)
    if not any(any(row) for row in table.rows):
        raise DataError(
            f"{folder}: no object in any of {len(files)} masks; annotate the video or remove it",
            "nothing-visible",
        )
    return table


def _without_doubt(table: MaskTable, kind: str, folder: Path) -> MaskTable:
    """A table of labels in which 255 means what it says: alone it is the one object of binary masks."""
    ids = table.object_ids
    if VOID not in ids or max(ids) > VOID:  # among the ids of 16 bits it is one like others
        return table
    if kind == "auto" and len(ids) == 1:
        return replace(table, object_ids=(1,))
    if len(ids) > _MANY:
        raise DataError(
            f"{folder}: has {len(ids)} ids up to {VOID}, as masks with blurred edges have; save masks without "
            "smoothing, or say ignore=[] if these are ids",
            "mask-file",
        )
    others = ", ".join(str(i) for i in ids[:4] if i != VOID)
    beside = f" beside {others}{', ...' if len(ids) > 5 else ''}" if others else ""
    raise DataError(
        f"{folder}: has the id {VOID}{beside}, which is void in some data sets; say ignore=[255] if it is here, or "
        "ignore=[] if it is an object",
        "void-255",
    )
