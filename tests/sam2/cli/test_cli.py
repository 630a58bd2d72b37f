"""The `sam2` command."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sam2 import checkpoint
from sam2.cli import app
from sam2.cli.recipes import header
from sam2.model.sam2 import SAM2
from sam2.variants import configured, resolve

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
    for verb in ("train", "data", "predict", "eval", "export", "doctor", "recipes"):
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


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training checkpoint in the current folder."""
    monkeypatch.chdir(tmp_path)
    model = SAM2(resolve("test"))
    torch.save({"state_dict": {f"model.{k}": v for k, v in model.state_dict().items()}}, "last.ckpt")
    return Path("last.ckpt")


def export(*words: object) -> tuple[int, str]:
    result = RUNNER.invoke(app, ["export", *map(str, words)])
    return result.exit_code, result.output


@pytest.mark.parametrize("out", ["last.ckpt", "./folder/../last.ckpt", "link.pt", "hard.pt"])
@pytest.mark.parametrize("words", [[], ["--overwrite"]])
def test_export_never_writes_over_its_input(trained: Path, out: str, words: list[str]) -> None:
    Path("folder").mkdir()
    Path("link.pt").symlink_to(trained)
    Path("hard.pt").hardlink_to(trained)
    before = trained.read_bytes()
    code, said = export(trained, out, *words)
    assert code == 2 and said == f"error: {Path(out)} is the input itself; give another file\n"
    assert trained.read_bytes() == before and Path("link.pt").is_symlink()


def test_export_replaces_a_file_only_when_told_to(trained: Path) -> None:
    Path("out.pt").write_bytes(b"precious")
    code, said = export(trained, "out.pt")
    assert (code, said) == (2, "error: out.pt exists; give another file, or --overwrite to replace it\n")
    assert Path("out.pt").read_bytes() == b"precious"
    assert export(trained, "out.pt", "--overwrite")[0] == 0
    assert checkpoint.identify(checkpoint.read("out.pt")) == "test"


def test_export_makes_folders_but_only_for_a_file(trained: Path) -> None:
    Path("noise.pt").write_bytes(b"noise")
    assert export("noise.pt", "new/deep/out.pt")[0] == 1 and not Path("new").exists()
    assert export(trained, "new/deep/out.pt")[0] == 0 and Path("new/deep/out.pt").is_file()
    code, said = export(trained, "new/deep")
    assert code == 2 and said == "error: new/deep is a folder; give a file, such as new/deep/last.pt\n"
    code, said = export(trained, "noise.pt/out.pt")
    assert code == 1 and said.startswith("error: ") and said.count("\n") == 1
    code, said = export(trained, "out.safetensors")
    assert code == 2 and "is a torch archive; give a name that ends in .pt" in said


def test_export_says_how_the_file_is_built(trained: Path) -> None:
    code, said = export(trained, "out.pt")
    assert code == 0
    assert said == 'out.pt: test, 64 px, 297 tensors; build_sam2("test", "out.pt")\n'


def test_export_of_a_run_knows_its_model(trained: Path) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/config.yaml").write_text("model: {name: test, image_size: 96, mem_dim: 8}\n")
    Path("run/run.json").write_text("{}")
    torch.save(SAM2(configured("test", 96, 8)).state_dict(), "run/checkpoints/best.ckpt")
    expected = 'test, 96 px, 297 tensors; build_sam2("run/config.yaml", "{}")\n'
    assert export("run/checkpoints/best.ckpt", "a.pt") == (0, "a.pt: " + expected.format("a.pt"))
    Path("run/checkpoints/best.ckpt").rename("moved.ckpt")
    code, said = export("moved.ckpt", "b.pt")
    assert code == 1 and "of another shape" in said and not Path("b.pt").exists()
    assert export("moved.ckpt", "b.pt", "--model", "run/config.yaml") == (
        0,
        "b.pt: " + expected.format("b.pt"),
    )
    assert export("moved.ckpt", "c.pt", "--model", "run/none.yaml")[0] == 1


def test_the_version_is_told_without_torch(tmp_path: Path) -> None:
    code = "import sys\nfrom sam2_train import main\ntry:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "--version"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    expected = f"sam2-train {metadata.version('sam2-train')} (torch {torch.__version__.partition('+')[0]}"
    assert done.stdout.startswith(expected) and done.stdout.splitlines()[1:] == ["False"]


@pytest.mark.parametrize(("word", "verb"), [("trian", "train"), ("exprot", "export"), ("recipe", "recipes")])
def test_a_misspelled_verb_is_told_the_right_one(word: str, verb: str) -> None:
    result = RUNNER.invoke(app, [word])
    assert result.exit_code == 2
    assert f"No such command '{word}'. Did you mean '{verb}'?" in result.output
