"""Which weights a command runs with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sam2 import checkpoint
from sam2.cli.weights import Weights, find_weights
from sam2.model.sam2 import SAM2
from sam2.pretrained import PretrainedError
from sam2.variants import UnknownVariantError, resolve


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


def test_without_any_it_says_where_they_come_from_and_what_was_looked_for(folder: Path) -> None:
    with pytest.raises(PretrainedError) as caught:
        find_weights(None, None, {})
    message = str(caught.value)
    for part in (
        "facebook/sam2.1-hiera-tiny",
        "huggingface_hub",
        "sam2.1_hiera_tiny.pt",
        "$SAM2_CHECKPOINT is not set",
    ):
        assert part in message
    assert f"in {folder} and {folder / 'checkpoints'}" in message
    assert "--checkpoint random --model sam2.1_t" in message


def test_the_only_released_file_at_hand_is_taken(folder: Path) -> None:
    file = Path("checkpoints/sam2.1_hiera_tiny.pt")
    file.touch()
    Path("another.pt").touch()
    assert find_weights(None, None, {}) == Weights("sam2.1_t", file)
    Path("sam2_hiera_large.pt").touch()
    with pytest.raises(
        PretrainedError, match=r"several.*sam2_hiera_large\.pt.*sam2\.1_hiera_tiny\.pt.*--checkpoint"
    ):
        find_weights(None, None, {})
    assert find_weights(None, "sam2.1_hiera_t.yaml", {}) == Weights("sam2.1_hiera_t.yaml", file)
    with pytest.raises(PretrainedError, match=r"none of sam2\.1_hiera_small\.pt is in"):
        find_weights(None, "sam2.1_s", {})


def test_the_variable_comes_before_the_search_and_the_option_before_both() -> None:
    Path("sam2_hiera_large.pt").touch()
    Path("sam2.1_hiera_small.pt").touch()
    Path("checkpoints/sam2_hiera_tiny.pt").touch()
    named = {"SAM2_CHECKPOINT": "sam2.1_hiera_small.pt"}
    assert find_weights(None, None, named) == Weights("sam2.1_s", Path("sam2.1_hiera_small.pt"))
    assert find_weights("sam2_hiera_large.pt", None, named) == Weights("sam2_l", Path("sam2_hiera_large.pt"))
    with pytest.raises(PretrainedError, match=r"\$SAM2_CHECKPOINT: gone\.pt does not exist"):
        find_weights(None, None, {"SAM2_CHECKPOINT": "gone.pt"})


def test_a_file_says_what_it_is_by_its_tensors() -> None:
    with torch.device("meta"):
        shapes = SAM2(resolve("demo")).state_dict()
    model = {name: torch.zeros(tensor.shape) for name, tensor in shapes.items()}
    torch.save({"model": model}, "mine.pt")
    assert checkpoint.identify(model) == "demo"
    assert find_weights("mine.pt", None, {}) == Weights("demo", Path("mine.pt"))
    assert find_weights("mine.pt", "sam2.1_t", {}) == Weights("sam2.1_t", Path("mine.pt"))


def test_a_run_is_a_model_with_weights() -> None:
    Path("run/export").mkdir(parents=True)
    Path("run/config.yaml").write_text("model: {name: test, image_size: 96}\n")
    Path("run/run.json").write_text("{}")
    Path("run/export/model.pt").touch()
    expected = Weights("run/config.yaml", Path("run/export/model.pt"))
    for given in ("run", "run/export", "run/export/model.pt"):
        assert find_weights(given, None, {}) == expected
    assert find_weights(None, None, {"SAM2_CHECKPOINT": "run"}) == expected


def test_random_weights_need_a_model() -> None:
    assert find_weights("random", "sam2.1_t", {}) == Weights("sam2.1_t", None)
    with pytest.raises(PretrainedError, match="needs --model"):
        find_weights("random", None, {})
    with pytest.raises(UnknownVariantError, match="did you mean"):
        find_weights("random", "sam2.1_q", {})
