"""`sam2 compare` on files that `sam2 eval score` wrote, and the intervals in these."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from sam2.cli import app as sam2
from sam2.cli.eval import app

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})
VOS = Path(__file__).parents[2] / "golden_eval" / "vos"


def score(out: Path, pred: Path = VOS / "pred", protocol: str = "vos", *more: object) -> Result:
    words = ["score", "--protocol", protocol, "--gt", VOS / "gt", "--pred", pred, "--out", out, *more]
    result = RUNNER.invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result


def compare(*words: object) -> Result:
    return RUNNER.invoke(sam2, ["compare", *map(str, words)])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Scores of the golden predictions, and of the same with object 1 of d_odd gone."""
    root = tmp_path_factory.mktemp("files")
    shutil.copytree(VOS / "pred", root / "pred")
    for path in (root / "pred/d_odd").iterdir():
        with Image.open(path) as image:
            ids, palette = np.array(image), image.getpalette()
        worse = Image.fromarray(np.where(ids == 1, 0, ids).astype(np.uint8), "L")
        worse.putpalette(palette or [])
        worse.save(path)
    score(root / "a.json")
    score(root / "b.json", root / "pred")
    return root / "a.json", root / "b.json"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_score_comes_with_its_interval_in_the_file_and_on_the_terminal(tmp_path: Path) -> None:
    shown = score(tmp_path / "a.json").output
    found = read(tmp_path / "a.json")
    interval = found["interval"]
    assert list(interval)[:3] == ["J&F", "J", "F"]
    told = {key: interval[key] for key in ("level", "resamples", "seed", "unit", "videos", "method")}
    assert told == {
        "level": 0.95, "resamples": 2000, "seed": 0, "unit": "videos", "videos": 9, "method": "bootstrap-t",
    }  # fmt: skip
    for name in ("J&F", "J", "F"):
        low, high = interval[name]
        assert 0 <= low < found[name] < high <= 100
        assert f" {found[name]:.1f} [{low:.1f}, {high:.1f}]" in shown
    assert "95 % intervals over 9 videos (bootstrap-t, 2000 resamples)" in shown


def test_the_same_masks_have_the_same_interval_in_any_number_of_processes(tmp_path: Path) -> None:
    score(tmp_path / "a.json")
    score(tmp_path / "b.json", VOS / "pred", "vos", "--workers", 2)
    assert read(tmp_path / "a.json") == read(tmp_path / "b.json")


def test_seed_and_number_of_draws_can_be_chosen(tmp_path: Path) -> None:
    found = {}
    for name, more in (
        ("a", ()),
        ("b", ("--seed", 0, "--resamples", 2000)),
        ("c", ("--seed", 1, "--resamples", 500)),
    ):
        score(tmp_path / name, VOS / "pred", "vos", *more)
        found[name] = read(tmp_path / name)
    assert found["a"] == found["b"]
    intervals = {name: content.pop("interval") for name, content in found.items()}
    assert found["a"] == found["c"]  # the scores themselves
    assert (intervals["c"]["seed"], intervals["c"]["resamples"]) == (1, 500)
    assert intervals["c"]["J&F"] != intervals["a"]["J&F"] == pytest.approx(intervals["c"]["J&F"], abs=5)
    words = ["score", "--protocol", "vos", "--gt", VOS / "gt", "--pred", VOS / "pred"]
    for more in (["--seed", -1], ["--resamples", 10]):
        assert RUNNER.invoke(app, list(map(str, [*words, *more]))).exit_code == 2


def test_one_video_has_no_interval_and_it_is_said(tmp_path: Path) -> None:
    shown = score(tmp_path / "a.json", VOS / "pred", "vos", "--sequences", "d_odd").output
    interval = read(tmp_path / "a.json")["interval"]
    assert interval["J&F"] is interval["J"] is interval["F"] is None
    assert interval["remark"] in shown and interval["remark"] == "no intervals: 1 video, they need 5"


@pytest.mark.parametrize("protocol, lead", [("lvos", "J&F"), ("ytvos", "G"), ("mosev2", "J&F_dot")])
def test_the_leading_number_of_a_protocol_can_be_compared(tmp_path: Path, protocol: str, lead: str) -> None:
    names = sorted(path.name for path in (VOS / "gt").iterdir())
    (tmp_path / "unseen.txt").write_text("\n".join(names[:5]))
    more = ("--unseen", tmp_path / "unseen.txt", "--meta", "none") if protocol != "mosev2" else ()
    score(tmp_path / "a.json", VOS / "pred", protocol, *more)
    found = read(tmp_path / "a.json")
    assert lead in found["interval"] and found["J&F"] is not None
    parts = {o["sequence"]: o.get("part") for o in found["objects"]}
    if protocol != "mosev2":
        assert {name for name, part in parts.items() if part == "unseen"} == set(names[:5])
        assert found["interval"][lead] is None  # four videos are seen
        assert f"none for {lead}" in found["interval"]["remark"]
    shutil.copy(tmp_path / "a.json", tmp_path / "b.json")
    result = compare(tmp_path / "a.json", tmp_path / "b.json")
    assert result.exit_code == 0, result.output
    assert f"videos by {lead}: 0 won, 0 lost, 9 tied" in result.output


def test_the_difference_is_shown_with_interval_p_value_and_videos(files: tuple[Path, Path]) -> None:
    result = compare(*files)
    assert result.exit_code == 0, result.output
    a, b = map(read, files)
    assert "(vos, 9 videos, 20 objects), percent" in result.output
    assert f"{b['J&F'] - a['J&F']:+.2f} [" in result.output and "1.0000" in result.output  # one video differs
    assert "videos by J&F: 0 won, 1 lost, 8 tied" in result.output and "d_odd" in result.output
    assert "d_odd" not in compare(*files, "--rows", 0).output


def test_the_json_has_every_file_against_the_first(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "comparison.json"
    result = compare(files[0], files[1], files[0], "--out", out, "--seed", 3, "--resamples", 500)
    assert result.exit_code == 0, result.output
    found, a, b = read(out), *map(read, files)
    assert (found["format"], found["protocol"], found["seed"], found["resamples"], found["videos"]) == (
        "sam2-train/comparison/1", "vos", 3, 500, 9,
    )  # fmt: skip
    worse, same = found["comparisons"]
    assert worse["file"] == str(files[1]) and (worse["wins"], worse["losses"], worse["ties"]) == (0, 1, 8)
    number = worse["numbers"]["J&F"]
    assert number["difference"] == pytest.approx(b["J&F"] - a["J&F"]) and number["p"] == 1
    assert number["first"] == pytest.approx(a["J&F"]) and number["interval"] == [
        -100,
        100,
    ]  # one video says nothing
    lost = next(v for v in worse["per_video"] if v["difference"])
    assert lost["sequence"] == "d_odd" and lost["difference"] < 0
    assert same["numbers"]["J&F"] == {
        "unit": "percent", "less_is_better": False, "objects": 20, "first": number["first"],
        "other": number["first"], "difference": 0, "interval": [0, 0], "p": 1,
    }  # fmt: skip


def test_numbers_are_those_of_the_seed(files: tuple[Path, Path], tmp_path: Path) -> None:
    score(tmp_path / "perfect.json", VOS / "gt")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert (
            compare(files[0], tmp_path / "perfect.json", "--seed", seed, "--out", tmp_path / name).exit_code
            == 0
        )
    a, b, c = (read(tmp_path / name) for name in "abc")
    assert a == b and a["comparisons"] != c["comparisons"]
    low, high = a["comparisons"][0]["numbers"]["J&F"]["interval"]
    assert -100 < low < high < 100


def test_files_of_other_frames_cannot_be_compared(files: tuple[Path, Path], tmp_path: Path) -> None:
    score(tmp_path / "c.json", VOS / "pred", "vos", "--all-frames")
    result = compare(files[0], files[1], tmp_path / "c.json", "--out", tmp_path / "out.json")
    assert result.exit_code == 1 and result.output.count("\n") == 1
    assert (
        "c.json cannot be compared: all_frames is False in the first and True in the other" in result.output
    )
    assert not (tmp_path / "out.json").exists()


def test_settings_that_differ_are_shown_without_steering_the_terminal(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    for name, policy in (("a.json", "reference"), ("b.json", "\x1b[31mred")):
        run = {"dataset": "mose", "prompt": "mask", "policy": policy, "speed": {"fps": 1.0}}
        (tmp_path / name).write_text(json.dumps({**read(files[0]), "run": run}))
    result = compare(tmp_path / "a.json", tmp_path / "b.json")
    assert result.exit_code == 0 and "settings that differ" in result.output
    assert "policy" in result.output and "speed" not in result.output and "\x1b" not in result.output


def test_settings_that_differ_at_their_ends_can_be_told_apart(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        run = {"dataset": "mose", "prompt": "mask", "model": f"/{'far/' * 40}seed-{name}/config.yaml"}
        (tmp_path / f"{name}.json").write_text(json.dumps({**read(files[0]), "run": run}))
    result = compare(tmp_path / "a.json", tmp_path / "b.json")
    shown = "".join(result.output.rpartition("settings that differ")[2].split())
    assert "…" not in shown
    for name in ("a", "b"):
        assert f"seed-{name}" in shown


def test_words_that_cannot_be_meant_are_exit_code_2(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text("mine")
    for words, message in (
        ([files[0]], "a.json is alone; name the files to compare with it"),
        ([*files, "--out", out], "exists; choose another name or add --overwrite"),
        ([*files, "--out", tmp_path], "is a folder"),
        ([*files, "--out", files[0], "--overwrite"], "is one of the files to compare"),
    ):
        result = compare(*words)
        assert result.exit_code == 2 and message in result.output
    assert out.read_text() == "mine"
    assert compare(*files, "--resamples", 10).exit_code == 2
    assert compare(*files, "--out", out, "--overwrite").exit_code == 0 and read(out)["videos"] == 9


def test_a_file_that_cannot_be_read_is_one_line_and_exit_code_1(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "b.json").write_text('{"format": "other"}')
    result = compare(files[0], tmp_path / "b.json")
    assert result.exit_code == 1 and result.output.count("\n") == 1
    assert "b.json: format is 'other', expected one of sam2-train/evaluation/1" in result.output


def test_compare_is_a_verb_with_examples() -> None:
    assert "compare" in RUNNER.invoke(sam2, ["--help"]).output
    result = compare("--help")
    assert result.exit_code == 0 and result.output.partition("Examples:")[2].count("sam2 compare") >= 2
