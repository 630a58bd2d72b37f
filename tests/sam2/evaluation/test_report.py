from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from sam2.evaluation.jf import Scores
from sam2.evaluation.report import (
    ObjectResult,
    Report,
    ReportError,
    Result,
    read_results,
    summarise,
    table,
    write_results,
)


def scores(*j: float) -> Scores:
    return Scores(np.array(j), np.array(j) / 2)


@pytest.fixture
def report() -> Report:
    trained = {"a": {1: scores(1, 0.8, 0.6, 0), 2: scores(1, 0.2, 0.4, 0)}, "b": {1: scores(1, 0.1, 0.1, 0)}}
    copied = {"a": {1: scores(1, 0.5, 0.5, 0), 2: scores(1, 0.1, 0.1, 0)}, "b": {1: scores(1, 0.3, 0.3, 0)}}
    return Report(
        (
            summarise(
                "untrained", {"a": {1: scores(0, 0, 0, 0), 2: scores(0, 0, 0, 0)}, "b": {1: scores(0, 0, 0)}}
            ),
            summarise("copy first mask", copied, is_baseline=True),
            summarise("trained", trained, seconds=2.5),
        )
    )


def test_means_are_over_objects_and_leave_out_the_first_and_the_last_frame(report):
    trained = report.main
    assert [o.j for o in trained.objects] == pytest.approx([70, 30, 10])
    assert trained.j == pytest.approx((70 + 30 + 10) / 3)
    assert trained.f == pytest.approx(trained.j / 2)
    assert trained.jf == pytest.approx((trained.j + trained.f) / 2)
    assert [o.frames for o in trained.objects] == [2, 2, 2]


def test_another_protocol_counts_other_frames():
    result = summarise("all", {"a": {1: scores(1, 0, 0, 0)}}, counted=slice(None))
    assert result.j == 25


def test_sequences_are_sorted_worst_first(report):
    parts = report.main.by_sequence()
    assert list(parts) == ["b", "a"]
    assert parts["a"].j == pytest.approx(50)


def test_the_best_baseline_is_the_one_to_beat(report):
    assert report.best_baseline.name == "copy first mask"
    assert Report((report.main,)).best_baseline is None


def test_results_survive_the_file_unchanged(report, tmp_path):
    path = tmp_path / "eval" / "results.json"
    write_results(path, report)
    assert read_results(path) == report
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]
    stored = json.loads(path.read_text())["results"][-1]
    assert stored["J&F"] == report.main.jf
    assert list(stored["sequences"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "format is None"),
        ('{"format": "other/9"}', "format is 'other/9', expected 'sam2-train/results/1'"),
        (
            '{"format": "sam2-train/results/1", "protocol": "x", "results": [{}]}',
            "incomplete results .*objects",
        ),
        ('{"format": "sam2-train/results/1", "protocol": "x", "results": [{"objects": 3}]}', "incomplete"),
    ],
)
def test_a_broken_results_file_is_named(tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ReportError, match=rf"results\.json: .*{message}"):
        read_results(path)


@pytest.mark.parametrize("value", [-1, 101, "NaN"])
def test_a_stored_number_must_be_a_percentage(report, tmp_path, value):
    path = tmp_path / "results.json"
    write_results(path, report)
    content = json.loads(path.read_text())
    content["results"][0]["objects"][0]["J"] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ReportError, match="is not a percentage"):
        read_results(path)


def test_a_missing_results_file_is_named(tmp_path):
    with pytest.raises(ReportError, match="nothing.json"):
        read_results(tmp_path / "nothing.json")


def test_a_sequence_without_counted_frames_is_an_error():
    with pytest.raises(ReportError, match="'short' has 2 frames, none of which counts"):
        summarise("model", {"short": {1: scores(1, 1)}})


def test_a_result_without_objects_is_an_error():
    with pytest.raises(ReportError, match="'model' has no objects"):
        summarise("model", {"empty": {}})


def test_the_table_shows_every_result_and_the_margin(report):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(table(report))
    text = console.export_text()
    margin = report.main.jf - report.best_baseline.jf
    for expected in ("untrained", "copy first mask", f"{report.main.jf:.1f}", f"{margin:+.1f}", "2.5"):
        assert expected in text


def test_an_object_result_averages_j_and_f():
    assert ObjectResult("a", 1, 60, 80, 3).jf == 70
    assert Result("r", (ObjectResult("a", 1, 60, 80, 3),)).jf == 70
