"""Which directory a run gets, who may be in it, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sam2.training.config import RunConfig, digest
from sam2.training.environment import Processes, git_state, hardware, packages, processes
from sam2.training.rundir import RunDirectory, begin, check, choose, held, read_config
from sam2.training.typed import ConfigError
from tests.sam2.training.toy import toy_config

ALONE = Processes()


def config(tmp_path: Path, **changes: Any) -> RunConfig:
    return dataclasses.replace(toy_config(), name="toy", runs=tmp_path, **changes)


def started(made: RunConfig, around: Processes = ALONE) -> RunDirectory:
    directory = choose(made, around)
    check(directory, made)
    begin(directory, made, ["train.py", "x y"])
    return directory


def test_the_same_settings_find_their_unfinished_run_and_then_start_the_next(tmp_path: Path) -> None:
    first = started(config(tmp_path))
    assert first.path.parent == tmp_path / "toy" and first.path.name == f"001-{digest(config(tmp_path))}"
    assert started(config(tmp_path)) == first
    first.finish(step=10)
    assert first.is_finished
    assert started(config(tmp_path)).path.name.startswith("002-")


def test_other_settings_get_another_directory_and_ways_of_watching_do_not(tmp_path: Path) -> None:
    first = started(config(tmp_path))
    other = started(config(tmp_path, seed=1))
    assert (other.path.name[:4], first.path.name[:4]) == ("002-", "001-")
    watched = config(tmp_path, logger=dataclasses.replace(toy_config().logger, kind="tensorboard"))  # type: ignore[type-var]
    assert started(watched) == first


def test_a_directory_of_a_run_with_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    place = tmp_path / "here"
    started(config(tmp_path, run_dir=place))
    started(config(tmp_path, run_dir=place))
    changed = config(tmp_path, run_dir=place, seed=7)
    with pytest.raises(ConfigError, match=r"seed: 0 there, 7 now.*resume=force"):
        started(changed)
    started(dataclasses.replace(changed, resume="force"))
    assert read_config(RunDirectory(place)).seed == 7
    with pytest.raises(ConfigError, match="resume=never"):
        started(dataclasses.replace(changed, resume="never"))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(ConfigError, match=r"holds files \(photo.jpg\) but no run"):
        started(config(tmp_path / "runs", run_dir=tmp_path))


def test_a_run_directory_that_is_moved_is_its_own_run(tmp_path: Path) -> None:
    place = started(config(tmp_path, run_dir=tmp_path / "here")).path
    place.rename(tmp_path / "there")
    moved = RunDirectory(tmp_path / "there")
    assert read_config(moved).run_dir == tmp_path / "there"
    check(moved, read_config(moved))


def test_the_record_says_what_the_run_was_made_with(tmp_path: Path) -> None:
    directory = started(config(tmp_path))
    started(config(tmp_path))
    record = json.loads(directory.record.read_text())
    assert [start["command"] for start in record["starts"]] == ["train.py 'x y'"] * 2
    assert record["packages"]["torch"] == packages()["torch"] != "not installed"
    assert record["hardware"]["cores"] == hardware()["cores"] >= 1
    assert record["finished"] is None


def test_the_record_holds_commit_and_uncommitted_changes(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert git_state(tmp_path) == {}
    git("init", "-q")
    (tmp_path / "a.txt").write_text("one\n")
    git("add", "a.txt")
    git("commit", "-qm", "x")
    (tmp_path / "a.txt").write_text("two\n")
    state = git_state(tmp_path)
    assert state["commit"] == git("rev-parse", "HEAD")
    assert "-one\n+two\n" in state["diff"]


def test_nobody_else_gets_into_a_directory_until_its_holder_is_killed(tmp_path: Path) -> None:
    code = """if True:
        import sys, time
        from pathlib import Path
        from sam2.lock import locked
        with locked(Path(sys.argv[1])):
            print("in", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"in\n"
        with pytest.raises(ConfigError, match=f"being written by process {holder.pid} on"):
            with held(RunDirectory(tmp_path)):
                pass
        holder.kill()
    with held(RunDirectory(tmp_path)):
        pass


def test_ranks_started_from_outside_share_the_name_of_their_job(tmp_path: Path) -> None:
    slurm = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_JOB_ID": "77"}
    assert choose(config(tmp_path), processes(slurm)).path.name == "slurm-77"
    array = {**slurm, "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}
    assert choose(config(tmp_path), processes(array)).path.name == "slurm-70_3"
    torchrun = {"TORCHELASTIC_RUN_ID": "a/b", "RANK": "1", "WORLD_SIZE": "2"}
    assert choose(config(tmp_path), processes(torchrun)).path.name == "torchrun-a-b"
    with pytest.raises(ConfigError, match="2 processes .* run_id=first"):
        choose(config(tmp_path), processes({**torchrun, "TORCHELASTIC_RUN_ID": "none"}))
    assert choose(config(tmp_path, run_id="mine"), processes(slurm)).path == tmp_path / "toy" / "mine"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "interactive"},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
    ],
    ids=["nothing", "in a shell of salloc", "in a batch script", "in a shell that is a step"],
)
def test_a_process_that_nobody_numbered_is_alone(environment: dict[str, str]) -> None:
    assert processes(environment) == Processes()


def test_srun_counts_also_where_salloc_calls_the_job_interactive() -> None:
    step = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "interactive", "SLURM_NTASKS": "2", "SLURM_PROCID": "1"}
    assert processes({**step, "SLURM_STEP_NUM_TASKS": "2"}) == Processes(1, 2, "slurm-7", "slurm")
