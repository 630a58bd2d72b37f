"""The files of a prediction: written in a hidden folder, and in their places all together or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sam2.cli.object_masks import from_run_lengths

PROGRAM = "sam2 predict"
SCORES, MASKS, MASKS_JSON = "scores.json", "masks", "masks.json"
OVERLAY, OVERLAY_IMAGE = "overlay.mp4", "overlay.png"

_DRAFT = re.compile(r"\.partial-\d+")


class OutputError(ValueError):
    """The folder cannot take the files."""


@dataclass(frozen=True)
class FrameRecord:
    """All objects on one frame.

    Attributes:
        frame: index in the video.
        object_ids: one an object.
        ious: what the model expects its masks to reach; None where it has no answer.
        object_logits: above zero where it thinks that the object is visible; None where it has no answer.
        packed: masks as run lengths.
    """

    frame: int
    object_ids: list[int]
    ious: list[float | None]
    object_logits: list[float | None]
    packed: list[dict[str, Any]]

    def masks(self) -> NDArray[np.bool_]:
        """(O, H, W)."""
        return from_run_lengths(self.packed)


class Records:
    """Frames in a file, so that any number of them costs no memory; written in any order, read in that of time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    @property
    def frames(self) -> list[int]:
        """Indices, ascending."""
        return sorted(self._places)

    def add(self, record: FrameRecord) -> None:
        """Keep a frame."""
        self._places[record.frame] = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(vars(record), allow_nan=False).encode() + b"\n")

    def __iter__(self) -> Iterator[FrameRecord]:
        for frame in self.frames:
            self._file.seek(self._places[frame])
            yield FrameRecord(**json.loads(self._file.readline()))


def mask_name(frame: int) -> str:
    """`masks/00000.png`, of frame 0."""
    return f"{MASKS}/{frame:05d}.png"


def write_json(path: Path, head: dict[str, Any], frames: Iterable[dict[str, Any]]) -> None:
    """An object with what `head` says and with `frames`, which never are in memory together; an entry a line."""
    with path.open("w", encoding="utf-8") as file:
        file.write("{\n")
        for name, value in head.items():
            file.write(f" {json.dumps(name)}: {json.dumps(value, allow_nan=False)},\n")
        file.write(' "frames": [')
        between = "\n  "
        for frame in frames:
            file.write(between + json.dumps(frame, allow_nan=False))
            between = ",\n  "
        file.write("\n ]\n}\n")


def check_output(out: Path, force: bool) -> None:
    """Refuse a folder with something in it, unless forced.

    Raises:
        OutputError: naming it.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"--out {out} is a file; give a folder")
    above = next((folder for folder in out.parents if folder.exists()), None)
    if above is not None and not above.is_dir():
        raise OutputError(f"--out {out}: {above} is a file, so no folder can be in it")
    if force or not out.exists():
        return
    if inside := next((path.name for path in out.iterdir() if not _DRAFT.fullmatch(path.name)), None):
        raise OutputError(
            f"--out {out} is not empty ({inside}); choose another folder, or --force to replace an earlier prediction"
        )


@contextmanager
def output_folder(out: Path, force: bool) -> Iterator[Path]:
    """A folder to write to; its files move to `out` when the block ends without an error, and are gone otherwise.

    With `force`, the files of an earlier prediction give way; others in `out` stay.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    draft = out / f".partial-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)  # of a killed process that had this number
    draft.mkdir(parents=True)
    try:
        yield draft
        check_output(out, force)
        _publish(draft, out)
        missing = []
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        for folder in missing:
            _remove_empty(folder)


def _publish(draft: Path, out: Path) -> None:
    """The scores last: where they are, everything is."""
    for stale in _earlier(out):
        stale.unlink(missing_ok=True)
    files = sorted(path.relative_to(draft) for path in draft.rglob("*") if path.is_file())
    for file in sorted(files, key=lambda file: file.name == SCORES):
        (out / file).parent.mkdir(exist_ok=True)
        os.replace(draft / file, out / file)
    if not any(file.parts[0] == MASKS for file in files):
        _remove_empty(out / MASKS)


def _earlier(out: Path) -> list[Path]:
    """Files that an earlier prediction left in `out`, according to its scores, which come first."""
    try:
        scores = json.loads((out / SCORES).read_bytes())
        if scores["program"] != PROGRAM:
            return []
        masks = [mask_name(int(frame["frame"])) for frame in scores["frames"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []  # not ours: only files of the same names are replaced
    return [out / name for name in (SCORES, MASKS_JSON, OVERLAY, OVERLAY_IMAGE, *masks)]


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
