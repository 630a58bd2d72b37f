"""`sam2 data ...` from the command line."""

import errno
import json
import re
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
    assert "2 clips, 6 annotated frames, 4 objects in 1 shard," in result.output
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
        (["convert", "--from", "sav", "nowhere", "out"], "nowhere: no such file or folder"),
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


def test_one_of_a_thing_is_not_called_many(sav, tmp_path):
    sav.add("a", frames=1)
    result = run("convert", "--from", "sav", sav.root, tmp_path / "out")
    assert "1 clip, 1 annotated frame, 2 objects in 1 shard, 0.0 MB; 0 clips left out" in result.output
    assert "1 sample, fingerprint" in run("index", tmp_path / "out").output
    assert run("check", tmp_path / "out").output.endswith(
        "0 errors, 1 warning\n"
    )  # an object that is never there
    (tmp_path / "out" / "index.npz").unlink()
    assert run("check", tmp_path / "out").output.endswith("1 error, 1 warning\n")


@pytest.mark.parametrize("broken", ["nowhere", "no shards", "no index", "stale index", "cut off", "meta"])
def test_check_names_each_place_once(sav, tmp_path, monkeypatch, broken):
    monkeypatch.chdir(tmp_path)
    sav.add("a", frames=3)
    run("convert", "--from", "sav", "sav", "out")
    place = "out/index.npz"
    if broken == "nowhere":
        place = "nowhere"
    elif broken == "no shards":
        place = "sav"
    elif broken == "no index":
        (tmp_path / place).unlink()
    elif broken == "stale index":
        (tmp_path / place).write_bytes(b"PK")
    else:
        place = "000000.tar"
        raw = (tmp_path / "out" / place).read_bytes()
        cut = raw[:1500] if broken == "cut off" else raw.replace(b'"schema_version":1', b'"schema_version":7')
        (tmp_path / "out" / place).write_bytes(cut)
    result = run(
        "index" if broken == "no shards" else "check", place if place in ("nowhere", "sav") else "out"
    )
    assert result.exit_code == (2 if broken == "nowhere" else 1)
    line = result.output.splitlines()[0]
    assert line.startswith(f"error: {place}") and line.count(f"{place}:") + line.count(f"{place},") == 1, line


def test_an_output_folder_in_the_source_is_a_wrong_command_line(sav, tmp_path):
    sav.add("a", frames=3)
    result = run("convert", "--from", "sav", sav.root, sav.root)
    assert result.exit_code == 2 and f"such as {sav.root}-shards" in result.stderr
    assert not list(sav.root.glob("*.tar"))


def test_another_conversion_is_refused_until_overwrite_is_given(sav, tmp_path):
    sav.add("a", frames=3)
    words = ["convert", "--from", "sav", sav.root, tmp_path / "out"]
    assert run(*words).exit_code == 0
    result = run(*words, "--media", "jpeg")
    assert result.exit_code == 1 and "options.media=proxy; asked for options.media=jpeg" in result.stderr
    assert "--overwrite" in result.stderr
    assert run(*words, "--media", "jpeg", "--overwrite").exit_code == 0
    assert run("check", tmp_path / "out").exit_code == 0


def test_an_index_of_an_interrupted_conversion_is_made_with_a_warning(sav, tmp_path):
    sav.add("a", frames=3)
    words, out = ["convert", "--from", "sav", sav.root, tmp_path / "out"], tmp_path / "out"
    assert run(*words).exit_code == 0
    assert run("index", out).stderr == ""
    note = json.loads((out / "convert.json").read_text())
    del note["report"]
    (out / "convert.json").write_text(json.dumps(note))
    result = run("index", out)
    assert result.exit_code == 0 and "its conversion was interrupted" in result.stderr
    assert run(*words).exit_code == 0 and run("index", out).stderr == ""


def test_an_error_of_the_system_is_told_without_its_number(sav, tmp_path, monkeypatch):
    sav.add("a", frames=3)

    def read_only(path, **_):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("data.claim.Path.mkdir", read_only)
    result = run("convert", "--from", "sav", sav.root, tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == f"error: {tmp_path / 'out'}: Read-only file system"


def test_a_split_that_leaves_a_part_empty_writes_nothing_and_its_settings_are_told_as_given(sav, tmp_path):
    for name in "abc":
        sav.add(name, frames=3)
    words, out = ["convert", "--from", "sav", sav.root, tmp_path / "out"], tmp_path / "out"
    result = run(*words, "--split", "video-hash:0.999")
    assert result.exit_code == 1 and 'puts none of 3 clips into "val"' in result.stderr
    assert not out.exists()
    share = re.search(r"such as (video-hash:\S+),", result.stderr)[1]
    assert run(*words, "--split", share).exit_code == 0
    assert (out / "train" / "index.npz").is_file() and (out / "val" / "index.npz").is_file()
    result = run(*words[:-1], out / "val", "--media", "proxy")
    told = f"holds a conversion with --split={share} (val); asked for --split=None"
    assert result.exit_code == 1 and told in result.stderr


def test_made_up_videos_over_others_are_refused_until_overwrite_is_given(tmp_path):
    words = ["synth", tmp_path, "--preset", "demo", "--count", 1, "--set", "frames=1"]
    assert "1 video; convert" in run(*words).output
    result = run(*words, "--split", "val")
    assert result.exit_code == 1 and "split=train; asked for split=val" in result.stderr
    assert run(*words, "--split", "val", "--overwrite").exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == ["val_000000.mp4"]


def test_a_folder_of_videos_given_as_shards_is_told_where_shards_should_go(sav, tmp_path):
    sav.add("a", frames=3)
    result = run("index", sav.root)
    command = f"sam2 data convert --from sav {sav.root} {tmp_path / 'sav-shards'}"
    assert result.exit_code == 1
    assert (
        f"{sav.root}: holds videos (a.mp4), but no .tar" in result.output and f"`{command}`" in result.output
    )
    assert run(*command.split()[2:]).exit_code == 0
    assert run("check", tmp_path / "sav-shards").exit_code == 0


@pytest.mark.parametrize("folder", ["mose", "mose/train"])
def test_frames_and_masks_as_pictures_are_recognised_and_what_can_be_read_is_listed(tmp_path, folder):
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / folder / name / "cat").mkdir(parents=True)
    found = "JPEGImages/ and Annotations/"
    result = run("convert", "--from", "sav", tmp_path / "mose", tmp_path / "out")
    assert result.exit_code == 1 and found in result.stderr and "`sam2 data sources` lists" in result.stderr
    assert not (tmp_path / "out").exists()
    result = run("index", tmp_path / "mose")
    assert result.exit_code == 1 and found in result.output and "`sam2 data sources` lists" in result.output
    result = run("check", tmp_path / "mose")
    assert result.exit_code == 1 and "Annotations/cat: holds no .png" in result.output
    result = run("convert", "--from", "vas", tmp_path / "mose", tmp_path / "out")
    assert result.exit_code == 2 and "unknown source 'vas'" in result.stderr
