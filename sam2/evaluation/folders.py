"""Folders of masks, ground truth and predictions side by side, checked before anything is decoded.

Two layouts: `SEQUENCE/FRAME.png` with all objects in one palette image, and `SEQUENCE/OBJECT/FRAME.png` with one
object an image, as SA-V has it. Names come from listing folders and from nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2.evaluation.errors import EvaluationError


@dataclass(frozen=True)
class Stream:
    """What is scored frame by frame: a sequence, or one object of it where every object has its own folder.

    Attributes:
        sequence: its name.
        folder: the object's folder, None where a file holds all objects.
        gt: folder of the ground truth.
        pred: folder of the predictions.
        frames: names of all true frames, without suffix, in order.
        predicted: names of all predicted frames.
    """

    sequence: str
    folder: str | None
    gt: Path
    pred: Path
    frames: tuple[str, ...]
    predicted: frozenset[str]

    def files(self, frame: str) -> tuple[Path, Path]:
        """Ground truth and prediction of a frame."""
        return self.gt / f"{frame}.png", self.pred / f"{frame}.png"


def find_streams(gt: Path, pred: Path, only: Collection[str] | None = None) -> list[Stream]:
    """Pair the folders of two trees, sequences in the order of their names.

    Args:
        gt: folder of the ground truth, one folder a sequence.
        pred: folder of the predictions, laid out alike.
        only: names of the sequences to look at; by default all, which then must be the same in both trees.

    Raises:
        EvaluationError: a folder is missing, empty or laid out otherwise, or names are mixed.
    """
    true_names, predicted_names = _sequences(gt, "ground truth"), _sequences(pred, "predictions")
    wanted = set(true_names) if only is None else set(only)
    if only is not None and wanted - set(true_names):
        raise EvaluationError(
            f"{gt}: has no sequence {some(wanted - set(true_names))}, which was asked for; it has {some(true_names)}"
        )
    if wanted - set(predicted_names):
        raise EvaluationError(
            f"{pred}: has no folder for {some(wanted - set(predicted_names))} of the ground truth {gt}; "
            "predict these, or name the sequences to score with --sequences"
        )
    extra = set(predicted_names) - wanted
    if only is None and extra:
        raise EvaluationError(
            f"{pred}: has folders that the ground truth {gt} has not: {some(extra)}; "
            "remove them, or name the sequences to score with --sequences"
        )
    return [stream for name in sorted(wanted) for stream in _streams(name, gt / name, pred / name)]


def _sequences(root: Path, what: str) -> list[str]:
    if not root.is_dir():
        raise EvaluationError(
            f"{root}: is {'no folder' if root.exists() else 'not there'}; expected the {what}"
        )
    folders, files = _list(root)
    if not folders:
        pngs = [name for name in files if name.endswith(".png")]
        found = f"{len(pngs)} PNG files" if pngs else f"{len(files)} other files" if files else "nothing"
        raise EvaluationError(f"{root}: holds {found}, expected one folder a sequence with the {what} in it")
    return folders


def _streams(name: str, gt: Path, pred: Path) -> list[Stream]:
    """The streams of one sequence."""
    objects, predicted_objects = _objects(gt), _objects(pred)
    if objects is None or predicted_objects is None:
        if objects is not None or predicted_objects is not None:
            raise EvaluationError(
                f"{pred}: has {_layout(predicted_objects)}, its ground truth {gt} has {_layout(objects)}; "
                "write predictions in the layout of the ground truth"
            )
        return [_stream(name, None, gt, pred)]
    missing = set(objects) - set(predicted_objects)
    if missing:
        raise EvaluationError(
            f"{pred}: has no folder for object {some(missing)} of the ground truth {gt}; write an empty mask where "
            "nothing is seen"
        )
    return [_stream(name, folder, gt / folder, pred / folder) for folder in objects]


def _objects(folder: Path) -> list[str] | None:
    """Names of the folders of objects, or None where the frames themselves are there."""
    folders, files = _list(folder)
    if folders and files:
        raise EvaluationError(
            f"{folder}: mixed layout, both files ({some(files)}) and folders ({some(folders)}); expected PNG files, "
            "or a folder an object"
        )
    if not folders and not files:
        raise EvaluationError(
            f"{folder}: is empty, expected a PNG a frame, or a folder an object; remove it or fill it"
        )
    return folders or None


def _layout(objects: list[str] | None) -> str:
    return "one PNG a frame" if objects is None else "a folder an object"


def _stream(name: str, folder: str | None, gt: Path, pred: Path) -> Stream:
    frames, predicted = _frames(gt), _frames(pred)
    if not set(frames) & set(predicted):
        raise EvaluationError(
            f"{pred}: names its frames {some(predicted)}, its ground truth {gt} {some(frames)}; a prediction must "
            "have the name of its true frame"
        )
    return Stream(name, folder, gt, pred, frames, frozenset(predicted))


def _frames(folder: Path) -> tuple[str, ...]:
    """Names of the frames of a folder, without suffix, in their order."""
    folders, files = _list(folder)
    if folders:
        raise EvaluationError(f"{folder}: has folders in it ({some(folders)}), expected PNG files only")
    if not files:
        raise EvaluationError(f"{folder}: is empty, expected a PNG a frame; remove it or fill it")
    others = [name for name in files if not name.endswith(".png")]
    if others:
        raise EvaluationError(
            f"{folder}: {some(others)} is no *.png; expected one PNG a frame and nothing else"
        )
    return _in_order(folder, [name.removesuffix(".png") for name in files])


def _in_order(folder: Path, stems: Sequence[str]) -> tuple[str, ...]:
    """Frame names sorted, if their order is beyond doubt."""
    numbers = [stem for stem in stems if stem.isascii() and stem.isdecimal() and len(stem) <= 18]
    if numbers and len(numbers) < len(stems):
        words = sorted(set(stems) - set(numbers))
        raise EvaluationError(
            f"{folder}: mixed naming, {min(numbers)}.png beside {words[0]}.png; expected all frames named alike"
        )
    by_number: dict[int, str] = {}
    for stem in numbers:
        other = by_number.setdefault(int(stem), stem)
        if other != stem:
            raise EvaluationError(
                f"{folder}: mixed naming, {other}.png and {stem}.png are the same frame; keep one"
            )
    ordered = sorted(stems)
    if numbers and ordered != sorted(stems, key=lambda stem: (int(stem), stem)):
        short, long = min(stems, key=len), max(stems, key=len)
        raise EvaluationError(
            f"{folder}: mixed naming, {short}.png and {long}.png are not in the order of their "
            f"numbers; expected leading zeros, as {short:0>{len(long)}}.png"
        )
    return tuple(ordered)


def _list(folder: Path) -> tuple[list[str], list[str]]:
    """Folders and files, sorted; hidden ones do not count."""
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                (folders if entry.is_dir() else files).append(entry.name)
    return sorted(folders), sorted(files)


def some(names: Collection[str]) -> str:
    """A few names, and how many more there are."""
    listed = sorted(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
