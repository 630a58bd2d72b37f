"""The `sam2` command."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sam2 import checkpoint
from sam2.cli import app
from sam2.cli.recipes import header
from sam2.model.sam2 import SAM2
from sam2.variants import resolve

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})


def test_help_answers_at_once_without_torch(tmp_path: Path) -> None:
    code = "import sys\nfrom sam2_train import main\ntry:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
    for verb in ("train", "data", "predict", "export", "doctor", "recipes"):
        assert verb in done.stdout
    assert seconds < 5  # well under 1 s on an idle machine


@pytest.mark.parametrize("verb", ["predict", "export", "doctor", "recipes"])
def test_every_verb_has_help_with_two_examples(verb: str) -> None:
    result = RUNNER.invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert result.output.partition("Examples:")[2].count("sam2 ") >= 2


def test_train_is_train_py() -> None:
    result = RUNNER.invoke(app, ["train", "--help"])
    assert result.exit_code == 0 and "usage: sam2 train [RECIPE]" in result.output
    result = RUNNER.invoke(app, ["train", "-m", "smoke", "optim.lr=fast"])
    assert result.exit_code == 2 and "optim.lr: expected a number, got 'fast'" in result.output


def test_recipes_are_listed_with_their_goals() -> None:
    result = RUNNER.invoke(app, ["recipes"])
    assert result.exit_code == 0
    for name in ("demo", "finetune_mose", "finetune_video", "smoke"):
        assert name in result.output
    assert "Adapt SAM 2.1 to your own videos with masks." in result.output


def test_the_story_of_a_recipe_may_run_over_lines(tmp_path: Path) -> None:
    recipe = tmp_path / "a.yaml"
    recipe.write_text("# Goal    To see\n#         more.\n# Needs   a CPU\ndefaults: []\n# Run     no\n")
    assert header(recipe) == {"Goal": "To see more.", "Needs": "a CPU"}


def test_doctor_finds_this_machine_in_order() -> None:
    result = RUNNER.invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    for subject in ("names", "versions", "torch", "gpu", "decord", "shared memory", "wandb"):
        assert f" {subject}: " in result.output


def test_doctor_reports_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    result = RUNNER.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "problem" in result.output and "decord" in result.output


def test_export_turns_a_training_checkpoint_into_the_official_layout(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = SAM2(resolve("test"))
    wrapped = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 1}, tmp_path / "last.ckpt")
    result = RUNNER.invoke(
        app, ["export", str(tmp_path / "last.ckpt"), str(tmp_path / "out.pt"), "--model", "test"]
    )
    assert result.exit_code == 0, result.output
    exported = torch.load(tmp_path / "out.pt", weights_only=True)["model"]
    again = SAM2(resolve("test"))
    checkpoint.load(again, tmp_path / "out.pt")
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert not any(name.startswith("model.") for name in exported)


def test_export_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["export", str(tmp_path / "missing.pt"), str(tmp_path / "out.pt")])
    assert result.exit_code == 1
    assert result.output == f"error: {tmp_path / 'missing.pt'} does not exist\n"
