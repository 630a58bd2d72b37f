"""`python train.py ...`: recipes from anywhere, mistakes in one line, sweeps."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from data.clip import DataError
from sam2.evaluation.jf import Scores
from sam2.evaluation.kinds import MASKS
from sam2.evaluation.report import Report, summarise, write_results
from sam2.policies import REFERENCE
from sam2.policies.samurai import Samurai
from sam2.shipped import shipped
from sam2.training import evaluation_job, run
from sam2.training.compose import recipe_names
from sam2.training.config import LoggerConfig, RunConfig, resolve
from sam2.training.evaluation_config import BenchmarkConfig, ImageConfig, InteractiveConfig
from sam2.training.pieces import Ended
from sam2.training.rundir import RunDirectory, begin
from sam2.training.sweeps import running
from sam2.training.sweeps.runs import gather
from sam2.training.sweeps.table import tabulate
from sam2.training.typed import to_plain
from tests.sam2.training.toy import run_toy, toy_config

ROOT = Path(__file__).parents[3]
SMALL = ["synthetic=null", "data.root=/nowhere"]


ABLATIONS = [name for name in recipe_names() if name.startswith("ablate_")]
# what a recipe leaves to be given; its other settings are complete
TO_BE_GIVEN = {
    **dict.fromkeys(
        [name for name in recipe_names() if name.startswith("finetune")],
        ["data.root=/x", "model.checkpoint=/x"],
    ),
    "ablate_frozen": ["model.checkpoint=/x"],
}
TRAININGS = [name for name in recipe_names() if not name.startswith("eval_")]
EVALUATIONS = [name for name in recipe_names() if name.startswith("eval_")]
OF_OTHER_KINDS = {"eval_interactive": InteractiveConfig, "eval_image": ImageConfig}
BENCHMARKS = [name for name in EVALUATIONS if name not in OF_OTHER_KINDS]


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[BenchmarkConfig]:
    """Evaluations are collected instead of started; each gives another J&F."""
    configs: list[BenchmarkConfig] = []

    def ended(config: BenchmarkConfig, console: object) -> Ended:
        configs.append(config)
        score = {"mask": 50.0, "box": 60.0, "click3": 40.0}[config.prompt]
        results = {"format": MASKS.format, "protocol": "davis2017", "J&F": score, "J": score, "F": score}
        return Ended(Path("runs") / config.prompt, results)

    monkeypatch.setattr(evaluation_job, "run_evaluation", ended)
    monkeypatch.chdir(tmp_path)
    return configs


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunConfig]:
    """Runs, those of sweeps too, are collected instead of started; the current directory is a new one."""
    configs: list[RunConfig] = []

    def start(config: RunConfig, command: object) -> RunDirectory:
        configs.append(config)
        return RunDirectory(tmp_path)

    monkeypatch.setattr(run, "start", start)
    monkeypatch.setattr(running, "run_apart", start)
    monkeypatch.chdir(tmp_path)
    return configs


def failure(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What a command line with a mistake prints, after checking its exit code."""
    assert run.main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.strip()


def test_no_recipe_is_the_demo(started: list[RunConfig]) -> None:
    assert run.main([]) == 0
    assert [(config.name, config.model.name) for config in started] == [("demo", "demo")]


@pytest.mark.parametrize(
    "name", ["smoke", "recipes/smoke", "recipes/smoke.yaml", str(ROOT / "recipes" / "smoke")]
)
def test_a_shipped_recipe_is_found_from_any_directory(started: list[RunConfig], name: str) -> None:
    assert run.main([name, "optim.lr=7e-4", "seed=3"]) == 0
    config = started[0]
    assert (config.name, config.optim.lr, config.seed, config.trainer.max_steps) == ("smoke", 7e-4, 3, 4)


def test_a_recipe_elsewhere_inherits_a_sibling_and_a_shipped_one(
    started: list[RunConfig], tmp_path: Path
) -> None:
    folder = tmp_path / "far away"
    (folder / "optim").mkdir(parents=True)
    (folder / "optim" / "mine.yaml").write_text("lr: 0.25\nweight_decay: 0.5\n")
    (folder / "base.v1.yaml").write_text("defaults: [smoke, _self_]\nseed: 5\ntrainer: {max_steps: 9}\n")
    child = "defaults:\n  - base.v1\n  - override model: sam2.1_b+\n  - override optim: mine\n  - _self_\n"
    (folder / "child.yaml").write_text(child + "trainer: {max_steps: 11}\noptim: {weight_decay: 0.125}\n")
    for name in ("child.yaml", "child"):
        assert run.main([str(folder / name)]) == 0
    for config in started:
        assert (config.name, config.seed, config.model.name) == ("child", 5, "sam2.1_b+")
        assert (config.trainer.max_steps, config.optim.lr, config.optim.weight_decay) == (11, 0.25, 0.125)


def test_a_group_that_the_recipe_does_not_draw_can_be_chosen(
    started: list[RunConfig], tmp_path: Path
) -> None:
    (tmp_path / "bare.yaml").write_text("trainer: {max_steps: 1}\ndata: {root: /nowhere}\n")
    assert run.main(["bare", "logger=wandb", "model=test"]) == 0
    assert getattr(started[0].logger, "kind", None) == "wandb"
    assert started[0].model.name == "test"


def test_the_memory_policy_of_evaluations_is_a_group(started: list[RunConfig]) -> None:
    assert run.main(["smoke"]) == run.main(["smoke", "policy=samurai", "policy.alpha=0.3"]) == 0
    assert [config.memory_policy for config in started] == [REFERENCE, Samurai(alpha=0.3)]
    assert resolve(to_plain(started[1]), "again").memory_policy == Samurai(alpha=0.3)


def test_a_setting_without_a_yaml_line_can_be_set(started: list[RunConfig]) -> None:
    assert (
        run.main(["smoke", "trainer.max_bad_steps=3", "optim.overrides={memory_attention.*: {lr: 0.5}}"]) == 0
    )
    assert started[0].trainer.max_bad_steps == 3
    assert started[0].optim.overrides["memory_attention.*"].lr == 0.5


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["smoke", "optim.trunk_Lr=1"], "error: unknown key 'optim.trunk_Lr'; did you mean 'trunk_lr'?"),
        (["smoke", "optm.lr=1"], "error: unknown key 'optm'; did you mean 'optim'?"),
        (["smoke", "policy=samurei"], "error: policy: there is no 'samurei'; did you mean samurai?"),
        (
            ["smoke", "policy=samurai", "policy.alfa=1"],
            "error: unknown key 'policy.alfa'; did you mean 'alpha'?",
        ),
        (
            ["smoke", "policy=samurai", "policy.alpha=7"],
            "error: policy: Samurai.alpha is 7; it must be a number from 0 to 1",
        ),
        (
            ["smoke", "policy={_target_: sam2.types.Memory}"],
            "error: policy: sam2.types.Memory is no memory policy; subclass sam2.policies.Policy",
        ),
        (["smoke", "lr=1"], "error: unknown key 'lr'; did you mean 'optim.lr'?"),
        (["smoke", "optim.lr=fast"], "error: optim.lr: expected a number, got 'fast'"),
        (["smoke", "optim=scrach"], "error: optim: there is no 'scrach'; did you mean scratch?"),
        (["smoke", "model.name=sam2.1_x"], "error: model.name: no model is called 'sam2.1_x'; did you mean"),
        (["smok"], "error: no recipe 'smok'"),
        (["smoke", "demo"], "error: one recipe at a time, got smoke and demo"),
        (["smoke", "--multrun"], "error: unknown option '--multrun'; did you mean '--multirun'?"),
        (["finetune_video"], "error: "),
        (
            ["finetune_video", "data.root=/x"],
            "error: model.checkpoint is not set in finetune_video.yaml; give it as",
        ),
        (["smoke", "optim.lr=[1"], "error: smoke.yaml: "),
        (["smoke", "optim.lr=1e-4,3e-4"], "error: optim.lr=1e-4,3e-4 gives several values; a sweep"),
        (["smoke", "goal=${nothing}"], "error: smoke.yaml: Interpolation key 'nothing' not found"),
        (
            ["smoke", "trainer.epochs=2"],
            "error: trainer.max_steps and trainer.epochs: set one of them, not both",
        ),
        (["smoke", "synthetic=null"], "error: there is nothing to train on; set data.root"),
        (["smoke", "data.root=/x"], "error: data.root and synthetic are both set"),
        (["smoke", "data.val_root=/x"], "error: data.val_root and synthetic are both set"),
        (["smoke", *SMALL, "data.val_root=null"], "error: evaluate.every_steps needs videos"),
        (["smoke", "run_id=a/b"], "error: name and run_id are folder names"),
        (["-m", "smoke", "optim.lr=1e-4,fast"], "error: optim.lr: expected a number, got 'fast'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    started: list[RunConfig], capsys: pytest.CaptureFixture[str], argv: Sequence[str], message: str
) -> None:
    assert failure(capsys, *argv).startswith(message)
    assert not started


def test_a_misspelled_key_in_a_file_is_found(
    started: list[RunConfig], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [smoke, _self_]\ndata: {sampling: {stride_mx: 2}}\n")
    wanted = "error: unknown key 'data.sampling.stride_mx'; did you mean 'stride_max'?"
    assert failure(capsys, "mine").startswith(wanted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: [smok, _self_]", "mine.yaml: there is no 'smok'; did you mean smoke?"),
        (
            "defaults: [smoke, {override modl: test}]",
            "mine.yaml: override modl: there is no group 'modl'; did you mean",
        ),
        ("defaults: [smoke, {modl: test}]", "mine.yaml: there is no group 'modl'; did you mean model?"),
        ("optim: {lr: 1.0e-4}", "mine.yaml does not say how long to train"),
        (
            "defaults: [smoke, _self_]\noptim.lr: 3",
            "unknown key 'optim.lr'; in a file it is written `optim: {lr: ...}`",
        ),
    ],
)
def test_a_mistake_in_a_recipe_of_the_users_own_names_the_remedy(
    started: list[RunConfig], capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "mine.yaml").write_text(text + "\n")
    assert failure(capsys, "mine").startswith(f"error: {message}")


def test_broken_yaml_names_its_file(
    started: list[RunConfig], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [smoke\n")
    assert "mine.yaml" in failure(capsys, "mine")


def test_a_sweep_is_every_combination(started: list[RunConfig]) -> None:
    assert run.main(["-m", "smoke", "optim.lr=1e-4,3e-4", "seed=range(2)", "logger=csv"]) == 0
    assert [(config.optim.lr, config.seed) for config in started] == [
        (1e-4, 0),
        (1e-4, 1),
        (3e-4, 0),
        (3e-4, 1),
    ]


def test_a_sweep_names_each_run_and_ends_in_a_table_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def train(config: RunConfig, directory: RunDirectory) -> None:
        score = Scores(np.full(3, config.seed / 10), np.full(3, config.seed / 10))
        write_results(directory.results, Report((summarise("trained", {"video": {1: score}}),)))

    monkeypatch.setattr(running, "run_apart", train)
    monkeypatch.chdir(tmp_path)
    assert run.main(["-m", "smoke", "seed=1,2", "optim.lr=1e-4"]) == 0
    printed = capsys.readouterr().out
    assert "run 1 of 2: seed=1\n" in printed and "run 2 of 2: seed=2\n" in printed
    best, worst = (line.split() for line in printed.splitlines() if "│ seed=" in line)
    assert (best[1], best[3]) == ("seed=2", "20.0") and (worst[1], worst[3]) == ("seed=1", "10.0")


def test_no_run_of_a_sweep_starts_when_one_is_wrong(
    started: list[RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    printed = failure(capsys, "-m", "smoke", "seed=1,2", "optim.lr=1e-4,fast")
    assert printed == "error: optim.lr: expected a number, got 'fast'"
    assert not started


def test_hydra_leaves_nothing_behind(started: list[RunConfig], tmp_path: Path) -> None:
    argv = list(sys.argv)
    assert run.main(["smoke"]) == run.main(["-m", "smoke", "seed=1,2"]) == 0
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert [str(path.parent.parent / path.name) for path in files] == ["runs/smoke/sweeps/sweep.yaml"]
    assert sys.argv == argv and "HYDRA_FULL_ERROR" not in os.environ


def test_resolved_settings_can_be_printed_and_used_as_a_recipe(
    started: list[RunConfig], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run.main(["smoke", "seed=4", "--cfg"]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "printed.yaml").write_text(printed)
    assert run.main(["printed"]) == run.main(["smoke", "seed=4"]) == 0
    assert started[0] == started[1]
    assert yaml.safe_load(printed)["seed"] == 4


@pytest.mark.parametrize("name", TRAININGS)
def test_every_recipe_can_be_looked_at_before_anything_is_given(
    started: list[RunConfig], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run.main([name, "--cfg", "optim.lr=0.125"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["optim"]["lr"] == 0.125 and shown["trainer"]["max_bad_steps"] == 10
    assert (shown["model"]["checkpoint"] == "???") == (name in TO_BE_GIVEN)
    if name not in TO_BE_GIVEN:  # complete settings are held against each other, too
        other = "synthetic.preset=demo" if name == "ablate_data_mix" else "data.root=/x"
        message = failure(capsys, name, "--cfg", other)
        assert message.startswith("error: data.root and synthetic are both set")
    assert failure(capsys, name, "--cfg", "optim.lrr=1").startswith("error: unknown key 'optim.lrr'")
    assert not started


def test_a_run_directory_is_a_recipe_that_continues_that_run(
    started: list[RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run.main(["smoke", "seed=9"]) == 0
    directory = RunDirectory(tmp_path / "runs" / "smoke" / "first")
    begin(directory, started[0], ["train.py"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run.main([str(directory.path)]) == run.main([str(directory.config), "run_id=second"]) == 0
    assert started[1] == dataclasses.replace(started[0], run_dir=directory.path)
    assert started[2] == dataclasses.replace(started[0], run_id="second")


def test_help_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from sam2.training.run import main; main(['--help']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "recipes/smoke.yaml" in done.stdout


def test_train_py_gives_its_exit_code_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), "smok"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        r"error: no recipe 'smok' here or in .*; did you mean recipes/smoke.yaml\?\n", done.stderr
    )


@pytest.mark.parametrize("missing", ["hydra", "torch"])
def test_a_python_without_the_packages_is_told_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    def find(argv: Sequence[str]) -> None:
        raise ModuleNotFoundError(f"No module named '{missing}.x'", name=f"{missing}.x")

    monkeypatch.setattr("sam2.training.compose.parse", find)
    assert run.main(["smoke"]) == 2
    said = capsys.readouterr().err
    assert f"{sys.executable} has no package {missing}" in said and len(said.splitlines()) == 1
    monkeypatch.setattr("sam2.training.failures.REQUIRED", ())
    with pytest.raises(ModuleNotFoundError):
        run.main(["smoke"])


def test_ctrl_c_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupt(stage: str, number: int) -> None:
        raise KeyboardInterrupt

    start = partial(run_toy, RunDirectory(tmp_path), toy_config(), interrupt)
    monkeypatch.setattr(run, "start", lambda config, command: start())
    handler = signal.getsignal(signal.SIGINT)
    assert run.main(["smoke"]) == 130
    signal.signal(signal.SIGINT, handler)  # Lightning ignores further ones
    assert "the same command continues" in capsys.readouterr().err


def test_a_mistake_in_the_data_is_one_line_and_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(config: RunConfig, command: Sequence[str]) -> None:
        raise DataError("a.tar: cut off", "media")  # the second word is the kind that `sam2 data check` names

    monkeypatch.setattr(run, "start", refuse)
    monkeypatch.chdir(tmp_path)
    assert run.main(["smoke"]) == 1
    assert capsys.readouterr().err == "error: a.tar: cut off\n"


def test_a_recipe_of_several_data_sets_needs_no_root(started: list[RunConfig], tmp_path: Path) -> None:
    mixture = "defaults: [finetune_video, _self_]\ndata: {datasets: [{root: /videos, weight: 2}, {root: /images}]}\n"
    (tmp_path / "mine.yaml").write_text(mixture)
    assert run.main([str(tmp_path / "mine.yaml"), "model.checkpoint=/x"]) == 0
    (config,) = started
    assert config.data.root is None
    assert [str(part.root) for part in config.data.datasets] == ["/videos", "/images"]
    assert run.main([str(tmp_path / "mine.yaml"), "model.checkpoint=/x", "data.root=/x"]) == 2


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_tells_its_story_and_resolves(started: list[RunConfig], name: str) -> None:
    lines = (shipped("recipes") / f"{name}.yaml").read_text().splitlines()
    story = [line[2:].split()[0] for line in lines if line.startswith("# ") and line[2] != " "]
    assert story == ["Goal", "Needs", "Run", "Expect", "Change"]
    if name in TRAININGS:
        assert run.main([name, *TO_BE_GIVEN.get(name, [])]) == 0


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_a_documented_grid_of_settings_and_seeds(started: list[RunConfig], name: str) -> None:
    assert run.main(["-m", name, *TO_BE_GIVEN.get(name, [])]) == 0
    by_settings: dict[str, set[int]] = {}
    for config in started:
        settings = to_plain(dataclasses.replace(config, seed=0, run_dir=None, logger=LoggerConfig()))
        by_settings.setdefault(str(settings), set()).add(config.seed)
    assert len(by_settings) >= 3 and all(seeds == {1, 2, 3} for seeds in by_settings.values())
    text = (shipped("recipes") / f"{name}.yaml").read_text()
    story = text[: text.index("defaults:")]
    assert f"# Expect  {len(started)} runs" in story and f"train.py -m recipes/{name}.yaml" in story


def test_the_command_of_the_memory_ablation_is_nine_runs(started: list[RunConfig]) -> None:
    assert run.main(["-m", "recipes/ablate_memory.yaml", "model.mem_dim=32,64,128", "seed=1,2,3"]) == 0
    assert [(c.model.mem_dim, c.seed) for c in started] == [(d, s) for d in (32, 64, 128) for s in (1, 2, 3)]


def test_each_image_encoder_of_an_ablation_starts_from_its_own_weights(started: list[RunConfig]) -> None:
    words = ["synthetic=null", "data.root=/x", "data.val_root=/y", "optim=finetune", "model.image_size=1024"]
    assert (
        run.main(["-m", "ablate_backbone", *words, "seed=1", "model.checkpoint=/weights/${model.name}.pt"])
        == 0
    )
    starts = [(c.model.name, str(c.model.checkpoint)) for c in started]
    assert starts == [(f"sam2.1_{size}", f"/weights/sam2.1_{size}.pt") for size in ("t", "s", "b+")]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_recipe_that_evaluates_fills_the_settings_of_an_evaluation(
    evaluated: list[BenchmarkConfig], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    data = "dataset=shards:/x" if name == "eval_shards" else "root=/x"
    assert run.main([name, "--cfg", "prompt=box"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["prompt"] == "box" and shown["checkpoint"] == "???" and shown["workers"] == 1
    assert run.main([name, "checkpoint=a.pt", data]) == 0
    config = evaluated[0]
    assert (config.checkpoint, config.prompt, config.out) == ("a.pt", "mask", None)
    assert config.dataset == (
        data.removeprefix("dataset=") if config.is_shards else name.removeprefix("eval_")
    )
    assert failure(capsys, name, data).startswith("error: checkpoint is not set")
    message = failure(capsys, name, "checkpoint=a.pt", data, "promt=box")
    assert message.startswith("error: unknown key 'promt'; did you mean 'prompt'?")
    message = failure(capsys, name, "checkpoint=a.pt", data, "task=score")
    assert message.startswith("error: task is 'score'; expected evaluate")
    assert len(evaluated) == 1


@pytest.mark.parametrize(("name", "kind"), OF_OTHER_KINDS.items())
def test_recipes_of_other_evaluations_have_their_own_settings(
    evaluated: list[BenchmarkConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys,
    tmp_path: Path,
    name: str,
    kind: type,
) -> None:
    assert run.main([name, "--cfg"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    missing = [key for key, value in shown.items() if value == "???"]
    assert {"checkpoint", "out"} < set(missing) and shown["task"] == name.replace("eval", "evaluate")
    configs: list[Any] = []

    def ended(config: Any, console: object) -> Ended:
        configs.append(config)
        return Ended(tmp_path)

    monkeypatch.setattr(evaluation_job, "run_evaluation", ended)
    given = [f"{key}=/x" for key in missing]
    assert run.main([name, *given]) == 0
    plain = kind(
        **{key: Path("/x") if key not in ("checkpoint", "dataset") else "/x" for key in missing}
        | ({"dataset": "davis2017"} if name == "eval_interactive" else {})
    )
    assert configs == [plain]  # what a recipe spells out are the defaults of the command line
    message = failure(capsys, name, *given, "clicks=0")
    assert "must be at least" in message
    message = failure(capsys, name, *given, "prompt=box")
    assert message.startswith("error: unknown key 'prompt'")


def test_a_sweep_of_evaluations_ends_in_a_table_of_them(
    evaluated: list[BenchmarkConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", "eval_mose", "checkpoint=a.pt", "root=/x", "prompt=mask,box,click3", "policy=samurai"]
    assert run.main([*words, "model=sam2.1_t"]) == 0
    assert [config.prompt for config in evaluated] == ["mask", "box", "click3"]
    # names of groups that training draws
    assert {(config.policy, config.model) for config in evaluated} == {("samurai", "sam2.1_t")}
    rows = [line for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [("prompt=box" in row, "60.0" in row) for row in rows[:1]] == [(True, True)]  # the best
    assert len(rows) == 3


def test_every_group_file_is_short_and_every_group_is_known() -> None:
    for file in shipped("configs").rglob("*.yaml"):
        assert 2 <= len(file.read_text().splitlines()) <= 25, file
        assert file.parent.name in RunConfig.__dataclass_fields__


def test_finetune_mose_is_the_released_recipe(started: list[RunConfig]) -> None:
    """Numbers typed from the released configuration: facebookresearch/sam2 2b90b9f, b+ MOSE fine-tuning."""
    assert run.main(["finetune_mose", "data.root=/x", "model.checkpoint=/x"]) == 0
    config = started[0]
    released: dict[Any, Any] = {
        "model": (config.model.name, config.image_size, config.model.drop_path, config.model.freeze),
        "rates": (config.optim.lr, config.optim.trunk_lr, config.optim.schedule, config.optim.final),
        "decay": (config.optim.layer_decay, config.optim.weight_decay, config.optim.warmup),
        "adam": (config.optim.betas, config.optim.eps, config.trainer.clip),
        "length": (config.trainer.epochs, config.trainer.devices, config.trainer.accumulate),
        "clips": (config.data.batch, config.data.frames, config.data.max_objects, config.data.repeat),
        "sampling": (config.data.sampling.stride_max, config.data.sampling.reverse_probability),
        "precision": config.trainer.precision,
        "start": (config.prompts.point_start, config.prompts.box_start, config.prompts.first_frames),
        "corrections": (config.prompts.corrected_frames, config.prompts.clicks, config.prompts.truth_clicks),
        "noise": (config.prompts.vary, config.prompts.box_noise, config.prompts.box_noise_px),
        "loss": (config.loss.mask, config.loss.dice, config.loss.iou, config.loss.object),
        "heads": (config.loss.supervise_all_ious, config.loss.iou_l1, config.loss.object_scores),
    }
    assert released == {
        "model": ("sam2.1_b+", 1024, 0.1, ()),
        "rates": (5e-6, 3e-6, "cosine", 0.1),
        "decay": (0.9, 0.1, 0.0),
        "adam": ((0.9, 0.999), 1e-8, 0.1),
        "length": (40.0, 8, 1),
        "clips": (1, 8, 3, 2),
        "sampling": (1, 0.0),
        "precision": "bf16-mixed",
        "start": (0.5, 0.5, 2),
        "corrections": (2, 7, 0.1),
        "noise": (True, 0.1, 20.0),
        "loss": (20.0, 1.0, 1.0, 1.0),
        "heads": (True, True, True),
    }
    augment = config.data.augment
    assert (augment.horizontal_flip, augment.affine, augment.degrees, augment.shear) == (0.5, 1.0, 25.0, 20.0)
    assert (augment.brightness, augment.contrast, augment.saturation, augment.grayscale) == (
        0.1,
        0.03,
        0.03,
        0.05,
    )
    assert (augment.frame_brightness, augment.frame_contrast, augment.frame_saturation) == (0.1, 0.05, 0.05)


@pytest.mark.slow
def test_a_sweep_trains_in_two_directories_and_repeats_nothing(tmp_path: Path) -> None:
    words = ["-m", "smoke", "optim.lr=1e-4,3e-4", "evaluate.at_start=false"]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs = sorted((tmp_path / "runs" / "smoke").glob("*-*"))
    assert [path.name[:4] for path in runs] == ["001-", "002-"]
    rates = [resolve(yaml.safe_load((path / "config.yaml").read_text()), "smoke").optim.lr for path in runs]
    assert rates == [1e-4, 3e-4]
    for path in runs:
        with (path / "metrics.csv").open() as file:
            assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
        assert (path / "export" / "model.pt").is_file() and (path / "report.html").is_file()
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert [f"done already: {path}" in again.stdout.splitlines() for path in runs] == [True, True]
    assert all(len(RunDirectory(path).read_record()["starts"]) == 1 for path in runs)


@pytest.mark.slow
def test_an_ablation_runs_from_its_recipe_to_its_table(tmp_path: Path) -> None:
    small = ["synthetic.train=4", "synthetic.held_out=2", "trainer.max_steps=2", "evaluate.every_steps=null"]
    words = ["ablate_memory", "model.mem_dim=8,16", "seed=1", "model=test", *small, "data.workers=0"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", *words, "data.batch=1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "runs" / "ablate_memory" / "sweeps").iterdir()
    found = tabulate(gather([sweep]))
    assert [(row.values, row.finished, row.asked) for row in found.rows] == [((8,), 1, 1), ((16,), 1, 1)]
    for row in found.rows:
        assert row.score is not None and 0 <= row.score.value <= 100 and row.score.over == "2 videos"
        assert row.device_hours is not None and row.device_hours > 0 and row.memory_gb is not None
    assert found.device == "CPU" and not found.unfinished
