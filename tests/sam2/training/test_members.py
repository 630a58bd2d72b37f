"""Which runs of a sweep are done, which go on, which begin, and where."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sam2.training import members as module
from sam2.training import run
from sam2.training.compose import Combination, expand, parse, words_of_sweep
from sam2.training.config import RunConfig, digest, resolve
from sam2.training.members import Member, plan_members, sweep_id
from sam2.training.rundir import RunDirectory
from sam2.training.signature import Signature, signature
from sam2.training.sweeps import running
from sam2.training.sweeps.record import read_record
from sam2.training.typed import ConfigError


def config(runs: Path, seed: int, **settings: Any) -> RunConfig:
    plain = {"synthetic": {"train": 4, "held_out": 2}, "trainer": {"max_steps": 1}, "runs": str(runs)}
    return resolve({**plain, "seed": seed, **settings}, "ablate")


def plan(*configs: RunConfig) -> list[Member]:
    return plan_members([(Combination((f"seed={c.seed}",), k), c) for k, c in enumerate(configs, 1)])


def leave(path: Path, *, finished: bool, signed: Signature | None) -> None:
    """A run directory as an earlier start left it."""
    record = {"finished": {"step": 1} if finished else None}
    if signed:
        record["signature"] = signed.as_record()  # type: ignore[assignment]
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(record))


def states(members: list[Member]) -> list[tuple[str, str]]:
    return [(member.directory.path.name[:3], member.state) for member in members]


def test_new_members_get_directories_of_their_own_and_nothing_is_made(tmp_path: Path) -> None:
    members = plan(*(config(tmp_path, seed) for seed in (1, 2, 3)))
    assert states(members) == [("001", "new"), ("002", "new"), ("003", "new")]
    for member in members:
        path = tmp_path / "ablate" / f"{member.directory.path.name[:3]}-{digest(member.config)}"
        assert member.directory.path == member.config.run_dir == path
    assert not list(tmp_path.iterdir())


def test_finished_ones_are_done_and_failed_ones_go_on_where_they_lie(tmp_path: Path) -> None:
    configs = [config(tmp_path, seed) for seed in (1, 2, 3)]
    first, second, _ = plan(*configs)
    leave(first.directory.path, finished=True, signed=signature(configs[0]))
    leave(second.directory.path, finished=False, signed=signature(configs[1]))
    again = plan(*configs)
    assert states(again) == [("001", "done"), ("002", "continue"), ("003", "new")]
    assert [m.directory for m in again[:2]] == [first.directory, second.directory]


def test_a_finished_run_under_any_name_is_found(tmp_path: Path) -> None:
    leave(tmp_path / "ablate" / "by-hand", finished=True, signed=signature(config(tmp_path, 1)))
    (member,) = plan(config(tmp_path, 1))
    assert (member.directory.path.name, member.state) == ("by-hand", "done")


@pytest.mark.parametrize(("part", "named"), [("code", "other code"), ("data", "other data")])
def test_a_finished_run_of_other_code_or_data_is_done_again_and_that_is_said(
    tmp_path: Path, part: str, named: str
) -> None:
    own = config(tmp_path, 1)
    old = tmp_path / "ablate" / f"001-{digest(own)}"
    leave(old, finished=True, signed=dataclasses.replace(signature(own), **{part: "0"}))
    (member,) = plan(own)
    assert states([member]) == [("002", "new")]
    assert member.remark == f"{old} is finished, but with {named}"


def test_a_finished_run_without_a_signature_does_not_count(tmp_path: Path) -> None:
    own = config(tmp_path, 1)
    leave(tmp_path / "ablate" / f"001-{digest(own)}", finished=True, signed=None)
    assert states(plan(own)) == [("002", "new")]


def test_data_are_opened_only_where_a_run_could_be_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[int] = []

    def sign(own: RunConfig) -> Signature:
        opened.append(own.seed)
        return signature(own)

    monkeypatch.setattr(module, "signature", sign)
    leave(tmp_path / "ablate" / "x", finished=True, signed=signature(config(tmp_path, 2)))
    plan(config(tmp_path, 1), config(tmp_path, 2), config(tmp_path, 3))
    assert opened == [2]


def test_a_repeated_member_is_left_out(tmp_path: Path) -> None:
    assert states(plan(config(tmp_path, 1), config(tmp_path, 1))) == [("001", "new")]


def test_two_runs_never_share_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run 2: seed=2 would write into .*/one, as an earlier run"):
        plan(config(tmp_path, 1, run_id="one"), config(tmp_path, 2, run_id="one"))


def test_the_same_runs_are_the_same_sweep_in_any_order(tmp_path: Path) -> None:
    one, two = config(tmp_path, 1), config(tmp_path, 2)
    assert sweep_id([one, two]) == sweep_id([two, one]) != sweep_id([one])


def test_loggers_get_the_sweep_as_group_and_what_differs_as_tags(tmp_path: Path) -> None:
    (member,) = plan(config(tmp_path, 1, logger={"kind": "wandb", "tags": ["mine"]}))
    sweep = sweep_id([config(tmp_path, 1)])
    assert member.config.logger.group == f"ablate-{sweep}"  # type: ignore[union-attr]
    assert member.config.logger.tags == ("mine", sweep, "seed=1")  # type: ignore[union-attr]
    (named,) = plan(config(tmp_path, 1, logger={"kind": "wandb", "group": "mine"}))
    assert named.config.logger.group == "mine"  # type: ignore[union-attr]
    assert digest(named.config) == digest(config(tmp_path, 1))


def grid(folder: Path, *words: str) -> list[tuple[str, ...]]:
    text = "defaults: [smoke, _self_]\nhydra:\n  sweeper:\n    params:\n      model.mem_dim: 8,16\n      seed: 1,2\n"
    (folder / "mine.yaml").write_text(text)
    invocation = parse(["-m", str(folder / "mine.yaml"), *words])
    found = expand(invocation, words_of_sweep(invocation))
    return [combination.overrides for combination, _ in found.runs]


def test_a_recipe_brings_its_own_grid(tmp_path: Path) -> None:
    wanted = [(f"model.mem_dim={dim}", f"seed={seed}") for dim in (8, 16) for seed in (1, 2)]
    assert grid(tmp_path) == wanted


def test_values_of_the_command_line_replace_those_of_the_grid(tmp_path: Path) -> None:
    assert grid(tmp_path, "model.mem_dim=32", "seed=5,6,7") == [("seed=5",), ("seed=6",), ("seed=7",)]
    assert grid(tmp_path, "seed=1", "optim.lr=1e-3,1e-4") == [
        (f"model.mem_dim={dim}", f"optim.lr={rate}") for dim in (8, 16) for rate in ("0.001", "0.0001")
    ]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Runs finish at once, but that of seed 2 fails the first time; the seeds that were started, in order."""
    seeds: list[int] = []

    def train(own: RunConfig, directory: RunDirectory) -> None:
        seeds.append(own.seed)
        if seeds.count(own.seed) == 1 and own.seed == 2:
            raise running.RunFailed("exit code 1, see its log", 1)
        directory.path.mkdir(parents=True, exist_ok=True)
        directory.note(signature=signature(own).as_record(), finished={"step": 4})

    monkeypatch.setattr(running, "run_apart", train)
    monkeypatch.chdir(tmp_path)
    return seeds


def test_a_failing_run_does_not_end_a_sweep_and_the_same_command_runs_it_alone(
    trained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-m", "smoke", "seed=1,2,3"]
    assert run.main(command) == 1
    assert trained == [1, 2, 3]
    said = capsys.readouterr().err.splitlines()
    assert "failed: run 2 of 3: seed=2: exit code 1, see its log" in said
    assert run.main(command) == 0
    assert trained == [1, 2, 3, 2]
    printed = capsys.readouterr().out
    assert printed.count("done already: ") == 2 and "sweep of 3 runs, 1 to do" in printed
    assert run.main(command) == 0 and len(trained) == 4


def test_a_longer_sweep_trains_what_is_new_alone(trained: list[int]) -> None:
    assert run.main(["-m", "smoke", "seed=1,3"]) == run.main(["-m", "smoke", "seed=1,3,4"]) == 0
    assert trained == [1, 3, 4]


@pytest.mark.parametrize("code", [130, 85, 143])
def test_a_sweep_that_is_asked_to_stop_does_not_begin_the_next_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    started: list[int] = []

    def stop(own: RunConfig, directory: RunDirectory) -> None:
        started.append(own.seed)
        raise running.RunFailed("stopped", code)

    monkeypatch.setattr(running, "run_apart", stop)
    monkeypatch.chdir(tmp_path)
    assert run.main(["-m", "smoke", "seed=1,2"]) == code
    assert started == [1]


def test_the_record_names_command_factors_runs_and_the_values_of_the_recipe(
    trained: list[int], tmp_path: Path
) -> None:
    assert run.main(["-m", "smoke", "model.memory_slots=2,3", "seed=4"]) == 0
    (file,) = (tmp_path / "runs" / "smoke" / "sweeps").glob("*/sweep.yaml")
    record = read_record(file.parent)
    assert record.command == "python train.py -m smoke model.memory_slots=2,3 seed=4"
    assert record.factors == {"model.memory_slots": ["2", "3"]}
    assert record.recipe == {"model.memory_slots": None}
    assert [each.words for each in record.members] == ["model.memory_slots=2", "model.memory_slots=3"]
    assert [each.values for each in record.members] == [{"model.memory_slots": slots} for slots in (2, 3)]
    assert all((each.path / "run.json").is_file() for each in record.members)
    assert not Path(yaml.safe_load(file.read_text())["members"][0]["run"]).is_absolute()


@pytest.mark.parametrize("text", ["", "format: other/1\n", "format: sam2-train/sweep/1\n", "a: [\n"])
def test_a_file_that_is_no_record_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"sweep\.yaml: "):
        read_record(tmp_path)
