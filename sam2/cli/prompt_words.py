"""Prompts as they are typed: the order of the words says which object and frame each of them is for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

PROMPTS = ("point", "box", "mask")
_SIGNS = {"+": 1, "-": 0}


class PromptWordError(ValueError):
    """A word of the command line that is no prompt, or that belongs to none."""


class Word(NamedTuple):
    """One option as it was typed: `Word("point", "210,350,-")`."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"--{self.kind} {self.text}"


@dataclass(frozen=True)
class FramePrompt:
    """All that is said about one object on one frame.

    Attributes:
        object_id: 1 and above.
        frame: index in the video.
        points: x, y in pixels of the video.
        labels: one a point, 1 on the object, 0 beside it.
        box: x1, y1, x2, y2 in pixels of the video.
        mask: image file with the object's pixels, instead of points and box.
    """

    object_id: int
    frame: int
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: Path | None = None

    def __str__(self) -> str:
        return f"object {self.object_id} on frame {self.frame}"

    def as_json(self) -> dict[str, Any]:
        """What was given, for a report."""
        given = {"points": self.points, "labels": self.labels, "box": self.box}
        said = {name: value for name, value in given.items() if value}
        mask = {} if self.mask is None else {"mask": str(self.mask)}
        return {"object": self.object_id, "frame": self.frame, **said, **mask}


def gather(words: Sequence[Word]) -> list[FramePrompt]:
    """One prompt for each object and frame, in the order in which they first occur.

    `--object` (1 at first) and `--frame` (0 at first) hold for the prompts after them, until they are given again. One
    that stands behind all prompts holds for all of them if it is the only one of its kind.

    Raises:
        PromptWordError: a malformed word, no prompt at all, an object or frame that no prompt is for, prompts that
            exclude each other.
    """
    if not any(word.kind in PROMPTS for word in words):
        raise PromptWordError(
            "no prompt: say where an object is, with --point x,y or --box x1,y1,x2,y2 or --mask FILE"
        )
    found: dict[tuple[int, int], FramePrompt] = {}
    settings = zip(_held(words, "object", 1), _held(words, "frame", 0), strict=True)
    for word, (object_id, frame) in zip(words, settings, strict=True):
        if word.kind in PROMPTS:
            known = found.get((object_id, frame), FramePrompt(object_id, frame))
            found[object_id, frame] = _extended(known, word)
    return list(found.values())


def _held(words: Sequence[Word], kind: str, least: int) -> list[int]:
    """What `--object` or `--frame` says at each of the words: at first the least that it may be."""
    given = [i for i, word in enumerate(words) if word.kind == kind]
    prompts = [i for i, word in enumerate(words) if word.kind in PROMPTS]
    if len(given) == 1 and given[0] > prompts[-1]:
        return [_whole(words[given[0]], least)] * len(words)
    for place, following in itertools.pairwise([*given, len(words)]):
        if not any(place < prompt < following for prompt in prompts):
            raise PromptWordError(
                f"{words[place]} is followed by no prompt; it holds for the prompts after it"
            )
    values, value = [], least
    for word in words:
        value = _whole(word, least) if word.kind == kind else value
        values.append(value)
    return values


def _extended(known: FramePrompt, word: Word) -> FramePrompt:
    """What was known of an object on a frame, and one prompt more."""
    if known.mask is not None or (word.kind == "mask" and (known.points or known.box)):
        raise PromptWordError(f"{word}: {known} has a mask and another prompt; a mask stands alone")
    if word.kind == "mask":
        return replace(known, mask=Path(word.text))
    if word.kind == "box":
        if known.box is not None:
            raise PromptWordError(
                f"{word}: {known} has a box already; --object N before it starts another object"
            )
        x1, y1, x2, y2 = _numbers(word, word.text, 4, "x1,y1,x2,y2, such as 300,0,500,400")
        return replace(known, box=(x1, y1, x2, y2))
    text, comma, sign = word.text.rpartition(",")
    is_signed = bool(comma) and sign.strip() in _SIGNS
    x, y = _numbers(word, text if is_signed else word.text, 2, "x,y or x,y,+ or x,y,-, such as 210,350,-")
    label = _SIGNS[sign.strip()] if is_signed else 1
    return replace(known, points=(*known.points, (x, y)), labels=(*known.labels, label))


def _numbers(word: Word, text: str, count: int, expected: str) -> list[float]:
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise PromptWordError(f"{word}: expected {expected}")
    return numbers


def _whole(word: Word, least: int) -> int:
    try:
        number = int(word.text)
    except ValueError:
        number = -1
    if number < least:
        raise PromptWordError(f"{word}: expected a whole number, {least} or above")
    return number
