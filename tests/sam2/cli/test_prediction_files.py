"""The files of a prediction are there all together or not at all."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from sam2.cli.prediction_files import (
    FrameRecord,
    OutputError,
    Records,
    check_output,
    mask_name,
    output_folder,
    write_json,
)


def write(out: Path, frames: list[int], force: bool = False, fail: type[BaseException] | None = None) -> None:
    """What a prediction does."""
    with output_folder(out, force) as draft:
        (draft / "masks").mkdir()
        for frame in frames:
            (draft / mask_name(frame)).write_text("new")
        if fail is not None:
            raise fail
        write_json(draft / "scores.json", {"program": "sam2 predict"}, [{"frame": frame} for frame in frames])


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_what_failed(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        write(tmp_path / "a" / "b", [0], fail=error)
    assert tree(tmp_path) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(error):
        write(tmp_path / "empty", [0], fail=error)
    assert tree(tmp_path) == ["empty"]


def test_files_appear_when_all_are_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with output_folder(out, False) as draft:
        (draft / "scores.json").write_text("{}")
        assert tree(out) == [draft.name, f"{draft.name}/scores.json"]
    assert tree(out) == ["scores.json"]


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".partial-1").mkdir()  # of a killed process
    check_output(tmp_path, False)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"not empty \(notes\.txt\).*--force"):
        check_output(tmp_path, False)
    check_output(tmp_path, True)
    with pytest.raises(OutputError, match="is a file"):
        check_output(tmp_path / "notes.txt", True)


def test_what_came_into_the_folder_meanwhile_stays(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not empty"), output_folder(tmp_path, False) as draft:
        (draft / "scores.json").write_text("new")
        (tmp_path / "scores.json").write_text("of another process")
    assert tree(tmp_path) == ["scores.json"]
    assert (tmp_path / "scores.json").read_text() == "of another process"


def test_force_replaces_an_earlier_prediction_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, [3, 4, 5])
    for name in ("notes.txt", "masks/00009.png", "masks/cat.png"):
        (tmp_path / name).write_text("mine")
    write(tmp_path, [4], force=True)
    assert tree(tmp_path) == [
        "masks",
        "masks/00004.png",
        "masks/00009.png",
        "masks/cat.png",
        "notes.txt",
        "scores.json",
    ]
    assert (tmp_path / "masks/00009.png").read_text() == "mine"


@pytest.mark.parametrize(
    "scores", [None, "[]", "no json", '{"program": "another"}', '{"program": "sam2 predict"}']
)
def test_force_removes_nothing_where_no_prediction_was(tmp_path: Path, scores: str | None) -> None:
    (tmp_path / "masks").mkdir()
    for name in ("masks/00000.png", "masks/00001.png", "overlay.mp4"):
        (tmp_path / name).write_text("mine")
    if scores is not None:
        (tmp_path / "scores.json").write_text(scores)
    write(tmp_path, [0], force=True)
    assert (tmp_path / "masks/00000.png").read_text() == "new"
    assert (tmp_path / "masks/00001.png").read_text() == (tmp_path / "overlay.mp4").read_text() == "mine"


def test_force_leaves_the_earlier_prediction_when_the_new_one_fails(tmp_path: Path) -> None:
    write(tmp_path, [0, 1])
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, [0], force=True, fail=KeyboardInterrupt)
    assert tree(tmp_path) == before


def test_the_leftovers_of_a_killed_process_with_the_same_number_do_not_count(tmp_path: Path) -> None:
    stale = tmp_path / f".partial-{os.getpid()}"
    stale.mkdir()
    (stale / "junk").write_text("")
    write(tmp_path, [0])
    assert tree(tmp_path) == ["masks", "masks/00000.png", "scores.json"]


def test_records_come_in_the_order_of_time_from_a_file() -> None:
    records = Records(io.BytesIO())
    written = [FrameRecord(f, [1], [0.5], [None], [{"size": [1, 1], "counts": "01"}]) for f in (5, 6, 4, 0)]
    for record in written:
        records.add(record)
    assert records.frames == [0, 4, 5, 6] and len(records) == 4
    assert list(records) == sorted(written, key=lambda record: record.frame)
    assert list(records) == sorted(written, key=lambda record: record.frame)
    assert written[0].masks().tolist() == [[[True]]]


def test_json_is_whole_without_being_in_memory(tmp_path: Path) -> None:
    for frames in ([], [{"frame": 0}], [{"frame": i, "objects": {"1": None}} for i in range(3)]):
        write_json(tmp_path / "a.json", {"program": "p", "prompts": [{"object": 1}]}, iter(frames))
        found = json.loads((tmp_path / "a.json").read_text())
        assert found == {"program": "p", "prompts": [{"object": 1}], "frames": frames}
