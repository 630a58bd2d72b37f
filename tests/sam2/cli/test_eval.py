"""`sam2 eval score`."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from sam2.cli import app as sam2
from sam2.cli.eval import app

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})
GOLDEN = Path(__file__).parents[2] / "golden_eval"
VOS, SAV = GOLDEN / "vos", GOLDEN / "sav"


def run(protocol: str, *more: object, root: Path = VOS) -> Result:
    words = ["score", "--protocol", protocol, "--gt", root / "gt", "--pred", root / "pred", *more]
    return RUNNER.invoke(app, list(map(str, words)))


def expected(name: str) -> Any:
    return json.loads((GOLDEN / "expected" / f"{name}.json").read_text())


def test_eval_is_a_verb_with_examples() -> None:
    assert "eval" in RUNNER.invoke(sam2, ["--help"]).output
    result = RUNNER.invoke(sam2, ["eval", "score", "--help"])
    assert result.exit_code == 0 and result.output.count("sam2 eval score --protocol") >= 2


def test_the_json_has_the_protocol_the_numbers_and_the_frames(tmp_path: Path) -> None:
    out = tmp_path / "new" / "results.json"
    result = run("vos", "--out", out)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    wanted = expected("vos_benchmark")["skip_first_and_last=True"]["global_"]
    assert (found["format"], found["protocol"], found["protocol_version"]) == (
        "sam2-train/evaluation/1",
        "vos",
        1,
    )
    for name in ("J&F", "J", "F"):
        assert found[name] == pytest.approx(wanted[name], abs=1e-10)
    assert found["sequences"] == 9 and len(found["frames_sha256"]) == 64
    first = found["objects"][0]
    assert first["sequence"] == "a480_two" and first["object"] == 1 and first["frames"] == 14
    assert first["J&F"] == (first["J"] + first["F"]) / 2 and "per_frame" not in first


def test_per_frame_values_are_the_tools_own(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    assert run("sav", "--out", out, "--per-frame", root=SAV).exit_code == 0
    found = {(o["sequence"], o["object"]): o["per_frame"] for o in json.loads(out.read_text())["objects"]}
    for sequence, objects in expected("sav_per_frame")["per_sequence"].items():
        for name, wanted in objects.items():
            assert found[sequence, name]["J"] == wanted["J"] and found[sequence, name]["F"] == wanted["F"]
            assert found[sequence, name]["frame"][0] == wanted["first_counted"]


@pytest.mark.parametrize("all_frames", [False, True])
def test_csv_of_vos_and_sav_is_the_tools_file_to_the_letter(tmp_path: Path, all_frames: bool) -> None:
    flags = ["--all-frames"] if all_frames else []
    key = f"skip_first_and_last={not all_frames}"
    assert run("vos", "--csv", tmp_path / "vos", *flags).exit_code == 0
    assert (tmp_path / "vos/results.csv").read_text() == expected("vos_benchmark")[key]["results_csv"]
    assert run("sav", "--csv", tmp_path / "sav", *flags, root=SAV).exit_code == 0
    assert (tmp_path / "sav/results.csv").read_text() == expected("sav_evaluator")[key]["results_csv"]


def test_csv_of_davis_has_the_columns_of_the_tool(tmp_path: Path) -> None:
    names = ",".join(s.name for s in (VOS / "gt").iterdir() if s.name != "f_late")
    assert run("davis2017", "--sequences", names, "--as-published", "--csv", tmp_path).exit_code == 0
    head, row = csv.reader(io.StringIO((tmp_path / "global_results.csv").read_text()))
    wanted = expected("davis2017")["global_"]
    assert head == ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]
    assert row == [f"{wanted[name]:.3f}" for name in head]
    lines = (tmp_path / "per-sequence_results.csv").read_text().splitlines()
    assert lines[:2] == ["Sequence,J-Mean,F-Mean", "a480_two_1,0.933,0.970"]


def test_files_of_mosev2_have_the_names_and_numbers_of_the_tool(tmp_path: Path) -> None:
    assert run("mosev2", "--csv", tmp_path).exit_code == 0  # the meta is found
    wanted = expected("mosev2")["global_"]
    lines = (tmp_path / "scores.txt").read_text().splitlines()
    assert lines[0] == f"J&F_new: {round((wanted['J'] + wanted['F_dot']) * 50, 2)}"
    assert lines[1] == f"J: {round(wanted['J'] * 100, 2)}" and lines[-1].startswith(
        "Copy-Paste: 81.3,79.5,83.0,"
    )
    assert json.loads((tmp_path / "metrics.json").read_text())["d_odd_1"]["reappear_J&F_new"] is None


def test_csv_of_lvos_and_ytvos_have_seen_and_unseen(tmp_path: Path) -> None:
    unseen = tmp_path / "unseen.txt"
    unseen.write_text("\n".join(expected("lvos")["unseen"]))
    options = ("--unseen", unseen, "--meta", "none")
    assert run("lvos", *options, "--csv", tmp_path / "lvos").exit_code == 0
    head, row = csv.reader(io.StringIO((tmp_path / "lvos/global_results.csv").read_text()))
    wanted = expected("lvos")["global_"]
    assert row[head.index("J&F-Mean")] == f"{wanted['J&F']:.3f}"
    assert row[head.index("V-unseen-Mean")] == f"{wanted['V_unseen']:.3f}"
    assert "\ng_sparse_ids_2,0.824,0.945,0.054\n" in (tmp_path / "lvos/per-sequence_results.csv").read_text()
    assert run("ytvos", *options, "--csv", tmp_path / "ytvos").exit_code == 0
    assert (tmp_path / "ytvos/global_results.csv").read_text().startswith("J&F,J,F,G,J_seen,F_seen,")


def test_the_table_shows_the_worst_first_and_says_what_it_hides() -> None:
    result = run("vos", "--worst-first", "--rows", 2)
    rows = [line for line in result.output.splitlines() if "e_void255" in line or "i_pixels" in line]
    assert len(rows) == 2 and "e_void255" in rows[0] and "18 more objects" in result.output
    assert "vos (vos-benchmark acb4733), percent" in result.output


def test_files_that_exist_stay_unless_overwrite_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    out.write_text("mine")
    result = run("sav", "--out", out, root=SAV)
    assert result.exit_code == 2 and "exists; choose another name or add --overwrite" in result.output
    assert out.read_text() == "mine"
    assert run("sav", "--out", out, "--overwrite", root=SAV).exit_code == 0
    assert json.loads(out.read_text())["protocol"] == "sav"
    (tmp_path / "results.csv").write_text("mine")
    assert run("sav", "--csv", tmp_path, root=SAV).exit_code == 2
    assert sorted(os.listdir(tmp_path)) == ["results.csv", "results.json"]  # and no draft of either


def test_data_that_cannot_be_scored_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    result = run("davis2017", "--out", tmp_path / "results.json")
    assert result.exit_code == 1
    assert result.output.count("\n") == 1 and "f_late/00005.png: has id 2" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words, message",
    [
        (["davis2016"], "there is no protocol 'davis2016'; choose one of davis2017, sav, vos, lvos"),
        (["davis2017", "--all-frames"], "--all-frames is for sav, vos"),
        (["davis2017", "--meta", "none"], "--meta is not used by davis2017"),
        (["lvos"], "lvos needs unseen_videos.txt"),
        (["vos", "--per-frame"], "name one with --out"),
        (["vos", "--sequences", "val.txt"], "val.txt: is no file, and no list"),
        (["mosev2", "--meta", "nowhere.json"], "nowhere.json: is no JSON that can be read"),
    ],
)
def test_words_that_cannot_be_meant_are_exit_code_2(words: list[str], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2 and message in result.output


def test_a_published_number_that_is_none_is_null(tmp_path: Path) -> None:
    for side in ("gt", "pred"):  # from 256 scored frames on the published decay is NaN
        (tmp_path / side / "v").mkdir(parents=True)
        for t in range(259):
            (tmp_path / side / f"v/{t:05d}.png").symlink_to(VOS / "gt/i_pixels/00000.png")
    for flags, decay in (((), 0), (("--as-published",), None)):
        out = tmp_path / "results.json"
        assert run("davis2017", "--out", out, "--overwrite", *flags, root=tmp_path).exit_code == 0
        assert json.loads(out.read_text())["J_decay"] == decay


def test_sequences_come_from_a_file_or_a_list(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("d_odd\ni_pixels\n\n")
    for given in (tmp_path / "val.txt", "d_odd,i_pixels"):
        result = run("davis2017", "--sequences", given)
        assert result.exit_code == 0 and "a480_two" not in result.output and "i_pixels" in result.output
    result = run("davis2017", "--sequences", "d_odd,e_none")
    assert result.exit_code == 1 and "has no sequence e_none, which was asked for" in result.output
