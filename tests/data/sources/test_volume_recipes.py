"""From volumes to a training step: the commands on the pages of these sources work."""

import re
import shlex
from pathlib import Path

import pytest

from data.sources import describe, load_source
from sam2.training import run
from sam2.training.rundir import RunDirectory

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["dicom", "nifti", "npz"])
def test_the_recipe_for_videos_composes_as_the_page_of_a_source_says(name, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "sources" / f"{name}.md").read_text()
    convert, train = re.findall(r"```\n(.*?)```", page, re.S)[-1].splitlines()
    words = shlex.split(convert)
    assert words[:5] == ["sam2", "data", "convert", "--from", name]
    options = dict(
        word.split("=", 1) for before, word in zip(words, words[1:], strict=False) if before == "--set"
    )
    load_source(name, tmp_path, **options)
    title, text = describe(name)
    assert "ROOT/" in text and "license:" in text
    started = []
    monkeypatch.setattr(
        run, "start", lambda config, command: started.append(config) or RunDirectory(tmp_path)
    )
    monkeypatch.chdir(tmp_path)
    words = shlex.split(train)
    assert words[:2] == ["python", "train.py"] and f"data={name}" in words
    assert run.main(words[2:]) == 0
    assert started[0].data.frames > 1 and started[0].data.augment.frame_degrees > 0
