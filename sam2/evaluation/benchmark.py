"""Benchmarks: what each consists of, where its files lie, and whether a folder is that benchmark.

One file in `manifests/` a benchmark; adding one takes nothing else. Names come from listing folders and are never
taken out of a file to build a path that was not listed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sam2.evaluation.benchmark_names import MANIFESTS, benchmarks, no_benchmark
from sam2.evaluation.boundary import Bools
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.following import Start
from sam2.evaluation.label_files import read_ids, read_mask
from sam2.evaluation.meta import Meta, find_meta, read_meta, read_names
from sam2.video_frames import open_path
from sam2.video_state import Frames

VOID = 255  # in DAVIS: neither an object nor background


@dataclass(frozen=True)
class Published:
    """A number that somebody published: `model` as `sam2.variants` calls it, percent, and where it stands."""

    model: str
    prompt: str
    jf: float
    source: str


@dataclass(frozen=True)
class MadeUp:
    """How files are called and which masks are public, for made-up data in a benchmark's layout.

    Attributes:
        name: of a video, a format of `number` and `letters`.
        first_number: in the name of the first frame.
        step: from one frame's number to the next.
        digits: of the number.
        public_truth: all, those of the `first` frame, or those on which objects start (`starts`).
    """

    name: str
    first_number: int
    step: int
    digits: int
    public_truth: Literal["all", "first", "starts"]


@dataclass(frozen=True)
class Manifest:
    """What a benchmark is.

    Attributes:
        name: as in `--dataset`.
        title: for people.
        protocol: by which it is scored.
        inside: folders of the download that may hold the data, "" for itself.
        pictures: folder of the frames, one folder a video.
        truth: folder of the true masks, laid out alike.
        listed_in: text file with the names of the videos; None: all that `truth` has.
        late_objects: whether objects that come after the first frame are followed, too.
        folder_per_object: `VIDEO/OBJECT/FRAME.png`, and masks may overlap; otherwise all objects in one palette image.
        only_annotated: masks are written for the frames that have a true one; otherwise for all.
        archive: folder inside the zip file that its server takes; None if none does.
        server: where that is.
        videos: how many there are.
        objects: how many objects; None if that is not published.
        names_sha256: of the sorted names, one a line; None if the list comes with the download alone.
        name_pattern: that all names match.
        counts_source: where the counts stand.
        made_up: how to make data of its layout.
        published: numbers to compare with.
    """

    name: str
    title: str
    protocol: str
    inside: tuple[str, ...]
    pictures: str
    truth: str
    listed_in: str | None
    late_objects: bool
    folder_per_object: bool
    only_annotated: bool
    archive: str | None
    server: str | None
    videos: int
    objects: int | None
    names_sha256: str | None
    name_pattern: str
    counts_source: str
    made_up: MadeUp
    published: tuple[Published, ...] = ()


@cache
def manifest(name: str) -> Manifest:
    """A benchmark by name.

    Raises:
        EvaluationError: there is none of that name.
    """
    if name not in benchmarks():
        raise EvaluationError(no_benchmark(name))
    content: dict[str, Any] = json.loads((MANIFESTS / f"{name}.json").read_text(encoding="utf-8"))
    numbers = tuple(
        Published(row["model"], row["prompt"], row["J&F"], row["source"]) for row in content.pop("published")
    )
    content |= {"inside": tuple(content["inside"]), "made_up": MadeUp(**content["made_up"])}
    return Manifest(**content, published=numbers)


def hash_of_names(names: Sequence[str]) -> str:
    """SHA-256 over sorted names, one a line."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()


@dataclass(frozen=True)
class Video:
    """A video to follow objects through.

    Attributes:
        name: of its folder.
        open: gives the frames at a size.
        starts: reads the objects, each on the frame on which it is pointed at.
        wanted: gives index and name of every frame whose masks are written.
        weight: how long it takes, compared with others.
        folders: names of the objects' folders by id, where each has one.
        write_truth: writes all true masks to a folder, where the data have no such folder.
        true_masks: gives the true masks (H, W) of a frame by object, as far as they are there.
    """

    name: str
    open: Callable[[int], Frames]
    starts: Callable[[], list[Start]]
    wanted: Callable[[], dict[int, str]]
    weight: int
    folders: dict[int, str] | None = None
    write_truth: Callable[[Path], None] | None = None
    true_masks: Callable[[int], Mapping[int, Bools]] = lambda frame: {}


@dataclass(frozen=True)
class Data:
    """The data of an evaluation.

    Attributes:
        videos: in the order of their names.
        truth: folder of the true masks, for scoring.
        meta: what the benchmark says beside its masks.
        is_scorable: whether all true masks are there, and not just those of the prompts.
    """

    videos: tuple[Video, ...]
    truth: Path
    meta: Meta | None
    is_scorable: bool

    @property
    def names_sha256(self) -> str:
        """Of the names of the videos."""
        return hash_of_names([video.name for video in self.videos])


def open_benchmark(about: Manifest, root: Path, pictures: Path | None = None) -> Data:
    """The videos of a benchmark in a folder.

    Args:
        about: which benchmark.
        root: folder of the download.
        pictures: frames from elsewhere, such as the same videos at a higher rate.

    Raises:
        EvaluationError: files are missing or laid out otherwise.
    """
    base = _base(about, root)
    truth, source = base / about.truth, pictures or base / about.pictures
    meta_file = find_meta(truth)
    meta = None if meta_file is None else read_meta(meta_file)
    names = sorted(_names(about, base, truth))
    for name in names:
        for folder in (truth / name, source / name):
            if not folder.is_dir():
                raise EvaluationError(f"{folder}: is not there; {about.title} has frames and masks of {name}")
    listed = base / about.pictures
    videos = tuple(_video(about, name, source / name, listed / name, truth / name, meta) for name in names)
    complete = all(_is_complete(listed / name, truth / name, about) for name in names)
    return Data(videos, truth, meta, complete)


def check_official(about: Manifest, data: Data) -> None:
    """See that a folder is the benchmark: names and numbers of videos and objects.

    Raises:
        EvaluationError: it is not.
    """
    remedy = "; name the right folder with --root, or run on this one with --unofficial"
    names = [video.name for video in data.videos]
    strange = [name for name in names if not re.fullmatch(about.name_pattern, name)]
    if strange:
        raise EvaluationError(f"{data.truth}: {strange[0]} is no name of {about.title}{remedy}")
    if len(names) != about.videos:
        raise EvaluationError(
            f"{data.truth}: has {len(names)} videos, {about.title} has {about.videos} ({about.counts_source}){remedy}"
        )
    if about.names_sha256 is not None and data.names_sha256 != about.names_sha256:
        raise EvaluationError(f"{data.truth}: has other videos than {about.title}{remedy}")
    if about.objects is not None:
        objects = sum(len(video.starts()) for video in data.videos)
        if objects != about.objects:
            expected = f"{about.title} has {about.objects} ({about.counts_source})"
            raise EvaluationError(f"{data.truth}: has {objects} objects, {expected}{remedy}")


def _base(about: Manifest, root: Path) -> Path:
    for inside in about.inside:
        if all((root / inside / folder).is_dir() for folder in (about.pictures, about.truth)):
            return root / inside
    places = " or ".join(str(root / inside / about.pictures) for inside in about.inside)
    raise EvaluationError(
        f"{root}: is no download of {about.title}; expected {places}, and {about.truth} beside it"
    )


def _names(about: Manifest, base: Path, truth: Path) -> set[str]:
    found = {path.name for path in truth.iterdir() if path.is_dir() and not path.name.startswith(".")}
    if about.listed_in is not None and (base / about.listed_in).is_file():
        listed = read_names(base / about.listed_in)
        if listed - found:
            raise EvaluationError(
                f"{base / about.listed_in}: names {min(listed - found)}, which {truth} does not have"
            )
        return set(listed)
    if not found:
        raise EvaluationError(f"{truth}: is empty, expected one folder a video")
    return found


def _stems(folder: Path, what: str) -> list[str]:
    """Names of the files of a folder without suffix, in order."""
    stems = sorted(path.stem for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not stems:
        raise EvaluationError(f"{folder}: is empty, expected {what}")
    return stems


def _is_complete(pictures: Path, truth: Path, about: Manifest) -> bool:
    """Whether every frame has a true mask; where a server keeps them, only those are there that prompts are made of."""
    if about.only_annotated or not pictures.is_dir():
        return True
    return set(_stems(pictures, "frames")) <= set(_stems(truth, "masks"))


def _video(about: Manifest, name: str, source: Path, listed: Path, truth: Path, meta: Meta | None) -> Video:
    frames = _stems(source, "frames")
    place = {stem: index for index, stem in enumerate(frames)}
    folders = None
    if about.folder_per_object:
        found = sorted(path.name for path in truth.iterdir() if path.is_dir())
        folders = dict(enumerate(found, 1))

    def starts() -> list[Start]:
        known = None if meta is None or name not in meta.objects else set(meta.objects[name])
        if folders is not None:
            return _starts_by_folder(truth, folders, place)
        return _starts(truth, known, about.late_objects, place)

    def wanted() -> dict[int, str]:
        stems = frames
        if about.only_annotated:
            masked = [truth / folder for folder in (folders or {}).values()] or [truth]
            stems = sorted({stem for folder in masked for stem in _stems(folder, "masks")})
        elif listed.is_dir():
            stems = _stems(listed, "frames")
        return {_place(place, stem, truth): stem for stem in stems}

    def true_masks(frame: int) -> Mapping[int, Bools]:
        file = f"{frames[frame]}.png"
        if folders is None:
            return masks_by_id(read_ids(truth / file)) if (truth / file).is_file() else {}
        paths = {i: truth / folder / file for i, folder in folders.items()}
        return {i: read_mask(path).astype(bool) for i, path in paths.items() if path.is_file()}

    return Video(
        name,
        lambda size: open_path(source, size),
        starts,
        wanted,
        len(frames),
        folders,
        true_masks=true_masks,
    )


def masks_by_id(ids: NDArray[np.integer]) -> dict[int, Bools]:
    """The mask of every object in a label map (H, W)."""
    return {i: ids == i for i in np.unique(ids).tolist() if i != 0}


def _place(place: dict[str, int], stem: str, truth: Path) -> int:
    if stem not in place:
        raise EvaluationError(f"{truth / stem}.png: has no frame of its name among {len(place)} frames")
    return place[stem]


def _starts(truth: Path, known: set[int] | None, late: bool, place: dict[str, int]) -> list[Start]:
    """Objects of palette images on the frames on which they first appear."""
    found: dict[int, Start] = {}
    for stem in _stems(truth, "masks"):
        ids = read_ids(truth / f"{stem}.png")
        for i in np.unique(ids).tolist():
            if i not in (0, VOID, *found) and (known is None or i in known):
                found[i] = Start(i, _place(place, stem, truth), ids == i)
        if not late or (known is not None and known <= found.keys()):
            break
    if not found:
        raise EvaluationError(f"{truth}: has no object on {'any' if late else 'its first'} frame")
    return [found[i] for i in sorted(found)]


def _starts_by_folder(truth: Path, folders: dict[int, str], place: dict[str, int]) -> list[Start]:
    """Objects that have a folder each, on the frames on which they first appear."""
    found = []
    for number, folder in folders.items():
        first = next(_masks_in(truth / folder), None)
        if first is None:
            raise EvaluationError(f"{truth / folder}: the object is never visible; leave it out")
        found.append(Start(number, _place(place, first[0], truth / folder), first[1]))
    if not found:
        raise EvaluationError(f"{truth}: has no folder of an object")
    return found


def _masks_in(folder: Path) -> Iterator[tuple[str, Bools]]:
    """Names and masks of the frames on which an object is visible."""
    for stem in _stems(folder, "masks"):
        mask = read_mask(folder / f"{stem}.png").astype(bool)
        if mask.any():
            yield stem, mask
