"""`sam2 data ...` from the command line."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sam2.cli.data import app


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_made_up_videos_convert_and_check(tmp_path):
    videos, shards = tmp_path / "videos", tmp_path / "shards"
    settings = ["--set", "height=32", "--set", "width=32", "--set", "frames=9", "--set", "objects=[2,2]"]
    settings += ["--set", "leave_probability=0.5", "--set", "speed=[0,0.1]"]
    result = run("synth", videos, "--preset", "easy", "--count", 2, *settings)
    assert result.exit_code == 0 and "2 videos" in result.output
    result = run("convert", "--from", "sav", videos, shards, "--set", "crf=30", "--set", "license=CC0")
    assert result.exit_code == 0
    assert "2 clips, 6 annotated frames, 4 objects in 1 shards" in result.output
    assert json.loads((shards / "convert.json").read_text())["options"]["crf"] == 30
    result = run("check", shards)
    assert result.exit_code == 0 and "0 errors, 0 warnings" in result.output
    (shards / "index.npz").unlink()
    result = run("check", shards, "--json")
    assert result.exit_code == 1
    assert [finding["code"] for finding in json.loads(result.output)] == ["index"]
    assert run("index", shards).exit_code == 0
    assert run("check", shards, "--fast").exit_code == 0


def test_clips_that_were_left_out_are_listed_and_many_are_a_failure(sav, tmp_path):
    sav.add("a", frames=3).add("b", frames=3)
    (sav.root / "b.mp4").write_bytes(b"")
    result = run("convert", "--from", "sav", sav.root, tmp_path / "out")
    assert result.exit_code == 1
    assert "b.mp4" in result.stderr and "more than 1.0% of the clips" in result.stderr
    assert run("convert", "--from", "sav", sav.root, tmp_path / "out", "--max-skipped", 0.5).exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["convert", "--from", "sva", ".", "out"], "unknown source 'sva'; did you mean 'sav'"),
        (["convert", "--from", "sav", ".", "out", "--set", "trakcs=auto"], "did you mean 'tracks'"),
        (["convert", "--from", "sav", "nowhere", "out"], "nowhere: no such folder"),
        (
            ["convert", "--from", "sav", ".", "out", "--media", "png"],
            "media must be one of proxy, jpeg, original",
        ),
        (
            ["convert", "--from", "sav", ".", "out", "--set", "crf=99"],
            "crf must be a whole number from 0 to 51",
        ),
        (["convert", "--from", "sav", ".", "out", "--set", "crf=good"], "crf must be a whole number"),
        (
            ["convert", "--from", "sav", ".", "out", "--set", "preset=quick"],
            "preset must be one of ultrafast",
        ),
        (["convert", "--from", "sav", ".", "out", "--set", "tracks=[1]"], "tracks must be one of manual"),
        (["synth", "out", "--preset", "tough"], "preset must be one of easy, medium, hard, demo"),
        (["synth", "out", "--set", "heigth=64"], "did you mean 'height'"),
        (["synth", "out", "--set", "objects=3"], "objects must be like"),
        (["synth", "out", "--set", "objects=[2,3.5]"], "objects must be like"),
        (["synth", "out", "--set", "speed=[1]"], "speed must be like"),
        (["synth", "out", "--set", "height"], "--set expects KEY=VALUE"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_loads_nothing_heavy():
    code = (
        "import sys; import sam2.cli.data; print(sorted({'torch', 'numpy', 'av', 'data'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
