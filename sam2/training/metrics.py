"""`metrics.csv`: one row a step, exact across kills and resumes.

A resumed run drops the rows after its checkpoint and writes them again; values logged twice for one step (the step
itself, then its evaluation) share a row. A new column rewrites the file.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from sam2.evaluation.files import write_atomically

Row = dict[str, str]


class MetricsFile:
    """Appends rows to a CSV file whose first column is `step`, in rising order.

    Nothing is written before the first call that changes a row: the file may be that of a run not yet taken up.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns, rows = _read(path)
        self._last: Row = {}
        self._rows_before = rows[:-1]
        if rows:
            self._last = rows[-1]
        self._is_whole = False  # a last line that was cut short may be there yet

    def rewind(self, step: int) -> None:
        """Forget every row after `step`."""
        kept = [row for row in [*self._rows_before, self._last] if row and int(row["step"]) <= step]
        self._rows_before, self._last = kept[:-1], kept[-1] if kept else {}
        self._rewrite()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add `values` to the row of `step`, the last one or a new one."""
        if self._last and step < int(self._last["step"]):
            raise ValueError(
                f"step {step} comes after step {self._last['step']} in {self._path}; rewind first"
            )
        text = {name: repr(float(value)) for name, value in values.items()}
        is_new = not self._last or step > int(self._last["step"])
        if is_new and self._last:
            self._rows_before.append(self._last)
        self._last = {"step": str(step), **text} if is_new else {**self._last, **text}
        new_columns = [name for name in text if name not in self._columns]
        self._columns += new_columns
        if new_columns or not is_new or not self._is_whole:
            self._rewrite()
        else:
            with self._path.open("a", newline="") as file:
                file.write(_lines(self._columns, [self._last]))

    def sync(self) -> None:
        """Wait until all rows are on disk."""
        handle = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _rewrite(self) -> None:
        rows = [*self._rows_before, self._last] if self._last else self._rows_before
        header = dict(zip(self._columns, self._columns, strict=True))
        write_atomically(self._path, _lines(self._columns, [header, *rows]))
        self._is_whole = True


def _read(path: Path) -> tuple[list[str], list[Row]]:
    """Columns and complete rows; a line that a kill cut short is left out."""
    if not path.is_file():
        return ["step"], []
    whole = path.read_text().rpartition("\n")[0]
    reader = csv.DictReader(io.StringIO(whole))
    columns = list(reader.fieldnames or ["step"])
    return columns, [{name: text for name, text in row.items() if text} for row in reader]


def _lines(columns: list[str], rows: list[Row]) -> str:
    out = io.StringIO()
    csv.DictWriter(out, columns, restval="", lineterminator="\n").writerows(rows)
    return out.getvalue()
