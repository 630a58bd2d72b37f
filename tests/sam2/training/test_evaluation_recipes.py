"""Recipes that evaluate, run through `train.py`'s own entry on made-up data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.scenes.staging import PRESETS
from sam2.evaluation.benchmark import manifest
from sam2.training import run
from sam2.training.made_up import make

MODEL = ["checkpoint=random", "model=test", "image_size=32"]


def results(out: Path) -> dict:
    return json.loads((out / "results.json").read_text())


def test_interactive_evaluation_is_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(PRESETS["easy"], frames=4, height=32, width=48, objects=(1, 1))
    monkeypatch.setitem(PRESETS, "short", small)
    make(manifest("davis2017"), tmp_path / "davis", 2, preset="short", full=True)
    monkeypatch.setenv("SAM2_DONE", str(tmp_path / "done"))
    words = ["eval_interactive", *MODEL, f"root={tmp_path / 'davis'}", "unofficial=true", "frames_budget=2"]
    assert run.main([*words, "clicks=1", "mode=online", f"out={tmp_path / 'out'}", "seed=4"]) == 0
    found = results(tmp_path / "out")
    assert len(set((tmp_path / "done").read_text().split())) == 2
    assert found["protocol"] == "interactive-online" and len(found["J&F_after"]) == 2
    assert found["run"]["clicks"] == 1 and found["sequences"] == 2 and found["interval"]["seed"] == 4


def test_evaluation_of_images_is_a_recipe_and_can_be_swept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for k in range(2):
        Image.fromarray(np.full((24, 32, 3), 40 * k, np.uint8)).save(tmp_path / f"images/{k}.png")
        Image.fromarray(np.pad(np.ones((9, 9 + k), np.uint8), 5)).save(tmp_path / f"masks/{k}.png")
        with Image.open(tmp_path / f"images/{k}.png") as image:
            image.crop((0, 0, 19 + k, 19)).save(tmp_path / f"images/{k}.png")
    monkeypatch.setenv("SAM2_DONE", str(tmp_path / "done"))
    words = ["eval_image", *MODEL, "data=masks", "images=images", "out=out-${clicks}"]
    assert run.main(["-m", *words, "clicks=5,6", "resamples=100"]) == 0
    printed = capsys.readouterr().out
    assert "mIoU@1" in printed.rpartition("Runs of the sweep")[2]
    assert sorted((tmp_path / "done").read_text().split()) == ["0.png", "0.png", "1.png", "1.png"]
    for clicks in (5, 6):
        found = results(tmp_path / f"out-{clicks}")
        assert found["run"]["clicks"] == clicks and found["images"] == 2 == len(found["objects"])
        assert found["interval"]["resamples"] == 100
