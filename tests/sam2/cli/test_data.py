"""`sam2 data check`, `stats` and `preview` as a user types them."""

import json
import shutil

import pytest
from PIL import Image
from typer.testing import CliRunner

from data.checking.check_source import open_source
from data.encode import EncodeOptions
from data.write import ConvertOptions, convert
from sam2.cli.data import app
from tests.data.servers import FileServer
from tests.data.test_check_source import MASKS, copied, cut_jpeg, relabel_all, videos


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Shards of two videos behind an address."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SLURM_TMPDIR", raising=False)
    options = ConvertOptions(EncodeOptions(media="jpeg"))  # decord reads no mp4 that is 48 px wide
    convert(open_source("mose", videos(tmp_path / "raw")), tmp_path / "shards", options)
    with FileServer(tmp_path / "shards").running() as server:
        yield server


def test_a_folder_is_checked_by_the_source_that_its_layout_tells(tmp_path):
    root = videos(tmp_path)
    result = run("check", root)
    assert result.exit_code == 0 and result.output == f"{root}: 0 errors, 0 warnings\n"
    relabel_all(root, i2=4)
    result = run("check", root)
    assert result.exit_code == 0
    assert result.output.startswith("note: ") and result.output.endswith("0 errors, 0 warnings, 1 note\n")
    cut_jpeg(root)
    result = run("check", root, "--workers", 2)
    assert result.exit_code == 1
    assert f"error: {root}/JPEGImages/cat/00001.jpg: not a readable image" in result.output
    assert "[media]" in result.output and result.output.endswith("1 error, 0 warnings, 1 note\n")
    assert run("check", "--fast", root).exit_code == 0


def test_findings_of_a_kind_are_shown_up_to_a_number_and_all_of_them_as_json(tmp_path):
    root = videos(tmp_path)
    for k in range(4):
        copied(root, f"copy{k}")
    result = run("check", "--show", 1, root)
    assert result.output.count("has the same pictures as") == 1
    assert "warning: ... and 3 more [duplicate-media]; --show 4 or --json lists all" in result.output
    found = json.loads(run("check", "--json", "--show", 1, root).output)
    assert [f["code"] for f in found] == ["duplicate-media"] * 4
    assert set(found[0]) == {"severity", "code", "where", "message", "remedy"}


def test_the_source_and_its_options_can_be_given(tmp_path):
    root = videos(tmp_path)
    relabel_all(root, i2=255)
    result = run("check", root, "--from", "frames")
    assert result.exit_code == 1 and "[void-255]" in result.output
    result = run("check", root, "--from", "frames", "--set", "ignore=[255]")
    assert result.exit_code == 0
    result = run("check", root, "--from", "frames", "--set", "ignroe=[255]")
    assert result.exit_code == 2 and "did you mean 'ignore'" in result.stderr


@pytest.mark.parametrize("verb", ["check", "stats"])
def test_a_folder_that_tells_nothing_and_options_for_shards_are_a_wrong_command_line(tmp_path, verb):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    result = run(verb, tmp_path / "notes")
    assert result.exit_code == 2 and "say with --from what it is: " in result.stderr
    convert(open_source("mose", videos(tmp_path / "raw")), tmp_path / "out")
    result = run(verb, tmp_path / "out", "--set", "fps=3")
    assert result.exit_code == 2 and "this is a folder of shards" in result.stderr


def test_stats_of_shards_and_of_files(tmp_path):
    root = videos(tmp_path / "raw")
    convert(open_source("mose", root), tmp_path / "out")
    for place in (root, tmp_path / "out"):
        result = run("stats", place)
        assert result.exit_code == 0
        assert "2 clips (2 videos, 0 images), 6 annotated frames, 4 objects, 12 masks" in result.output
        assert "source: mose 2" in result.output and "split: raw 2" in result.output
    found = json.loads(run("stats", "--json", tmp_path / "out").output)
    assert found["distributions"]["frames"]["counts"] == [2]
    fast = json.loads(run("stats", "--json", "--fast", tmp_path / "out").output)
    assert fast["masks"] == 12 and "area" not in fast["distributions"] and "sources" not in fast
    (root / MASKS / "00001.png").write_bytes(b"")
    result = run("stats", root)
    assert result.exit_code == 1 and "1 clip not readable" in result.output
    assert result.stderr.startswith(f"not counted: {root / MASKS / '00001.png'}")


def test_shards_behind_an_address_are_measured_and_shown_but_checked_where_they_lie(server, tmp_path):
    here = json.loads(run("stats", "--json", tmp_path / "shards").output)
    assert json.loads(run("stats", "--json", server.url).output) == here
    settings = ["--recipe", "smoke", "--count", 2]
    for place in (tmp_path / "shards", server.url):
        assert run("preview", place, tmp_path / "clips.png", *settings).exit_code == 0
        shutil.move(tmp_path / "clips.png", tmp_path / f"{place == server.url}.png")
    with Image.open(tmp_path / "True.png") as there, Image.open(tmp_path / "False.png") as local:
        assert there.tobytes() == local.tobytes()
    result = run("check", server.url)
    assert result.exit_code == 2 and "check shards where they lie in a folder" in result.stderr
