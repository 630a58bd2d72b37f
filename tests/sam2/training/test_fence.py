"""Of two starts of one run only the newer one writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sam2.lock import locked
from sam2.training.errors import Superseded
from sam2.training.exit_codes import SUPERSEDED
from sam2.training.fence import Fence, Incarnation
from sam2.training.rundir import RunDirectory, held
from sam2.training.typed import ConfigError
from tests.sam2.training.toy import run_toy, toy_config

ROOT = Path(__file__).parents[3]
FIRST = {"SLURM_JOB_ID": "12"}
SECOND = {"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "1"}


def fence(folder: Path, environment: dict[str, str], is_writer: bool = True) -> Fence:
    return Fence(folder, Incarnation.current(environment), is_writer)


def test_a_start_that_was_requeued_elsewhere_may_not_write_again(tmp_path: Path) -> None:
    old, new = fence(tmp_path, FIRST), fence(tmp_path, SECOND)
    old.claim()
    old.check()
    new.claim()
    new.check()
    with pytest.raises(Superseded, match="taken over by restart 1 of job 12"):
        old.check()
    with pytest.raises(Superseded):
        old.claim()


def test_other_ranks_than_the_one_that_writes_know_their_restart_alone(tmp_path: Path) -> None:
    fence(tmp_path, SECOND).claim()
    fence(tmp_path, SECOND, is_writer=False).check()
    with pytest.raises(Superseded):
        fence(tmp_path, FIRST, is_writer=False).check()


def test_members_of_an_array_and_other_jobs_are_not_restarts_of_each_other(tmp_path: Path) -> None:
    requeued = {**SECOND, "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
    fence(tmp_path, requeued).claim()
    for other in ({**FIRST, "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "4"}, {"SLURM_JOB_ID": "11"}):
        fence(tmp_path, other, is_writer=False).check()
        assert not Incarnation.current(requeued).is_newer_than(Incarnation.current(other))
    with pytest.raises(Superseded):
        fence(tmp_path, {**requeued, "SLURM_RESTART_COUNT": "0"}, is_writer=False).check()


def test_of_two_starts_without_a_job_the_later_one_writes(tmp_path: Path) -> None:
    old, new = fence(tmp_path, {}), fence(tmp_path, {})
    old.claim()
    new.claim()
    new.check()
    with pytest.raises(Superseded, match="another start"):
        old.check()


def test_a_run_that_is_taken_over_writes_neither_rows_nor_checkpoints_nor_its_end(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)

    def taken_over(stage: str, number: int) -> None:
        if (stage, number) == ("train", 6):
            fence(tmp_path, {}).claim()

    with pytest.raises(Superseded):
        run_toy(directory, toy_config(evaluate__every_steps=None), taken_over)
    assert directory.metrics.read_text().splitlines()[-1].startswith("3,")
    assert (directory.checkpoints / "step.txt").read_text() == "2\n"
    run_toy(directory, toy_config(evaluate__every_steps=None))
    assert directory.is_finished


def test_one_that_waits_for_dead_ranks_stops_itself_too(tmp_path: Path) -> None:
    code = f"""if True:
        import time
        from pathlib import Path
        from sam2.training.fence import Fence, Incarnation
        fence = Fence(Path({str(tmp_path)!r}), Incarnation.current({FIRST}), True)
        fence.claim()
        with fence.watched(0.05):
            print("in", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as orphan:
        assert orphan.stdout is not None and orphan.stderr is not None
        assert orphan.stdout.readline() == b"in\n"
        fence(tmp_path, SECOND).claim()
        assert orphan.wait(20) == SUPERSEDED
        assert b"taken over by restart 1" in orphan.stderr.read()


def test_a_restart_waits_for_the_older_start_to_let_go_and_does_without_if_it_hangs(tmp_path: Path) -> None:
    code = "import sys\nfrom pathlib import Path\nfrom sam2.lock import locked\n"
    code += "with locked(Path(sys.argv[1])):\n    print('in', flush=True)\n    sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as older:
        assert older.stdout is not None and older.stdin is not None
        assert older.stdout.readline() == b"in\n"
        with pytest.raises(ConfigError, match="is being written by"), held(RunDirectory(tmp_path)):
            pass
        with held(RunDirectory(tmp_path), fenced_s=0.3):
            pass
        older.stdin.close()
        with locked(tmp_path, wait_s=20) as holder:
            assert holder is None
        assert older.wait(20) == 0
