"""The first task that ends badly says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2.slurm.last_word import VARIABLE, leave
from sam2.training import run
from sam2.training.exit_codes import RANK_LOST


def test_the_first_bad_end_is_kept(tmp_path: Path) -> None:
    there = {VARIABLE: str(tmp_path / "ended")}
    leave(0, there)
    assert not (tmp_path / "ended").exists()
    leave(2, there)
    leave(1, there)
    assert (tmp_path / "ended").read_text() == "2\n"
    leave(1, {})


def test_one_that_cannot_be_written_is_said_and_hides_no_other_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(70, {VARIABLE: str(tmp_path / "nowhere" / "ended")})
    assert "exit code 70 could not be written down" in capsys.readouterr().err


def test_a_rank_that_lost_another_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(config: object, command: object) -> None:
        raise RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:54177. This is typical")

    monkeypatch.setenv(VARIABLE, str(tmp_path / "ended"))
    monkeypatch.setattr(run, "start", lost)
    assert run.main(["smoke"]) == RANK_LOST
    assert not (tmp_path / "ended").exists()


def test_the_main_job_leaves_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ended"))
    assert run.main(["smoke", "optim.lrr=1"]) == 2
    assert (tmp_path / "ended").read_text() == "2\n"
