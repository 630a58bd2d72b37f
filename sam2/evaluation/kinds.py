"""The kinds of results files: what each measures, over what, and what makes two of them answers to one question.

Whoever writes such a file takes its format, its means and the unit of its intervals from here; so does who reads and
compares it (results_file.py, comparison.py), so that one more kind is one more entry. Formats: docs/evaluation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.protocols import PROTOCOLS
from sam2.evaluation.scores import Mean

AFTER = (1, 3, 5)  # clicks on an image after which the IoU is reported
TARGETS = (85, 90)  # percent IoU whose clicks are counted
_MAX_FRAMES = 100  # interacted frames of a file that is read; the SAM 2 paper has 8
Content = Mapping[str, Any]


def interactive_means(frames: int) -> tuple[Mean, ...]:
    """J&F, J and F over the numbers of interacted frames, then J&F after each of up to `frames`."""
    return tuple(Mean(name, name) for name in ("J&F", "J", "F", *(f"J&F@{n}" for n in range(1, frames + 1))))


def image_means(budget: int) -> tuple[Mean, ...]:
    """Of images with at most `budget` clicks on an object."""
    overlaps = [Mean(f"mIoU@{n}", f"IoU@{n}") for n in (*AFTER, "box")]
    choice = [Mean("mIoU_best@1", "IoU_best@1"), Mean("gap@1", "gap@1", less_is_better=True)]
    bounds = (1.0, float(budget))
    clicks = [
        Mean(f"NoC@{t}", f"NoC@{t}", unit="clicks", bounds=bounds, less_is_better=True) for t in TARGETS
    ]
    failed = [Mean(f"failed@{t}", f"failed@{t}", less_is_better=True) for t in TARGETS]
    return (*overlaps, *choice, *clicks, *failed)


VOLUME_MEANS = (
    Mean("Dice", "Dice"),
    Mean("HD95", "HD95", unit="mm", bounds=(0.0, math.inf), less_is_better=True, may_lack=True),
    Mean("NSD", "NSD"),
    Mean("Boundary_IoU", "Boundary_IoU"),
)


def _of_protocol(content: Content) -> tuple[Mean, ...]:
    name = content["protocol"]
    if name not in PROTOCOLS:
        raise EvaluationError(f"protocol is {name!r}, expected one of {', '.join(PROTOCOLS)}")
    means = tuple(mean for mean in PROTOCOLS[name].means if mean.name in content)
    if not means:
        raise EvaluationError("has none of the protocol's numbers, such as J&F")
    return means


def _of_interaction(content: Content) -> tuple[Mean, ...]:
    after = content.get("J&F_after")
    if not isinstance(after, list) or not 1 <= len(after) <= _MAX_FRAMES:
        raise EvaluationError(f"J&F_after is no list of 1 to {_MAX_FRAMES} numbers")
    return interactive_means(len(after))


def _of_images(content: Content) -> tuple[Mean, ...]:
    clicks = content["run"].get("clicks")
    if not isinstance(clicks, int) or not max(AFTER) <= clicks < 1_000_000:
        raise EvaluationError(f"run.clicks is {clicks!r:.80}, expected a whole number from {max(AFTER)} on")
    return image_means(clicks)


def _as_it_is(content: Content) -> Content:
    return content


def _after_by_name(content: Content) -> Content:
    """With each J&F of the list under its name."""
    after = content.get("J&F_after")
    return {**content, **{f"J&F@{n}": v for n, v in enumerate(after if isinstance(after, list) else (), 1)}}


@dataclass(frozen=True)
class ResultsKind:
    """What a results file is.

    Attributes:
        format: the name and version that it begins with.
        unit: what its objects are in and what is drawn for intervals, in the plural.
        test: keys that say what was asked, and the type of each: equal in files that can be compared.
        means: what a file has, in the order in which it is shown, the number that leads first. Called when `test` (and
            `run`, where it must be) has been checked; raises an EvaluationError that says what else is wrong.
        asked: settings of `run` that say what was asked, too; equal where both files have a run.
        has_run: whether a file must have one.
        by_name: puts the numbers of an object, or of the file, under their names.
    """

    format: str
    unit: str
    test: Mapping[str, type]
    means: Callable[[Content], tuple[Mean, ...]]
    asked: tuple[str, ...] = ()
    has_run: bool = False
    by_name: Callable[[Content], Content] = _as_it_is

    @property
    def one(self) -> str:
        """What one of the units is called."""
        return self.unit[:-1]


_PROTOCOL = {"protocol": str, "protocol_version": int}

MASKS = ResultsKind(  # of sam2 eval score and sam2 eval run
    "sam2-train/evaluation/1",
    "videos",
    {**_PROTOCOL, "as_published": bool, "all_frames": bool, "frames_sha256": str},
    _of_protocol,
    ("dataset", "prompt"),
)
INTERACTIVE = ResultsKind(
    "sam2-train/interactive/1",
    "videos",
    {**_PROTOCOL, "frames_sha256": str},
    _of_interaction,
    ("dataset", "prompt", "frames_budget", "clicks", "threshold"),
    has_run=True,
    by_name=_after_by_name,
)
IMAGES = ResultsKind(
    "sam2-train/image-evaluation/1",
    "images",
    {**_PROTOCOL, "objects_sha256": str},
    _of_images,
    ("dataset", "dataset_sha256", "prompt", "clicks", "void"),
    has_run=True,
)
VOLUMES = ResultsKind(
    "sam2-train/volumes/1",
    "volumes",
    {**_PROTOCOL, "spacing_mm": list, "tolerance_mm": float, "slices_sha256": str},
    lambda content: VOLUME_MEANS,
)
KINDS = {kind.format: kind for kind in (MASKS, INTERACTIVE, IMAGES, VOLUMES)}
