"""What makes two runs the same run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import sam2
from data.clip import DataError
from sam2.training import signature as module
from sam2.training.config import RunConfig, resolve
from sam2.training.signature import Signature, code_digest, data_digest, signature
from tests.data.shards import image_shards

ROOT = Path(__file__).parents[3]


def made_up(**settings: Any) -> RunConfig:
    plain = {"synthetic": {"train": 4, "held_out": 2}, "trainer": {"max_steps": 1}, **settings}
    return resolve(plain, "recipe")


def on_shards(root: Path | str, **settings: Any) -> RunConfig:
    model = {"name": "test", **settings.pop("model", {})}
    plain = {"data": {"root": str(root), **settings}, "model": model, "trainer": {"max_steps": 1}}
    return resolve(plain, "recipe")


@pytest.fixture
def copied_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project of a few files in the place of this one."""
    for name in (
        "sam2/model/a.py",
        "sam2/cli/b.py",
        "sam2/slurm/c.py",
        "data/d.py",
        "docs/e.md",
        "tests/f.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
    monkeypatch.setattr(sam2, "__file__", str(tmp_path / "sam2" / "__init__.py"))
    monkeypatch.setattr(module, "_packages", module._packages.__wrapped__)
    return tmp_path


def test_where_a_run_lies_and_how_it_is_watched_is_not_in_its_signature(tmp_path: Path) -> None:
    moved = {"run_id": "elsewhere", "goal": "another", "logger": {"kind": "wandb", "group": "a"}}
    assert signature(made_up()) == signature(made_up(**moved, checkpoint={"every_steps": 7}))


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"seed": 1}, ["settings"]),
        ({"model": {"mem_dim": 32}}, ["settings"]),
        ({"synthetic": {"train": 5, "held_out": 2}}, ["settings", "data"]),
    ],
)
def test_a_difference_is_named_by_its_part(settings: dict[str, Any], parts: list[str]) -> None:
    recorded = signature(made_up()).as_record()
    assert signature(made_up(**settings)).differences(recorded) == parts
    assert signature(made_up()).differences(recorded) == []
    assert signature(made_up()).differences({}) == ["settings", "code", "data"]
    assert recorded["digest"] != signature(made_up(**settings)).digest


@pytest.mark.parametrize(
    ("name", "matters"),
    [
        ("sam2/model/a.py", True),
        ("data/d.py", True),
        ("sam2/model/new.py", True),
        ("sam2/cli/b.py", False),
        ("sam2/slurm/c.py", False),
        ("docs/e.md", False),
        ("tests/f.py", False),
    ],
)
def test_code_that_computes_counts_and_nothing_else(copied_code: Path, name: str, matters: bool) -> None:
    before = code_digest(made_up())
    (copied_code / name).write_text("2\n")
    assert (code_digest(made_up()) != before) == matters


def test_a_renamed_file_is_other_code(copied_code: Path) -> None:
    before = code_digest(made_up())
    (copied_code / "data" / "d.py").rename(copied_code / "data" / "e.py")
    assert code_digest(made_up()) != before


def test_a_class_of_the_users_own_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    text = "import lightning.pytorch as pl\nclass Mine(pl.Callback): pass\n"
    (tmp_path / "own_callback_a.py").write_text(text)
    config = made_up(callbacks={"mine": {"_target_": "own_callback_a.Mine"}})
    before = code_digest(config)
    assert before != code_digest(made_up())
    (tmp_path / "own_callback_a.py").write_text(text + "# another rule\n")
    assert code_digest(config) != before


def test_shards_count_by_content_wherever_they_lie(tmp_path: Path) -> None:
    image_shards(tmp_path / "raw", 3, tmp_path / "shards")
    image_shards(tmp_path / "others", 4, tmp_path / "more")
    shutil.copytree(tmp_path / "shards", tmp_path / "copied")
    here, copied, more = (data_digest(on_shards(tmp_path / name)) for name in ("shards", "copied", "more"))
    assert here == copied != more
    held_out = data_digest(on_shards(tmp_path / "shards", val_root=str(tmp_path / "more")))
    assert held_out != data_digest(on_shards(tmp_path / "shards", val_root=str(tmp_path / "copied")))


def test_data_that_cannot_be_opened_is_an_error_and_not_a_signature(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no .tar"):
        data_digest(on_shards(tmp_path))


def test_of_a_pipe_the_command_counts() -> None:
    first, same, other = (data_digest(on_shards(f"pipe:cat {name}.tar")) for name in ("a", "a", "b"))
    assert first == same != other


def test_weights_to_start_from_count_by_content(tmp_path: Path) -> None:
    digests = []
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("b.pt", b"22")):
        (tmp_path / name).write_bytes(content)
        digests.append(data_digest(on_shards("pipe:x", model={"checkpoint": str(tmp_path / name)})))
    assert digests[0] == digests[1] != digests[2]


def test_the_record_holds_all_parts() -> None:
    assert Signature("a", "b", "c").as_record().keys() == {"digest", "settings", "code", "data"}
