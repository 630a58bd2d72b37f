"""Paths in files of others."""

from pathlib import Path

import pytest

from data.clip import DataError
from data.formats.inside import inside


def test_a_path_inside_is_that_path(tmp_path):
    assert inside(tmp_path, "a/b\u00a0c/ü.jpg", "x.json") == tmp_path / "a/b\u00a0c/ü.jpg"
    assert inside(tmp_path, "../c.jpg", "x.json", tmp_path / "a" / "b") == tmp_path / "a" / "c.jpg"


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a/../..",
        "",
        ".",
        "..",
        "C:/x",
        "a\ud800",
        "a\\..\\x",
        "a\0b",
        "a\nb",
        3,
        None,
    ]
    + ["x" * 5000],
)
def test_any_other_path_is_refused_by_name(tmp_path, name):
    with pytest.raises(DataError, match=r"x\.json, image 3: .* is not a relative path inside"):
        inside(tmp_path / "root", name, "x.json, image 3")


def test_neither_a_base_nor_a_folder_with_a_like_name_lets_a_path_out(tmp_path):
    for name, base in (("../../x", "a"), ("../root-two/x", ".")):
        with pytest.raises(DataError):
            inside(tmp_path / "root", name, "x.json", tmp_path / "root" / base)


@pytest.mark.parametrize("root", [".", "..", "a", "./a/../a"])
def test_the_folder_may_be_relative(tmp_path, monkeypatch, root):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert inside(Path(root), "b/c", "x.json").resolve() == (tmp_path / "here" / root / "b" / "c").resolve()
    for name in ("../b", "../../b", "b/../../c", ".", ".."):
        with pytest.raises(DataError):
            inside(Path(root), name, "x.json")
