"""What a run cost stands in its record, whatever became of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sam2.training import cost
from sam2.training.rundir import RunDirectory
from sam2.training.sweeps.runs import Run
from tests.sam2.training.toy import run_toy, toy_config


def test_every_start_says_what_it_cost_also_one_that_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The clock moves by 100 s whenever it is read."""
    seconds = iter(range(0, 100_000, 100))
    monkeypatch.setattr(cost.time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    directory = RunDirectory(tmp_path / "run")

    def crash(stage: str, number: int) -> None:
        if (stage, number) == ("train", 9):
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        run_toy(directory, toy_config(), crash)
    (first,) = directory.read_record()["starts"]
    run_toy(directory, toy_config())
    before, second = directory.read_record()["starts"]
    assert before == first
    for start in (first, second):
        assert start["cost"]["devices"] == 3 and start["cost"]["device"] == "CPU"
        assert start["cost"]["seconds"] > 0 and start["cost"]["seconds"] % 100 == 0
    total = first["cost"]["seconds"] + second["cost"]["seconds"]
    assert Run(directory.path).device_hours == pytest.approx(total * 3 / 3600)
    assert Run(directory.path).memory_gb is not None
