"""recipes/finetune_image.yaml: images of every source as clips of one frame."""

from __future__ import annotations

import json
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from data.module import ClipDataModule
from sam2.training import run
from sam2.training.config import RunConfig
from sam2.training.module import TrainingModule
from sam2.training.rundir import RunDirectory
from tests.data.sources.converted import convert_from
from tests.data.sources.image_files import write_image

SOURCES = ("coco", "images", "labelme", "labelstudio", "sa1b", "yolo")
TINY = ["model=test", "model.checkpoint=null", "model.recompute=none", "trainer=cpu", "data.workers=0"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunConfig]:
    """Runs are collected instead of started; the current directory is a new one."""
    configs: list[RunConfig] = []
    monkeypatch.setattr(
        run, "start", lambda config, command: configs.append(config) or RunDirectory(tmp_path)
    )
    monkeypatch.chdir(tmp_path)
    return configs


@pytest.mark.parametrize("source", SOURCES)
def test_the_recipe_composes_with_the_settings_of_every_source(started: list[RunConfig], source: str) -> None:
    assert run.main(["finetune_image", f"data={source}", "data.root=/x", "model.checkpoint=/x"]) == 0
    data = started[0].data
    assert data.frames == 1 and data.image_max_objects == 16 and str(data.root) == "/x"


@pytest.mark.parametrize("source", ["cvat", *SOURCES])
def test_the_recipe_for_videos_composes_with_them_too(started: list[RunConfig], source: str) -> None:
    assert run.main(["finetune_video", f"data={source}", "data.root=/x", "model.checkpoint=/x"]) == 0


def test_a_step_on_images_of_a_coco_file_changes_the_weights(
    started: list[RunConfig], tmp_path: Path
) -> None:
    box, triangle = [4, 2, 30, 2, 30, 20, 4, 20], [20, 10, 44, 10, 40, 30]
    images = [{"id": k, "file_name": f"{k}.jpg", "height": 32, "width": 48} for k in range(3)]
    annotations = [
        {"id": 2 * k + j, "image_id": k, "segmentation": [outline]}
        for k in range(3)
        for j, outline in enumerate([box, triangle])
    ]
    for k in range(3):
        write_image(tmp_path / "set" / f"{k}.jpg", k)
    (tmp_path / "set" / "a.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    convert_from("coco", tmp_path / "set", tmp_path / "shards")

    assert run.main(["finetune_image", "data=coco", f"data.root={tmp_path / 'shards'}", *TINY]) == 0
    config = started[0]
    torch.manual_seed(0)
    module = TrainingModule(config)
    data = ClipDataModule(config.data, module.model.image_size, seed=1)
    batch = next(iter(data.train_dataloader()))
    assert batch.frames.shape[:3] == (1, 2, 3) and batch.masks.shape[1] == 4  # frame; clips; objects of both
    before = {name: weight.clone() for name, weight in module.model.named_parameters()}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    loss = float(trainer.callback_metrics["train/loss"])
    assert 0 < loss < float("inf")
    changed = [
        name for name, weight in module.model.named_parameters() if not torch.equal(weight, before[name])
    ]
    for part in ("image_encoder", "sam_mask_decoder"):
        assert any(name.startswith(part) for name in changed), part
