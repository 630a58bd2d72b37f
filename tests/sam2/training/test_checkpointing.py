"""Files that are whole or not there, and the choice among them."""

from __future__ import annotations

import csv
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sam2.training import checkpointing
from sam2.training.checkpointing import Checkpoint, FileIO, newest_readable, remove_leftovers
from sam2.training.rundir import RunDirectory
from tests.sam2.training.toy import ToyModule, run_toy, toy_config

WHOLE = {"state_dict": {"w": torch.zeros(100)}, "loops": {}, "optimizer_states": []}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def step_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def test_the_last_ones_are_kept_in_order(tmp_path: Path) -> None:
    config = toy_config(checkpoint__every_steps=2, checkpoint__keep=2, evaluate__every_steps=None)
    run_toy(RunDirectory(tmp_path), config)
    folder = tmp_path / "checkpoints"
    assert names(folder) == ["last-1.ckpt", "last-2.ckpt", "last.ckpt", "step.txt"]
    assert (folder / "step.txt").read_text() == "10\n"
    assert [step_of(folder / name) for name in ("last.ckpt", "last-1.ckpt", "last-2.ckpt")] == [10, 8, 6]


def test_minutes_count_where_steps_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is looked at every 10 steps; here a minute passes with every look."""
    minutes = iter(range(0, 10_000, 60))
    monkeypatch.setattr(checkpointing, "time", SimpleNamespace(monotonic=lambda: float(next(minutes))))
    settings = {"checkpoint__every_steps": None, "evaluate__every_steps": None, "trainer__accumulate": 1}
    config = toy_config(**settings, checkpoint__every_minutes=1.5, checkpoint__keep=9, trainer__max_steps=45)
    run_toy(RunDirectory(tmp_path), config)
    kept = [step_of(path) for path in (tmp_path / "checkpoints").glob("last*.ckpt")]
    assert sorted(kept) == [20, 40, 45]


def test_the_best_weights_are_those_of_the_highest_score(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    run_toy(directory, toy_config())
    with directory.metrics.open() as file:
        scored = {int(row["step"]): float(row["val/J&F"]) for row in csv.DictReader(file) if row["val/J&F"]}
    best = max(scored, key=lambda step: scored[step])
    assert set(scored) == {3, 6, 9}
    assert step_of(directory.checkpoints / "best.ckpt") == best
    assert "optimizer_states" not in torch.load(directory.checkpoints / "best.ckpt", weights_only=True)


def test_nothing_in_a_checkpoint_needs_pickle(tmp_path: Path) -> None:
    run_toy(RunDirectory(tmp_path), toy_config(trainer__max_steps=3))
    torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def weights_alone(path: Path) -> None:
    torch.save({"state_dict": {}}, path)


def pickled(path: Path) -> None:
    torch.save({**WHOLE, "module": torch.nn.Linear(1, 1)}, path)


@pytest.mark.parametrize("spoil", [damage, cut, empty, weights_alone, pickled])
def test_an_unreadable_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: object
) -> None:
    for name in ("last.ckpt", "last-1.ckpt", "last-2.ckpt", "last-10.ckpt"):
        FileIO().save_checkpoint(WHOLE, tmp_path / name)
    assert newest_readable(tmp_path) == tmp_path / "last.ckpt"
    assert callable(spoil)
    spoil(tmp_path / "last.ckpt")
    spoil(tmp_path / "last-1.ckpt")
    with caplog.at_level(logging.WARNING):
        assert newest_readable(tmp_path) == tmp_path / "last-2.ckpt"
    assert [record.message.split(" is unreadable")[0] for record in caplog.records] == [
        str(tmp_path / "last.ckpt"),
        str(tmp_path / "last-1.ckpt"),
    ]


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert newest_readable(tmp_path) is None
    assert newest_readable(tmp_path / "missing") is None


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    FileIO().save_checkpoint(WHOLE, tmp_path / "last.ckpt")
    (tmp_path / "last.ckpt.tmp").write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["last.ckpt"]


def test_a_kill_between_any_two_operations_leaves_something_to_continue_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rename fails once, as if the process had been killed before it."""
    left = 0

    class Killed(BaseException):
        pass

    def replace(source: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        os.replace(source, target)

    monkeypatch.setattr(checkpointing, "os", SimpleNamespace(**{**vars(os), "replace": replace}))

    class Trainer:
        is_global_zero = True
        global_step = 0

        def save_checkpoint(self, path: Path, weights_only: bool) -> None:
            FileIO().save_checkpoint({**WHOLE, "global_step": self.global_step}, path)

    trainer = Trainer()
    callback = Checkpoint(tmp_path, toy_config(checkpoint__keep=2).checkpoint)
    for fatal in range(1, 12):
        left = fatal
        for _ in range(3):
            trainer.global_step += 1
            try:
                callback._save_last(trainer)  # type: ignore[arg-type]
            except Killed:
                break
        found = newest_readable(tmp_path)
        if trainer.global_step > 1:
            assert found is not None and step_of(found) >= trainer.global_step - 1


@pytest.mark.slow
def test_a_kill_while_writing_leaves_the_one_before(tmp_path: Path) -> None:
    """A process that does nothing but save is killed at some moment; the newest file is always whole."""
    code = """if True:
        import sys, torch
        from pathlib import Path
        from sam2.training.checkpointing import Checkpoint, FileIO
        from sam2.training.config import CheckpointConfig
        class Trainer:
            is_global_zero, global_step = True, 0
            def save_checkpoint(self, path, weights_only):
                content = {"state_dict": {"w": torch.full((200_000,), float(self.global_step))}, "loops": {}}
                FileIO().save_checkpoint({**content, "optimizer_states": [], "global_step": self.global_step}, path)
        trainer, callback = Trainer(), Checkpoint(Path(sys.argv[1]), CheckpointConfig())
        print("in", flush=True)
        while True:
            trainer.global_step += 1
            callback._save_last(trainer)
    """
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"in\n"
        deadline = time.monotonic() + 30
        while not (tmp_path / "last-1.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
    found = newest_readable(tmp_path)
    assert found is not None
    content = torch.load(found, weights_only=True)
    assert bool((content["state_dict"]["w"] == content["global_step"]).all())


def test_the_toy_learns(tmp_path: Path) -> None:
    """Otherwise equal weights after a resume would say nothing."""
    torch.manual_seed(0)
    start = ToyModule().layers[0].weight.detach().clone()  # type: ignore[union-attr]
    run_toy(RunDirectory(tmp_path), toy_config())
    end = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"][
        "layers.0.weight"
    ]
    assert not torch.equal(start, end)
