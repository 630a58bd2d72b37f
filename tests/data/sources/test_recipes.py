"""From a video source's own files to a training step: what the pages of docs/sources say works."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from data.sources import describe
from sam2.training import run
from sam2.training.rundir import RunDirectory
from tests.data.sources.converted import convert_from
from tests.data.sources.vos_files import walking_ids, write_frames, write_masks

ROOT = Path(__file__).parents[3]
VIDEO_SOURCES = "burst davis frames lvos mose ovis sav sav_frames video_masks ytvos".split()


def commands(name):
    """The two lines at the end of a source's page."""
    page = (ROOT / "docs" / "sources" / f"{name}.md").read_text()
    block = re.findall(r"```\n(.*?)```", page, re.S)[-1]
    return [shlex.split(line) for line in block.splitlines()]


@pytest.mark.parametrize("name", VIDEO_SOURCES)
def test_the_recipe_for_videos_composes_as_the_page_of_a_source_says(name, monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(
        run, "start", lambda config, command: started.append(config) or RunDirectory(tmp_path)
    )
    monkeypatch.chdir(tmp_path)
    convert, train = commands(name)
    assert convert[:5] == ["sam2", "data", "convert", "--from", name]
    assert train[:3] == ["python", "train.py", "recipes/finetune_video.yaml"]
    assert f"data={name}" in train
    assert run.main(train[2:]) == 0
    assert started[0].data.root and started[0].data.frames > 1


@pytest.mark.parametrize("name", VIDEO_SOURCES)
def test_the_help_of_a_source_shows_its_layout_and_options(name):
    title, text = describe(name)
    assert title.endswith(".") and len(title) < 120
    assert "ROOT/" in text and "Attributes:" in text and "license:" in text


@pytest.mark.slow
def test_shards_of_a_source_train_with_the_recipe_for_videos(tmp_path):
    for video in ("one", "two"):
        write_frames(tmp_path / "in" / "train" / "JPEGImages" / video, range(6), 64, 64)
        write_masks(tmp_path / "in" / "train" / "Annotations" / video, range(6), walking_ids(6, 64, 64))
    convert_from("mose", tmp_path / "in", tmp_path / "shards", "proxy")
    settings = (
        "recipes/finetune_video.yaml data=mose data.root=shards data.frames=2 data.workers=0 model=test run_id=one "
        "model.checkpoint=null trainer=cpu trainer.epochs=null trainer.max_steps=1 trainer.accumulate=1"
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *settings.split()],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "finetune_video" / "one" / "export" / "model.pt").is_file()
