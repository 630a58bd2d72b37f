"""Building from what a run leaves behind, and from the project's own model files."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sam2 import model_config, pretrained
from sam2.build_sam import build_sam2, build_sam2_hf, build_sam2_video_predictor
from sam2.checkpoint import CheckpointError, export
from sam2.model.sam2 import SAM2
from sam2.model_config import find_recipe
from sam2.pretrained import PretrainedError
from sam2.reference_settings import SettingError
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.shipped import shipped
from sam2.training.config import ModelConfig
from sam2.training.typed import to_plain
from sam2.variants import VARIANTS, UnknownVariantError, resolve

CHANGED = {"image_size": 96, "mem_dim": 8, "memory_slots": 3, "drop_path": 0.25}


def written(folder: Path, config: ModelConfig) -> Path:
    """The files of a run directory that say what its model is, as a run writes them."""
    folder.mkdir(parents=True)
    content = {"trainer": {"max_steps": 3}, "name": "mine", "goal": "", "model": to_plain(config)}
    (folder / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "run.json").write_text('{"format": "sam2-train/run/1"}')
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run of a changed model, by a relative path, with the weights of its export."""
    monkeypatch.chdir(tmp_path)
    config = ModelConfig("test", **CHANGED)
    folder = written(Path("runs/mine/001-3fa9c1"), config)
    torch.manual_seed(1)
    model = SAM2(config.variant)
    export(model, folder / "export/model.pt")
    (folder / "checkpoints").mkdir()
    torch.save({"state_dict": model.state_dict(), "epoch": 1}, folder / "checkpoints/last.ckpt")
    return folder


@pytest.mark.parametrize("knobs", [{}, *({name: value} for name, value in CHANGED.items()), CHANGED])
def test_a_run_is_built_as_it_was_trained(tmp_path: Path, knobs: dict[str, Any]) -> None:
    config = ModelConfig("test", checkpoint=tmp_path / "start.pt", freeze=("image_encoder",), **knobs)
    folder = written(tmp_path / "run", config)
    for given in (folder, folder / "config.yaml", str(folder)):
        recipe = find_recipe(given)
        assert recipe.variant == config.variant and recipe.drop_path == config.drop_path
        assert recipe.policy.slots == config.variant.heads.memory_slots
    override = find_recipe(folder, ["++model.image_size=128"])
    assert override.variant == dataclasses.replace(config.variant, image_size=128)


def test_every_setting_of_a_trained_model_is_read_or_known_not_to_matter() -> None:
    names = {field.name for field in dataclasses.fields(ModelConfig)}
    assert {"name", "drop_path", *model_config.KNOBS} | model_config.OF_TRAINING == names
    for name in ("trunk", "checkpoint", "freeze", "recompute"):
        assert name in model_config.OF_TRAINING


@pytest.mark.parametrize("path", sorted(shipped("configs").glob("model/*.yaml")), ids=lambda path: path.stem)
def test_the_projects_own_model_files_are_models(path: Path) -> None:
    assert find_recipe(path).variant == resolve(path.stem)


def test_a_model_file_may_have_knobs(tmp_path: Path) -> None:
    path = tmp_path / "small_memory.yaml"
    path.write_text("name: sam2.1_t\nimage_size: 512\nmem_dim: 32\n")
    expected = ModelConfig("sam2.1_t", image_size=512, mem_dim=32).variant
    assert find_recipe(path).variant == expected != VARIANTS["sam2.1_t"]


def test_a_run_and_its_weights_make_a_model_and_a_video_predictor(run: Path) -> None:
    weights = torch.load(run / "export/model.pt", weights_only=True)["model"]
    for build in (build_sam2, build_sam2_video_predictor):
        for config in (run, f"{run}/config.yaml", (run / "config.yaml").absolute()):
            model = build(config, run / "export/model.pt", device="cpu")
            assert model.image_size == 96 and model.variant.heads.mem_dim == 8
            assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
        own = build(run, device="cpu").state_dict()  # a run directory brings its export
        assert all(torch.equal(own[name], tensor) for name, tensor in weights.items())


def test_the_weights_of_a_run_are_enough_to_know_its_model(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [run, run / "export/model.pt", run / "export", run / "checkpoints/last.ckpt"]
    for source in [*sources, *(source.absolute() for source in sources)]:
        model = build_sam2_hf(source, device="cpu")
        assert model.image_size == 96 and model.variant.heads.memory_slots == 3
    assert SAM2ImagePredictor.from_pretrained(run, device="cpu").model.image_size == 96
    monkeypatch.chdir(run / "export")
    assert build_sam2_hf("model.pt", device="cpu").image_size == 96
    os.rename("model.pt", "../../model.pt")
    with pytest.raises(PretrainedError, match=r"is a run without export/model\.pt.*checkpoints/last\.ckpt"):
        build_sam2_hf("..")


def test_a_configuration_beside_other_peoples_weights_is_not_a_run(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints/mine.pt"
    export(SAM2(VARIANTS["test"]), file)
    (tmp_path / "config.yaml").write_text("lr: 3\n")
    assert pretrained.locate(file) == ("test", file)


def test_weights_of_a_run_under_another_models_name_say_where_they_belong(run: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"(?s)model\.pt is of a run with .*001-3fa9c1/config\.yaml\n.*of another shape"
    ):
        build_sam2("test", run / "export/model.pt")
    (run / "export/model.pt").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"^\S*model\.pt is cut off after 2 bytes"):
        build_sam2(run, run / "export/model.pt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: sam2.1_x\n", r"mine\.yaml: no model is called 'sam2\.1_x'; did you mean"),
        (
            "name: test\nmem_dimm: 8\n",
            r"mine\.yaml: unknown key model\.mem_dimm; did you mean mem_dim\?",
        ),
        (
            "model: {name: test, adapter: 3}\n",
            r"unknown key model\.adapter; known: name, drop_path, image_size",
        ),
        (
            "model: {name: test, image_size: big}\n",
            r"model\.image_size is 'big', expected a whole number or null",
        ),
        (
            "model: {name: test, memory_slots: true}\n",
            r"model\.memory_slots is True, expected a whole number",
        ),
        (
            "model: {name: test, image_size: 100}\n",
            r"mine\.yaml: model\.test: image_size 100 is not a positive mul",
        ),
        (
            "model: {name: test, mem_dim: 7}\n",
            r"mine\.yaml: model\.mem_dim is 7; .*must be one of 4, 8",
        ),
        ("model: {name: test, drop_path: fast}\n", r"drop_path_rate=fast: expected a number"),
        ("model: {name: [test]}\n", r"model\.name is \['test'\], expected a model's name"),
        (
            "defaults: [{model: test}]\nmodel: {drop_path: 0.1}\n",
            r"is a recipe.*give a run's config\.yaml or config",
        ),
        ("lr: 3\n", r"(?s)describes no model: expected .*run.*configs/model.*`name:.*`variant:.*reference"),
    ],
)
def test_a_file_that_describes_no_model_says_what_would(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SettingError, match=message):
        find_recipe(path)


def test_a_path_to_nothing_says_what_a_path_may_be(tmp_path: Path) -> None:
    with pytest.raises(UnknownVariantError, match=r"there is no file .*gone/config\.yaml.*run directory"):
        find_recipe(tmp_path / "gone/config.yaml")
    with pytest.raises(UnknownVariantError, match=r"folder .* has no config\.yaml"):
        find_recipe(tmp_path)


def test_a_folder_with_a_models_name_does_not_hide_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    assert find_recipe("demo").variant == VARIANTS["demo"]
