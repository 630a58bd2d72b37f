"""`hydra/sweeper=optuna`: what is drawn, what is kept, what becomes of trials that fail or are interrupted."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sam2.evaluation.report import ObjectResult, Report, Result, write_results
from sam2.training import run
from sam2.training.config import RunConfig
from sam2.training.rundir import RunDirectory
from sam2.training.signature import signature
from sam2.training.sweeps import running
from sam2.training.sweeps.record import read_record
from sam2.training.sweeps.search import search
from sam2.training.typed import ConfigError

needs_optuna = pytest.mark.skipif(not importlib.util.find_spec("optuna"), reason="needs the extra `search`")
SPACE = [
    "optim.lr=tag(log,interval(1e-5,1e-3))",
    "data.frames=range(2,9,2)",
    "model.memory_slots=int(interval(2,5))",
    "optim=scratch,finetune",
    "seed=7",
    "hydra/sweeper=optuna",
]


def values(words: Sequence[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words)  # type: ignore[misc]


def near(words: Sequence[str]) -> float:
    """Best at a rate of 1e-4."""
    return -abs(math.log10(float(values(words)["optim.lr"])) + 4)


def collect(
    folder: Path, score: Callable[[Sequence[str]], float], trials: int
) -> tuple[list[dict[str, str]], str]:
    tried: list[dict[str, str]] = []

    def do(own: Sequence[str], common: Sequence[str], number: int) -> float:
        tried.append(values(own))
        assert list(common) == ["seed=7"]
        return score(own)

    return tried, search(SPACE, {"trials": trials, "startup": 5}, folder, do)


@needs_optuna
def test_trials_lie_in_the_space_and_the_best_is_told(tmp_path: Path) -> None:
    tried, said = collect(tmp_path, near, 25)
    assert len(tried) == 25
    for each in tried:
        assert 1e-5 <= float(each["optim.lr"]) <= 1e-3
        assert each["data.frames"] in {"2", "4", "6", "8"}
        assert each["model.memory_slots"] in {"2", "3", "4", "5"}
        assert each["optim"] in {"scratch", "finetune"}
    best = max(tried, key=lambda each: near([f"optim.lr={each['optim.lr']}"]))
    assert said.startswith("best of 25 trials: ") and f"optim.lr={best['optim.lr']}" in said
    late = [abs(math.log10(float(each["optim.lr"])) + 4) for each in tried[10:]]
    assert sum(late) / len(late) < 0.4, "drawn evenly over two decades it would be 0.5"


@needs_optuna
def test_the_same_search_goes_on_where_it_was(tmp_path: Path) -> None:
    first, _ = collect(tmp_path, near, 3)
    nothing, said = collect(tmp_path, near, 3)
    more, _ = collect(tmp_path, near, 5)
    assert (len(first), nothing, len(more)) == (3, [], 2)
    assert said.startswith("best of 3 trials")


@needs_optuna
def test_a_failed_trial_is_told_as_failed_and_the_search_goes_on(tmp_path: Path) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    calls: list[int] = []

    def fail_once(words: Sequence[str]) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise running.RunFailed("exit code 1", 1)
        return near(words)

    tried, _ = collect(tmp_path, fail_once, 4)
    assert len(tried) == 4
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "trials.log")))
    states = [trial.state.name for trial in optuna.load_study(study_name="optuna", storage=storage).trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


@needs_optuna
def test_an_interrupted_trial_is_taken_up_again(tmp_path: Path) -> None:
    tried: list[dict[str, str]] = []

    def stop(own: Sequence[str], common: Sequence[str], number: int) -> float:
        tried.append(values(own))
        raise running.RunFailed("stopped", 130)

    with pytest.raises(running.RunFailed, match="stopped"):
        search(SPACE, {"trials": 2}, tmp_path, stop)
    again, _ = collect(tmp_path, near, 2)
    assert again[0] == tried[0] and len(again) == 2


@needs_optuna
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=7"], "there is nothing to search: give a setting several values"),
        (["data.frames=glob(*)"], "data.frames: a search takes intervals, ranges and choices, not a Glob"),
    ],
)
def test_a_space_that_is_none_is_refused(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        search(words, {}, tmp_path, lambda *_: 0.0)


@needs_optuna
def test_another_space_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    collect(tmp_path, near, 1)
    with pytest.raises(ConfigError, match="were drawn from another space: remove that folder"):
        search(["optim=scratch,other", "seed=7"], {"trials": 2}, tmp_path, lambda *_: 0.0)


def test_wrong_settings_of_the_search_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'trails'; did you mean 'trials'"):
        search(SPACE, {"trails": 2}, tmp_path, lambda *_: 0.0)
    with pytest.raises(ConfigError, match="trials must be at least 1"):
        search(SPACE, {"trials": 0}, tmp_path, lambda *_: 0.0)


def test_without_optuna_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.chdir(tmp_path)
    assert run.main(["-m", "smoke", "hydra/sweeper=optuna", "seed=range(1,5)"]) == 2
    assert capsys.readouterr().err.strip() == (
        "error: hydra/sweeper=optuna needs Optuna: pip install 'sam2-train[search]', or -e '.[search]' in a checkout"
    )


@needs_optuna
def test_the_main_job_gives_the_search_its_score_and_leaves_a_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    groups: list[Any] = []

    def train(config: RunConfig, directory: RunDirectory) -> None:
        groups.append(config.logger.group)  # type: ignore[union-attr]
        if len(groups) == 2:
            raise running.RunFailed("exit code 1, see its log", 1)
        score = 10.0 * config.data.frames
        result = Result("trained", (ObjectResult("v", 1, score, score, 3),))
        write_results(directory.results, Report((result,)))
        directory.note(signature=signature(config).as_record(), finished={"step": 4})

    monkeypatch.setattr(running, "run_apart", train)
    monkeypatch.chdir(tmp_path)
    command = [
        "-m",
        "smoke",
        "hydra/sweeper=optuna",
        "hydra.sweeper.trials=4",
        "data.frames=range(2,9)",
        "seed=5",
    ]
    assert run.main(command) == 1, "one failed"
    (folder,) = (tmp_path / "runs" / "smoke" / "sweeps").iterdir()
    record = read_record(folder)
    frames = [each.values["data.frames"] for each in record.members]
    assert len(frames) == 4 and set(groups) == {f"smoke-{folder.name}"}
    printed = capsys.readouterr()
    assert "best of 3 trials: " in printed.out and " with data.frames=" in printed.out
    assert "failed: run 2: data.frames=" in printed.err
    assert run.main(command) == 0
    assert "run " not in capsys.readouterr().out, "nothing is left to do"
