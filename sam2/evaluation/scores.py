"""Scores of objects and what benchmarks make of them; all in percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sam2.evaluation.boundary import Floats
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.meta import Meta

Numbers = dict[str, float | None]


class Scored(Protocol):
    """An object with its numbers: what means, intervals and comparisons are made of, whatever was measured."""

    @property
    def sequence(self) -> str:
        """The video, image or volume that it is in."""
        ...

    @property
    def object_id(self) -> int | str:
        """Its id or name there."""
        ...

    @property
    def part(self) -> str | None:
        """Of the benchmark, where it has any."""
        ...

    def numbers(self) -> Numbers:
        """All its numbers by name."""
        ...


@dataclass(frozen=True)
class ObjectNumbers:
    """An object of which nothing but its numbers is kept; see `Scored`."""

    sequence: str
    object_id: int | str
    values: Numbers
    part: str | None = None

    def numbers(self) -> Numbers:
        """All its numbers by name; None where it has none."""
        return self.values


@dataclass(frozen=True)
class ObjectScore:
    """One object of one sequence.

    Attributes:
        sequence: its name.
        object_id: an id of the masks, or the name of the object's folder.
        j: mean J over the frames that count, percent.
        f: mean F, percent.
        frames: names of the frames that count.
        extras: further numbers, percent.
        per_frame: values on those frames by measure, between 0 and 1.
        part: "seen" or "unseen" where the benchmark tells these apart.
        visible: on which of the frames the true object has any pixel.
    """

    sequence: str
    object_id: int | str
    j: float
    f: float
    frames: tuple[str, ...]
    extras: Numbers = field(default_factory=dict)
    per_frame: dict[str, Floats] = field(default_factory=dict)
    part: str | None = None
    visible: tuple[bool, ...] = ()

    @property
    def jf(self) -> float:
        """The mean of J and F."""
        return (self.j + self.f) / 2

    def numbers(self) -> Numbers:
        """All its numbers by name."""
        return {"J&F": self.jf, "J": self.j, "F": self.f, **self.extras}


def mean_scores(objects: Sequence[ObjectScore], extras: Sequence[str] = ()) -> Numbers:
    """Means over objects: J&F, J, F, and `extras` over the objects that have them."""
    j, f = (float(np.mean([getattr(o, name) for o in objects])) for name in ("j", "f"))
    return {"J&F": (j + f) / 2, "J": j, "F": f, **{name: _mean(objects, name) for name in extras}}


def _mean(objects: Sequence[ObjectScore], name: str) -> float | None:
    values = [value for o in objects if (value := o.numbers().get(name)) is not None]
    return float(np.mean(values)) if values else None


@dataclass(frozen=True)
class Mean:
    """A number of a benchmark that is a mean over objects.

    Attributes:
        name: of the number.
        of: the objects' number that is averaged.
        by_part: the mean over the objects of each part first, then over the parts, where the objects have any.
        unit: that it is measured in.
        bounds: the least and the greatest value that it can have.
        less_is_better: as of distances and errors.
        may_lack: objects can be without it, and then are not in the mean.
    """

    name: str
    of: str
    by_part: bool = False
    unit: str = "percent"
    bounds: tuple[float, float] = (0.0, 100.0)
    less_is_better: bool = False
    may_lack: bool = False

    def values(self, objects: Sequence[Scored]) -> Floats:
        """What is averaged, of each object; NaN where it has no such number."""
        return np.array([o.numbers()[self.of] for o in objects], np.float64)


def part_of(sequence: str, object_id: int | str, unseen: frozenset[str], meta: Meta | None) -> str:
    """Whether an object is "seen" or "unseen".

    Args:
        sequence: where it is.
        object_id: its id.
        unseen: names of sequences or of categories.
        meta: has the objects' categories, where these are meant.
    """
    kind = None
    if meta is not None and isinstance(object_id, int) and sequence in meta.objects:
        about = meta.objects[sequence].get(object_id)
        kind = None if about is None else about.category
    return "unseen" if sequence in unseen or kind in unseen else "seen"


def seen_and_unseen(objects: Sequence[ObjectScore], unseen: frozenset[str], names: Sequence[str]) -> Numbers:
    """Means over the objects of each part, as NAME_seen and NAME_unseen.

    Args:
        objects: all of them.
        unseen: names of sequences or of categories, for the message.
        names: what to average.

    Raises:
        EvaluationError: one of the two has no object.
    """
    parts = {part: [o for o in objects if o.part == part] for part in ("seen", "unseen")}
    for part, members in parts.items():
        if not members:
            raise EvaluationError(
                f"no scored object is {part} by the list of {len(unseen)} unseen names, such as "
                f"{', '.join(sorted(unseen)[:3]) or 'none'}; name the right list with --unseen, "
                "or --unseen none for means over all objects alone"
            )
    return {f"{name}_{part}": _mean(members, name) for part, members in parts.items() for name in names}
