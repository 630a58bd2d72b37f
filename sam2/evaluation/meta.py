"""What a benchmark says beside its masks: a meta JSON (objects, their frames, categories), the list of what is unseen.

Names in these files are compared with names of folders; no path is ever made of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam2.evaluation.errors import EvaluationError

MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class ObjectMeta:
    """An object: its category, and the first and last frame of its range with their number, where they are given."""

    category: str | None = None
    start: int | None = None
    end: int | None = None
    frames: int | None = None


@dataclass(frozen=True, eq=False)
class Meta:
    """A meta JSON: per sequence the objects by id, and its length where that is given."""

    path: Path
    objects: Mapping[str, Mapping[int, ObjectMeta]]
    lengths: Mapping[str, int] = field(default_factory=dict)

    def of(self, sequence: str) -> Mapping[int, ObjectMeta]:
        """The objects of a sequence.

        Raises:
            EvaluationError: it is not in the file.
        """
        if sequence not in self.objects:
            raise EvaluationError(
                f"{self.path}: says nothing about sequence {sequence}; name the right file with --meta"
            )
        return self.objects[sequence]


def find_meta(gt: Path) -> Path | None:
    """The one `*meta*.json` in the folder of the ground truth or, failing that, in the one above.

    Raises:
        EvaluationError: there are several.
    """
    for folder in (gt, gt.resolve().parent):
        found = sorted(folder.glob("*meta*.json"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise EvaluationError(f"{folder}: has several meta files ({names}); choose one with --meta")
        if found:
            return found[0]
    return None


def read_meta(path: Path) -> Meta:
    """Read `{"videos": {SEQUENCE: {"objects": ..., "length": ...}}}`, with or without the outer `videos`.

    Objects are a list of ids, or a mapping from ids to `{"category": ..., "frame_range": {"start": ..., "end": ...,
    "frame_nums": ...}}`; all but the ids may be missing.

    Raises:
        EvaluationError: naming the file and the place in it.
    """
    content = _load(path)
    videos = content.get("videos", content)
    if not isinstance(videos, dict) or not videos:
        raise EvaluationError(f'{path}: expected {{"videos": {{SEQUENCE: ...}}}}, found {_kind(videos)}')
    objects: dict[str, dict[int, ObjectMeta]] = {}
    lengths: dict[str, int] = {}
    for name, video in videos.items():
        if not isinstance(video, dict) or "objects" not in video:
            raise EvaluationError(
                f'{path}, sequence {name}: expected {{"objects": ...}}, found {_kind(video)}'
            )
        objects[name] = _objects(path, name, video["objects"])
        if video.get("length") is not None:
            lengths[name] = _whole(path, f"{name}, length", video["length"])
    return Meta(path, objects, lengths)


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise EvaluationError(
                f"{path}: has {path.stat().st_size} bytes, no meta file is larger than {MAX_BYTES}"
            )
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise EvaluationError(f"{path}: is no JSON that can be read ({error})") from error
    if not isinstance(content, dict):
        raise EvaluationError(f"{path}: expected a JSON object, found {_kind(content)}")
    return content


def _objects(path: Path, name: str, found: Any) -> dict[int, ObjectMeta]:
    if not isinstance(found, (list, dict)):
        raise EvaluationError(
            f"{path}, sequence {name}: expected a list or mapping of objects, found {_kind(found)}"
        )
    items = found.items() if isinstance(found, dict) else ((key, None) for key in found)
    objects = {}
    for key, about in items:
        number = _whole(path, f"{name}, object", key)
        if not 0 < number < 256:
            raise EvaluationError(f"{path}, {name}: object {number} is not between 1 and 255")
        objects[number] = _object(path, f"{name}, object {number}", about)
    return objects


def _object(path: Path, where: str, about: Any) -> ObjectMeta:
    if not isinstance(about, dict):
        return ObjectMeta()
    category = about.get("category")
    span = about.get("frame_range")
    if span is None:
        return ObjectMeta(None if category is None else str(category))
    if not isinstance(span, dict) or not {"start", "end"} <= span.keys():
        raise EvaluationError(
            f"{path}, {where}: expected a frame_range with start and end, found {span!r:.80}"
        )
    start, end = (_whole(path, f"{where}, {key}", span[key]) for key in ("start", "end"))
    frames = span.get("frame_nums")
    number = None if frames is None else _whole(path, f"{where}, frame_nums", frames)
    return ObjectMeta(None if category is None else str(category), start, end, number)


def _whole(path: Path, where: str, value: Any) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise EvaluationError(f"{path}, {where}: expected a whole number, found {value!r:.80}")
    return int(text)


def _kind(value: Any) -> str:
    names: dict[type, str] = {dict: "an object without it", list: "a list", str: "a string"}
    return names.get(type(value), repr(value)[:40])


def find_unseen(gt: Path) -> Path | None:
    """The `unseen_videos.txt` in the folder of the ground truth or in the one above."""
    found = [folder / "unseen_videos.txt" for folder in (gt, gt.resolve().parent)]
    return next((path for path in found if path.is_file()), None)


def read_names(path: Path) -> frozenset[str]:
    """The lines of a text file without blank ones: names of sequences or of categories.

    Raises:
        EvaluationError: it cannot be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise EvaluationError(f"{path}: has {path.stat().st_size} bytes, expected a list of names")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: is no list of names that can be read ({error})") from error
    return frozenset(line.strip() for line in lines if line.strip())
