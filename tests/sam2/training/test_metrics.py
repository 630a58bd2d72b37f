"""metrics.csv: one row a step, whatever happens."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sam2.training.metrics import MetricsFile


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.csv"


def test_rows_are_on_disk_as_soon_as_they_are_written(path: Path) -> None:
    file = MetricsFile(path)
    file.write(1, {"loss": 0.1})
    file.write(2, {"loss": 1 / 3})
    assert read(path) == [{"step": "1", "loss": "0.1"}, {"step": "2", "loss": repr(1 / 3)}]


def test_new_columns_join_and_names_with_commas_survive(path: Path) -> None:
    file = MetricsFile(path)
    file.write(1, {"loss": 1})
    file.write(2, {"a,b": 2})
    MetricsFile(path).write(3, {"a,b": 3})
    assert read(path) == [
        {"step": "1", "loss": "1.0", "a,b": ""},
        {"step": "2", "loss": "", "a,b": "2.0"},
        {"step": "3", "loss": "", "a,b": "3.0"},
    ]


def test_an_evaluation_joins_the_row_of_its_step(path: Path) -> None:
    file = MetricsFile(path)
    file.write(1, {"loss": 1})
    file.write(1, {"val/J&F": 50})
    assert read(path) == [{"step": "1", "loss": "1.0", "val/J&F": "50.0"}]


@pytest.mark.parametrize(("step", "kept"), [(0, []), (2, ["1", "2"]), (3, ["1", "2"]), (9, ["1", "2", "4"])])
def test_rewinding_forgets_later_rows_alone(path: Path, step: int, kept: list[str]) -> None:
    file = MetricsFile(path)
    for number in (1, 2, 4):
        file.write(number, {"loss": number})
    again = MetricsFile(path)
    again.rewind(step)
    assert [row["step"] for row in read(path)] == kept
    again.write(10, {"loss": 10})
    assert [row["step"] for row in read(path)] == [*kept, "10"]


def test_a_line_cut_by_a_kill_is_dropped(path: Path) -> None:
    file = MetricsFile(path)
    file.write(1, {"loss": 1})
    file.write(2, {"loss": 2})
    path.write_text(path.read_text().removesuffix(".0\n"))
    cut = path.read_bytes()
    again = MetricsFile(path)
    assert path.read_bytes() == cut
    again.write(2, {"loss": 3})
    assert read(path) == [{"step": "1", "loss": "1.0"}, {"step": "2", "loss": "3.0"}]


def test_a_step_that_is_past_is_an_error(path: Path) -> None:
    file = MetricsFile(path)
    file.write(2, {"loss": 1})
    with pytest.raises(ValueError, match="step 1 comes after step 2"):
        file.write(1, {"loss": 1})
