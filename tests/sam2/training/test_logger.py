"""Where metrics go besides the CSV file."""

from __future__ import annotations

import dataclasses
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sam2.training.config import LoggerConfig
from sam2.training.logger import build_loggers, has_wandb_key
from sam2.training.rundir import RunDirectory
from sam2.training.typed import ConfigError, Plugin
from tests.sam2.training.toy import run_toy, toy_config


class Remembering(Logger):
    """A logger of a user's own."""

    rows: list[tuple[int | None, dict[str, float]]] = []

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    @property
    def name(self) -> str:
        return self.label

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_csv_needs_no_logger(tmp_path: Path) -> None:
    assert build_loggers(toy_config(), tmp_path) == []


def test_tensorboard_gets_every_row_at_its_step(tmp_path: Path) -> None:
    run_toy(RunDirectory(tmp_path), toy_config(logger={"kind": "tensorboard"}, trainer__max_steps=4))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [event.step for event in events.Scalars("val/J&F")] == [3]


def test_a_logger_of_the_users_own_gets_every_row(tmp_path: Path) -> None:
    Remembering.rows.clear()
    own = {"_target_": f"{__name__}.Remembering", "label": "mine"}
    run_toy(RunDirectory(tmp_path), toy_config(logger=own, trainer__max_steps=3))
    wanted = [(1, False), (2, False), (3, False), (3, True)]
    assert [(step, "val/J&F" in row) for step, row in Remembering.rows] == wanted


def test_something_else_is_no_logger(tmp_path: Path) -> None:
    config = dataclasses.replace(toy_config(), logger=Plugin("builtins.dict"))
    with pytest.raises(ConfigError, match=r"builtins.dict is a dict, not a Lightning Logger"):
        build_loggers(config, tmp_path)


def test_wandb_goes_online_only_with_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not has_wandb_key()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    assert has_wandb_key()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert not has_wandb_key()
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_wandb_key()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert has_wandb_key()


def test_a_run_keeps_its_id_at_wandb(tmp_path: Path) -> None:
    config = dataclasses.replace(toy_config(), logger=LoggerConfig("wandb"))
    first, second = (build_loggers(config, tmp_path)[0] for _ in range(2))
    assert isinstance(first, WandbLogger) and isinstance(second, WandbLogger)
    assert first.version == second.version == (tmp_path / "wandb-id.txt").read_text().strip()


def records_of(path: Path) -> Iterator[bytes]:
    """The records of a `.wandb` file: 7 bytes, then LevelDB's log format (blocks of 32 KiB, long records in parts)."""
    content, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def runs_written_offline(folder: Path) -> list[Any]:
    """What each start says of its run, read from the files that `wandb sync` would send."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for raw in records_of(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(raw)
            if record.WhichOneof("record_type") == "run":
                found.append(record.run)
    return found


@pytest.mark.slow
def test_wandb_without_an_account_writes_offline_and_a_continued_run_is_the_same_one_there(
    tmp_path: Path,
) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from sam2.training.rundir import RunDirectory
        from tests.sam2.training.toy import run_toy, toy_config
        logger = {"kind": "wandb", "group": "ablate-3fa9c1", "tags": ["3fa9c1", "seed=1"]}
        def stop(stage, number):
            if (stage, number) == ("train", int(sys.argv[2])):
                raise KeyError("killed here")
        run_toy(RunDirectory(Path(sys.argv[1])), toy_config(logger=logger, trainer__max_steps=6), stop)
    """
    root = Path(__file__).parents[3]
    for where, ends_well in ((8, False), (-1, True)):
        command = [sys.executable, "-c", code, str(tmp_path / "run"), str(where)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, cwd=root
        )
        assert (done.returncode == 0) == ends_well, done.stderr
    first, second = runs_written_offline(tmp_path / "run")
    assert first.run_id == second.run_id == (tmp_path / "run" / "wandb-id.txt").read_text().strip()
    for each in (first, second):
        assert each.run_group == "ablate-3fa9c1" and {"3fa9c1", "seed=1"} <= set(each.tags)
