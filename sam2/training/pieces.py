"""Evaluations whose work falls into pieces, such as videos or images, each with a JSON file of what came out.

A file appears whole, so that a run that was killed goes on with the pieces that are missing. Any number of processes
share them; who finds none left to others joins all files, so that the numbers do not depend on who made them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.console import Console, RenderableType

from sam2.evaluation.benchmark_run import RESULTS, Predictions
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.files import write_atomically
from sam2.lock import FOREVER, locked
from sam2.training.fence import Incarnation

T = TypeVar("T")


@dataclass(frozen=True)
class Ended:
    """What a process left: its part of the work, and the results if it was the last one."""

    folder: Path
    results: dict[str, Any] | None = None
    archive: Path | None = None


@dataclass(frozen=True)
class Pieces(Generic[T]):
    """The work of a run.

    Attributes:
        out: folder of the run.
        folder: in it, of the pieces' files.
        all: every piece.
        mine: those of this process.
        name: gives that of a piece.
        unit: what they are ("videos").
    """

    out: Path
    folder: str
    all: Sequence[T]
    mine: Sequence[T]
    name: Callable[[T], str]
    unit: str

    def path(self, piece: T) -> Path:
        """Of a piece's file."""
        return self.out / self.folder / f"{self.name(piece)}.json"

    def missing(self, pieces: Sequence[T]) -> list[T]:
        """Those that are still to be done."""
        return [piece for piece in pieces if not self.path(piece).is_file()]

    def begin(self, settings: Mapping[str, Any], overwrite: bool, world: int) -> None:
        """Make the folder this run's, which `world` processes share.

        Raises:
            EvaluationError: it holds something else, or what was made in another way.
        """
        if overwrite and world > 1:
            raise EvaluationError(f"several processes cannot overwrite {self.out} together; remove it first")
        start = Incarnation.current()
        Predictions(self.out, (), (self.folder,)).begin(settings, overwrite, start.job, start.restart)


def run_pieces(
    pieces: Pieces[T],
    work: Callable[[Sequence[T]], None],
    join: Callable[[], tuple[dict[str, Any], RenderableType]],
    console: Console,
    about: str,
) -> Ended:
    """Do this process's pieces; join all if none is left to the others.

    Args:
        pieces: begun.
        work: does some, writing the file of each when it is done.
        join: makes the results and what the terminal shows of them, of all files.
        console: to tell people on.
        about: what is evaluated where, for them.
    """
    todo = pieces.missing(pieces.mine)
    console.print(f"{pieces.out}: {len(pieces.all)} {pieces.unit}, {len(todo)} to do here; {about}")
    if todo:
        work(todo)
    left = len(pieces.missing(pieces.all))
    if left:
        console.print(
            f"left to others: {left} of {len(pieces.all)} {pieces.unit}; the last to finish joins, or this command "
            "again"
        )
        return Ended(pieces.out)
    with locked(pieces.out, wait_s=FOREVER):
        results, table = join()
        write_atomically(pieces.out / RESULTS, json.dumps(results, indent=1, allow_nan=False) + "\n")
    console.print(table)
    console.print(f"results    {pieces.out / RESULTS}")
    return Ended(pieces.out, results)
