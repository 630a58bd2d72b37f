"""`sam2 eval interactive`, on made-up data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from data.scenes.staging import PRESETS
from sam2.cli.eval import app
from sam2.evaluation.benchmark import manifest, open_benchmark
from sam2.evaluation.clicks import next_click
from sam2.evaluation.label_files import read_mask
from sam2.training.made_up import make
from sam2.training.synthetic import SyntheticData, roots
from sam2.training.synthetic import make as make_shards
from tests.sam2.cli.processes import kill_after, run_two

FRAMES = 8
MODEL = ["random", "--model", "test", "--size", "64"]
BUDGET = ["--frames-budget", "2", "--clicks", "2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        small = replace(PRESETS["easy"], frames=FRAMES, height=64, width=96, objects=(1, 2))
        patch.setitem(PRESETS, "short", small)
        for name in ("davis2017", "sav_val"):
            make(manifest(name), root / name, 3, preset="short", full=True)
        make(manifest("ytvos"), root / "ytvos", 1, preset="short")
    return root


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["interactive", *(str(word) for word in words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output  # both streams


def words(made: Path, name: str, out: Path, *more: object) -> list[object]:
    return [*MODEL, "--unofficial", "--dataset", name, "--root", made / name, "--out", out, *BUDGET, *more]


def played(made: Path, name: str, out: Path, *more: object) -> dict:
    code, output = run(*words(made, name, out, *more))
    assert code == 0, output
    return json.loads((out / "results.json").read_text()) if (out / "results.json").is_file() else {}


def without_time(results: dict) -> dict:
    return {**results, "run": {k: v for k, v in results["run"].items() if k != "speed"}}


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_each_object_of_a_benchmark_is_played(made, tmp_path, mode):
    results = played(made, "sav_val", tmp_path / "out", "--mode", mode)
    data = open_benchmark(manifest("sav_val"), made / "sav_val")
    expected = [
        (v.name, v.folders[s.object_id], v.wanted()[s.frame]) for v in data.videos for s in v.starts()
    ]
    assert [
        (o["sequence"], o["object"], o["interactions"][0]["frame"]) for o in results["objects"]
    ] == expected
    assert results["protocol"] == f"interactive-{mode}" and results["sequences"] == 3
    assert results["run"]["frames_budget"] == 2 and results["run"]["official"] is False
    for o in results["objects"]:
        assert len(o["J&F_after"]) == 2 and 1 <= len(o["interactions"]) <= 2
        assert o["frames"] == FRAMES // 4  # every fourth frame is annotated
        assert o["J&F"] == pytest.approx(np.mean(o["J&F_after"]))
        first = o["interactions"][0]
        mask = read_mask(data.truth / o["sequence"] / o["object"] / f"{first['frame']}.png").astype(bool)
        click = next_click(mask, np.zeros_like(mask))
        assert first["iou"] is None and first["clicks"][0] == [click.x, click.y, 1]
    for n in range(2):
        mean = np.mean([o["J&F_after"][n] for o in results["objects"]])
        assert results["J&F_after"][n] == pytest.approx(mean)
    assert results["J&F"] == pytest.approx(np.mean(results["J&F_after"]))


def test_shares_and_a_second_start_give_the_numbers_of_one(made, tmp_path):
    whole = played(made, "davis2017", tmp_path / "whole", "--cached-frames", 0)
    shared = tmp_path / "shared"
    assert played(made, "davis2017", shared, "--share", "1/2") == {}
    parts = played(made, "davis2017", shared, "--share", "2/2")
    assert without_time(parts) == without_time(whole)
    files = sorted((shared / "interactive").iterdir())
    assert len(files) == 3
    files[1].unlink()
    (shared / "results.json").unlink()
    kept = {p: p.stat().st_mtime_ns for p in (files[0], files[2])}
    code, output = run(*words(made, "davis2017", shared))
    assert code == 0 and "3 videos, 1 to do here" in output and "J&F after 2" in output
    assert kept == {p: p.stat().st_mtime_ns for p in kept}
    assert without_time(json.loads((shared / "results.json").read_text())) == without_time(whole)


def test_a_killed_run_goes_on_with_the_videos_that_are_missing(made, tmp_path):
    whole, out = played(made, "davis2017", tmp_path / "whole"), tmp_path / "killed"
    kill_after(
        ["interactive", *words(made, "davis2017", out)], lambda: [*out.glob("interactive/*.json")], tmp_path
    )
    done = [*out.glob("interactive/*.json")]
    assert 1 <= len(done) < 3 and not (out / "results.json").exists()
    before = {path: path.stat().st_mtime_ns for path in done}
    code, output = run(*words(made, "davis2017", out))
    assert code == 0 and f"3 videos, {3 - len(done)} to do here" in output
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert without_time(json.loads((out / "results.json").read_text())) == without_time(whole)


@pytest.mark.slow
def test_processes_of_torchrun_share_the_videos(made, tmp_path):
    whole = played(made, "davis2017", tmp_path / "whole")
    run_two(["interactive", *words(made, "davis2017", tmp_path / "shared")], tmp_path)
    parts = json.loads((tmp_path / "shared" / "results.json").read_text())
    assert parts["objects"] == whole["objects"] and parts["frames_sha256"] == whole["frames_sha256"]


def test_results_of_another_way_are_not_mixed(made, tmp_path):
    only = ("--sequences", "video-a")
    first = played(made, "davis2017", tmp_path / "out", *only)
    code, output = run(*words(made, "davis2017", tmp_path / "out", *only, "--mode", "online"))
    assert code == 1 and "holds predictions with" in output and "--overwrite" in output
    other = played(made, "davis2017", tmp_path / "out", *only, "--mode", "online", "--overwrite")
    assert (first["run"]["threshold"], other["run"]["threshold"]) == (None, 0.75)
    (tmp_path / "out/interactive/video-a.json").write_text("{}")
    code, output = run(*words(made, "davis2017", tmp_path / "out", *only, "--mode", "online"))
    assert code == 1 and "video-a.json: cannot be read" in output


def test_a_policy_file_that_was_changed_is_another_way(made, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("_target_: sam2.policies.samurai.Samurai\nalpha: 0.3\n")
    more = ("--sequences", "video-a", "--policy", file)
    played(made, "davis2017", tmp_path / "out", *more)
    played(made, "davis2017", tmp_path / "out", *more)
    file.write_text(file.read_text().replace("0.3", "0.4"))
    code, output = run(*words(made, "davis2017", tmp_path / "out", *more))
    assert code == 1 and "holds predictions with policy_content" in output


def test_shards_are_played_from_their_first_visible_frame(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "short", replace(PRESETS["easy"], frames=FRAMES, height=64, width=96))
    data = SyntheticData(preset="short", train=1, held_out=1)
    make_shards(data, tmp_path)
    out = tmp_path / "out"
    code, output = run(*MODEL, "--dataset", f"shards:{roots(data, tmp_path)[1]}", "--out", out, *BUDGET)
    assert code == 0, output
    results = json.loads((out / "results.json").read_text())
    assert results["sequences"] == 1 and {o["frames"] for o in results["objects"]} == {FRAMES // 4}
    assert all(o["interactions"][0]["frame"] == "00000" for o in results["objects"])


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--mode", "ofline"], 2, "mode is 'ofline'; choose offline or online"),
        (["--corrections", "tracked"], 2, "tracked over by the next pass"),
        (["--corrections", "none"], 2, "choose prompted or tracked"),
        (["--threshold", "75"], 2, "expected an IoU between 0 and 1"),
        (["--clicks", "0"], 2, "must be at least 1"),
        (["--precision", "half"], 2, "precision"),
        (["--share", "3/2"], 1, "expected K/N"),
    ],
)
def test_what_cannot_be_meant_is_one_line(made, tmp_path, more, code, message):
    found, output = run(*words(made, "davis2017", tmp_path / "out", *more))
    assert (found, output.count("error:"), message in output) == (code, 1, True), output
    assert not (tmp_path / "out").exists()


def test_masks_that_a_server_keeps_cannot_be_clicked_at(made, tmp_path):
    code, output = run(*words(made, "ytvos", tmp_path / "out"))
    assert code == 1 and "has not the true masks of all frames" in output
    assert not (tmp_path / "out").exists()
