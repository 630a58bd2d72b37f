"""What `sam2 sweep table` says of a set of runs, held against numbers made by hand and by other code."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from sam2.evaluation.comparison import compare
from sam2.evaluation.kinds import MASKS
from sam2.evaluation.results_file import Results
from sam2.evaluation.scores import Mean, ObjectNumbers
from sam2.evaluation.uncertainty import uncertainty
from sam2.slurm.folder import JobFolder
from sam2.slurm.jobs import JobState
from sam2.training.sweeps import runs as module
from sam2.training.sweeps.formats import as_csv, as_markdown, as_page, write_table
from sam2.training.sweeps.record import RecordedMember, SweepRecord, write_record
from sam2.training.sweeps.runs import gather
from sam2.training.sweeps.table import Row, SweepTable, tabulate
from sam2.training.typed import ConfigError
from tests.sam2.training.sweeps.left_behind import cost, leave_run

VIDEOS = [71.0, 64.5, 88.0, 90.5, 42.0, 77.5, 60.0]
OTHERS = [73.5, 63.0, 91.0, 94.0, 55.0, 80.0, 58.5]


def settings(dim: int = 64, seed: int = 0, **more: Any) -> dict[str, Any]:
    return {"seed": seed, "model": {"mem_dim": dim}, "launcher": {"threads": seed + 1}, **more}


def rows(table: SweepTable) -> dict[Any, Row]:
    return {row.values[0]: row for row in table.rows}


@pytest.fixture
def ablation(tmp_path: Path) -> Path:
    """Memory of 32 and 64 channels, three seeds each; scores of 32: 60, 62, 64, of 64: 61, 65, 66."""
    scores = {32: (60.0, 62.0, 64.0), 64: (61.0, 65.0, 66.0)}
    for dim, by_seed in scores.items():
        for seed, score in enumerate(by_seed):
            bill = [cost(1800, 2), cost(900 * (seed + 1), 2)]  # a restart
            memory = f"step,memory_gb\n1,{dim / 10}\n2,{dim / 10 + seed}\n"
            leave_run(
                tmp_path / f"{dim}-{seed}", settings(dim, seed), [score, score], starts=bill, metrics=memory
            )
    return tmp_path


def test_settings_that_differ_are_the_columns_and_seeds_and_places_are_not(ablation: Path) -> None:
    table = tabulate(gather([ablation]))
    assert table.factors.names == ("model.mem_dim",)
    assert [row.values for row in table.rows] == [(32,), (64,)]


def test_means_and_intervals_are_over_the_seeds(ablation: Path) -> None:
    """By hand, t(2) = 4.302653: 62 +- 4.302653 * 2 / sqrt(3); 64 +- 4.302653 * sqrt(7) / sqrt(3)."""
    found = rows(tabulate(gather([ablation])))
    for dim, mean, reach in ((32, 62.0, 4.96828), (64, 64.0, 6.57242)):
        score = found[dim].score
        assert score is not None and score.interval is not None and score.over == "3 seeds"
        assert score.value == pytest.approx(mean)
        assert score.interval == pytest.approx((mean - reach, mean + reach), abs=1e-4)


def test_differences_are_paired_seed_by_seed(ablation: Path) -> None:
    """By hand: 1, 3, 2 have mean 2 and standard deviation 1; 4.302653 / sqrt(3) = 2.48414."""
    found = rows(tabulate(gather([ablation])))
    assert found[32].is_baseline and found[32].difference is None
    difference = found[64].difference
    assert difference is not None and difference.interval is not None and difference.over == "3 seeds"
    assert difference.value == pytest.approx(2.0)
    assert difference.interval == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)


def test_only_seeds_that_both_rows_have_are_paired(ablation: Path) -> None:
    (ablation / "32-1" / "eval" / "results.json").unlink()
    difference = rows(tabulate(gather([ablation])))[64].difference
    assert difference is not None and difference.over == "2 seeds"
    assert difference.value == pytest.approx((1.0 + 2.0) / 2)


def test_hours_are_summed_over_restarts_times_devices_and_memory_is_the_peak(ablation: Path) -> None:
    """Seconds of the seeds: 1800 + 900, 1800, 2700, on two devices each."""
    row = rows(tabulate(gather([ablation])))[32]
    assert row.device_hours == pytest.approx((2700 + 3600 + 4500) / 3 * 2 / 3600)
    assert row.memory_gb == pytest.approx(5.2)


def test_the_baseline_can_be_chosen(ablation: Path) -> None:
    found = rows(tabulate(gather([ablation]), baseline={"model.mem_dim": 64}))
    assert found[64].is_baseline and found[32].difference is not None
    assert found[32].difference.value == pytest.approx(-2.0)
    with pytest.raises(ConfigError, match=r"0 rows have model.mem_dim=128.*rows are: model.mem_dim=32"):
        tabulate(gather([ablation]), baseline={"model.mem_dim": 128})
    with pytest.raises(ConfigError, match=r"do not differ in 'model.mem_dims'; did you mean 'model.mem_dim'"):
        tabulate(gather([ablation]), baseline={"model.mem_dims": 64})


def test_one_seed_has_the_interval_over_its_videos(tmp_path: Path) -> None:
    leave_run(tmp_path / "a", settings(32), VIDEOS)
    leave_run(tmp_path / "b", settings(64), OTHERS)
    found = rows(tabulate(gather([tmp_path])))
    objects = [ObjectNumbers(f"v{k:02d}", 1, {"J&F": v}) for k, v in enumerate(VIDEOS)]
    expected = uncertainty(objects, [Mean("J&F", "J&F")], {"J&F": 0.0}).intervals["J&F"]
    assert found[32].score is not None
    assert found[32].score.over == "7 videos" and found[32].score.interval == pytest.approx(expected)


def test_one_seed_is_compared_video_by_video_as_sam2_compare_does(tmp_path: Path) -> None:
    leave_run(tmp_path / "a", settings(32), VIDEOS)
    leave_run(tmp_path / "b", settings(64), OTHERS)
    difference = rows(tabulate(gather([tmp_path])))[64].difference

    def results(values: list[float]) -> Results:
        objects = tuple(ObjectNumbers(f"v{k:02d}", 1, {"J&F": v}) for k, v in enumerate(values))
        return Results(Path("x"), MASKS, {}, {"J&F": 0.0}, (Mean("J&F", "J&F"),), objects, {})

    (expected,) = compare(results(VIDEOS), results(OTHERS)).differences
    assert difference is not None and difference.over == "7 videos"
    assert difference.value == pytest.approx(expected.difference)
    assert difference.interval == pytest.approx(expected.interval)


def test_runs_on_other_videos_are_not_paired(tmp_path: Path) -> None:
    leave_run(tmp_path / "a", settings(32), {"x": 50.0})
    leave_run(tmp_path / "b", settings(64), {"y": 60.0})
    table = tabulate(gather([tmp_path]))
    difference = rows(table)[64].difference
    assert difference is not None and (difference.interval, difference.over) == (None, "other videos")
    assert "not all runs were scored on the same objects" in table.notes


def test_intervals_of_scores_end_where_scores_do_and_those_of_differences_and_other_numbers_do_not(
    tmp_path: Path,
) -> None:
    for dim, by_seed in {32: (2.0, 4.0), 64: (98.0, 96.0)}.items():
        for seed, score in enumerate(by_seed):
            memory = f"step,memory_gb\n1,{score}\n"
            leave_run(tmp_path / f"{dim}-{seed}", settings(dim, seed), [score, score], metrics=memory)
    low, high = tabulate(gather([tmp_path])).rows
    assert low.score is not None and low.score.interval == pytest.approx((0, 15.7062), abs=1e-4)
    assert high.score is not None and high.score.interval == pytest.approx((84.2938, 100), abs=1e-4)
    assert high.difference is not None and high.difference.interval is not None
    assert high.difference.interval[1] > 100
    memory_gb = tabulate(gather([tmp_path]), "memory_gb").rows[0].score
    assert memory_gb is not None and memory_gb.interval == pytest.approx((-9.7062, 15.7062), abs=1e-4)


def test_a_column_of_the_metrics_can_be_compared(ablation: Path) -> None:
    found = rows(tabulate(gather([ablation]), "memory_gb"))
    assert found[32].score is not None and found[32].score.value == pytest.approx(3.2 + 1)
    with pytest.raises(ConfigError, match="no finished run has a memory_gbs; did you mean 'memory_gb'"):
        tabulate(gather([ablation]), "memory_gbs")


def job_of(name: str, state: str) -> JobState:
    """What SLURM knows, as far as it matters here."""
    return JobState(**{**dict.fromkeys(JobState.__dataclass_fields__), "id": name, "state": state})  # type: ignore[arg-type]


TRACE = """\
2026-11-23 03:00:00,000 INFO sam2: run begins
Traceback (most recent call last):
  File "x.py", line 1, in f
    g()
ValueError: an inner cause

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "y.py", line 2, in g
sam2.training.errors.TrainingError: gradients were not finite in 10 steps in a row
"""
RESTARTED = TRACE + "2026-11-23 03:10:00,000 INFO sam2: continuing from step 2 of 4\n"


@pytest.mark.parametrize(
    ("log", "metrics", "why"),
    [
        (
            TRACE,
            "step,x\n3,1\n",
            "failed at step 3: TrainingError: gradients were not finite in 10 steps in a row",
        ),
        (
            TRACE,
            "",
            "failed before its first step: TrainingError: gradients were not finite in 10 steps in a row",
        ),
        (RESTARTED, "step,x\n3,1\n", "stopped at step 3"),
        (
            RESTARTED + "Traceback (most recent call last):\nKeyboardInterrupt\n",
            "",
            "stopped before its first step",
        ),
        ("", "", "stopped before its first step"),
    ],
)
def test_runs_that_did_not_finish_are_named_with_their_reason(
    ablation: Path, log: str, metrics: str, why: str
) -> None:
    path = leave_run(ablation / "bad", settings(64, 3), log=log, metrics=metrics)
    table = tabulate(gather([ablation]))
    assert table.unfinished == [f"{why} ({path})"]
    assert (rows(table)[64].finished, rows(table)[64].asked) == (3, 4)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("PENDING", "waiting before its first step; job 7_1 is PENDING"),
        ("RUNNING", "running before its first step; job 7_1 is RUNNING"),
        ("TIMEOUT", "stopped before its first step; job 7_1 is TIMEOUT"),
    ],
)
def test_what_slurm_says_of_a_run_is_told(
    monkeypatch: pytest.MonkeyPatch, ablation: Path, state: str, why: str
) -> None:
    path = leave_run(ablation / "bad", settings(64, 3))
    JobFolder(path).note("7_1", ["train"])
    monkeypatch.setattr(module, "look", lambda job: [job_of(job, state)])
    assert tabulate(gather([ablation])).unfinished == [f"{why} ({path})"]


def test_members_of_a_sweep_that_never_started_are_named_and_counted(ablation: Path) -> None:
    names = {(dim, seed): f"{dim}-{seed}" for dim in (32, 64, 128) for seed in range(3)}
    members = [
        RecordedMember(f"dim={dim} seed={seed}", ablation / name, {"model.mem_dim": dim, "seed": seed})
        for (dim, seed), name in names.items()
    ]
    folder = ablation / "sweeps" / "abc"
    write_record(
        folder,
        SweepRecord("train", {"model.mem_dim": ["32"]}, members, {"model.mem_dim": 64, "seed": 0}),
    )
    table = tabulate(gather([folder]))
    found = rows(table)
    assert found[64].is_baseline, "the value of the recipe"
    assert (found[128].score, found[128].finished, found[128].asked) == (None, 0, 3)
    assert table.unfinished[0] == f"dim=128 seed=0: never started ({ablation / '128-0'})"
    assert tabulate(gather([folder / "sweep.yaml"])) == table


def test_settings_that_change_together_are_one_column(tmp_path: Path) -> None:
    for name in ("t", "s"):
        model = {"name": f"sam2.1_{name}", "checkpoint": f"/weights/{name}.pt"}
        leave_run(tmp_path / name, {"seed": 0, "model": model}, [50.0])
    table = tabulate(gather([tmp_path]))
    assert table.factors.names == ("model.checkpoint",)
    assert table.notes == ["model.name changes with model.checkpoint"]


def test_weights_of_data_sets_are_columns_of_their_own(tmp_path: Path) -> None:
    for weight in (1, 3):
        datasets = [{"root": "/a", "weight": 1}, {"root": "/b", "weight": weight}]
        leave_run(tmp_path / str(weight), {"seed": 0, "data": {"datasets": datasets}}, [50.0])
    assert tabulate(gather([tmp_path])).factors.names == ("data.datasets.1.weight",)


def test_of_two_finished_runs_of_one_seed_the_later_one_counts_and_that_is_said(tmp_path: Path) -> None:
    for name, score, when in (("a", 50.0, "2026-01-02"), ("b", 60.0, "2026-01-01")):
        leave_run(tmp_path / name, settings(64), [score], finished={"time": when, "step": 4})
    table = tabulate(gather([tmp_path]))
    (row,) = table.rows
    assert row.score is not None and row.score.value == 50.0 and row.asked == 1
    assert table.notes == ["2 finished runs of all runs with seed 0: the last one counts"]


def test_runs_of_several_versions_of_the_code_are_told(tmp_path: Path) -> None:
    for dim, code in ((32, "a"), (64, "b")):
        leave_run(tmp_path / str(dim), settings(dim), [50.0], signature={"code": code})
    assert "the runs were made by 2 versions of the code" in tabulate(gather([tmp_path])).notes


@pytest.mark.parametrize(
    ("made", "message"), [(False, "there is no such folder"), (True, "no run, no sweep")]
)
def test_a_path_that_leads_to_no_run_is_an_error(tmp_path: Path, made: bool, message: str) -> None:
    if made:
        (tmp_path / "x").mkdir()
    with pytest.raises(ConfigError, match=message):
        gather([tmp_path / "x"])


def test_nothing_finished_is_an_error_that_says_why(tmp_path: Path) -> None:
    leave_run(tmp_path / "a", settings(), log=TRACE)
    with pytest.raises(
        ConfigError, match="none of 1 runs is finished: failed before its first step: TrainingError"
    ):
        tabulate(gather([tmp_path]))


def test_every_format_says_the_same(ablation: Path) -> None:
    leave_run(ablation / "bad", settings(64, 3), log=TRACE)
    table = tabulate(gather([ablation]))
    markdown, page = as_markdown(table), as_page(table)
    for text in (markdown, page):
        for said in (
            "model.mem_dim",
            "62.0 [57.0, 67.0]",
            "+2.0 [-0.5, +4.5]",
            "3 of 4",
            "2",
            "TrainingError",
        ):
            assert said in text
    lines = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert float(lines[1]["difference_low"]) == pytest.approx(2 - 2.48414, abs=1e-4)
    assert (lines[1]["model.mem_dim"], lines[1]["finished"], lines[0]["baseline"]) == ("64", "3", "1")
    assert lines[2]["unfinished"] == table.unfinished[0]
    assert "http" not in page, "the page needs no network"
    with pytest.raises(ConfigError, match=r"table.pdf: a table is written as .md, .csv, .html, not as .pdf"):
        write_table(ablation / "table.pdf", table)
