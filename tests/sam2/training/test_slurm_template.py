"""The committed slurm/*.sbatch: equal to what the renderer writes, and run by a plain shell with a pretended srun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sam2.slurm.templates import templates

ROOT = Path(__file__).parents[3]
JOB = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NAME": "sam2-train",
    "SLURM_JOB_NODELIST": "localhost",
    "SLURM_NODELIST": "localhost",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "MASTER_ADDR": "127.0.0.1",
}
# starts the command behind srun's options twice, numbered as SLURM numbers tasks; the worst exit code is its own
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
pids=()
for task in 0 1; do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 SLURM_STEP_NUM_TASKS=2 "$@" & pids+=($!)
done
worst=0
for pid in "${pids[@]}"; do wait "$pid" || worst=$?; done
exit $worst
"""
# what a cluster would look at is not looked at; everything else is Python
PYTHON = f"""#!/bin/bash
[ "$3" != sam2.slurm.preflight ] || exit 0
exec {sys.executable} "$@"
"""
# in one piece, or the lines of two tasks mingle
SAY_WORDS = "import sys\nsys.stdout.write(' '.join(sys.argv[1:]) + '\\n')\n"
FINISHED = "import json, sys\nfrom pathlib import Path\n" + (
    "run = Path(next(word[9:-1] for word in sys.argv if word.startswith('run_dir=')))\n"
    "(run / 'run.json').write_text(json.dumps({'finished': {'step': 1}}, indent=1))\n"
)


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def submit(
    folder: Path, name: str, *arguments: str, looks: bool = False, **variables: str
) -> subprocess.CompletedProcess[str]:
    """What sbatch would do with a template in `folder`."""
    program(folder / "bin" / "srun", SRUN)
    python = sys.executable if looks else str(program(folder / "bin" / "python", PYTHON))
    around = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
    own = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(folder),
        "PYTHON": python,
        "SAM2_HOME": str(ROOT),
    }
    script = ["bash", str(ROOT / "slurm" / f"{name}.sbatch"), *arguments]
    environment = {**around, **JOB, **own, **variables}
    return subprocess.run(script, env=environment, capture_output=True, text=True, timeout=300, cwd=folder)


def checkout(folder: Path, train: str) -> str:
    """A folder with this project's packages and another train.py."""
    (folder / "code").mkdir()
    for package in ("sam2", "data"):
        (folder / "code" / package).symlink_to(ROOT / package)
    (folder / "code" / "train.py").write_text(train)
    return str(folder / "code")


@pytest.mark.parametrize("name", sorted(templates()))
def test_a_committed_template_is_what_the_renderer_writes(name: str) -> None:
    hint = "python -m sam2.slurm.templates slurm"
    assert (ROOT / "slurm" / name).read_text() == templates()[name], hint
    checked = subprocess.run(["bash", "-n"], input=templates()[name], text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_nothing_but_the_renderers_templates_is_committed() -> None:
    assert {path.name for path in (ROOT / "slurm").glob("*.sbatch")} == templates().keys()


def test_every_task_gets_the_arguments_and_one_run_directory(tmp_path: Path) -> None:
    words = "json.dumps([os.environ['SLURM_PROCID'], *sys.argv[1:]])"
    code = checkout(tmp_path, f"import json, os, sys\nos.write(1, ({words} + '\\n').encode())\n{FINISHED}")
    for given, place in (
        ({}, tmp_path / "runs" / "slurm-77"),
        ({"RUN_DIR": "some where"}, tmp_path / "some where"),
    ):
        done = submit(
            tmp_path, "single_node", "recipes/smoke.yaml", "goal=two words", SAM2_HOME=code, **given
        )
        assert done.returncode == 0, done.stderr
        shape = ["trainer.nodes=1", "trainer.devices=2"]
        heard = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("[")]
        wanted = [
            [task, "recipes/smoke.yaml", "goal=two words", f"run_dir='{place}'", *shape] for task in "01"
        ]
        assert sorted(heard) == wanted


def test_a_member_of_the_array_takes_its_line_and_a_directory_of_its_own(tmp_path: Path) -> None:
    code = checkout(tmp_path, f"{SAY_WORDS}{FINISHED}")
    (tmp_path / "members.txt").write_text("seed=1\noptim.lr=1e-4 seed=2\n\n")
    for task, wanted in (("1", "smoke goal=x optim.lr=1e-4 seed=2 run_dir="), ("2", "smoke goal=x run_dir=")):
        member = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": task}
        done = submit(tmp_path, "array", "members.txt", "smoke", "goal=x", SAM2_HOME=code, **member)
        assert done.returncode == 0, done.stderr
        assert wanted in done.stdout and (tmp_path / "runs" / "array-70" / task / "run.json").is_file()


def test_a_share_of_an_evaluation_is_that_of_the_array(tmp_path: Path) -> None:
    code = checkout(tmp_path, SAY_WORDS)
    member = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}
    done = submit(
        tmp_path, "evaluation_array", "recipes/eval_mose.yaml", "root=/data", SAM2_HOME=code, **member
    )
    assert done.returncode == 0 and "recipes/eval_mose.yaml root=/data share=3/8\n" in done.stdout, (
        done.stderr
    )


def test_the_chain_submits_a_training_and_an_evaluation_that_waits_for_it(tmp_path: Path) -> None:
    sbatch = '#!/bin/bash\nprintf "%s|" "$@" >> calls\necho "run:$RUN_DIR" >> calls\necho 4$(wc -l < calls)\n'
    program(tmp_path / "bin" / "sbatch", sbatch)
    given = ("smoke", "goal=a b", "--", "recipes/eval_mose.yaml", "root=/data")
    done = submit(tmp_path, "train_then_evaluate", *given, SLURM_JOB_ID="", RUN_DIR="/run's")
    first, second = (tmp_path / "calls").read_text().splitlines()
    slurm = ROOT / "slurm"
    assert first == f"--parsable|{slurm}/train_then_evaluate.sbatch|smoke|goal=a b|run:/run's"
    dependent = "--parsable|--dependency=afterok:41|--kill-on-invalid-dep=yes"
    settings = r"recipes/eval_mose.yaml|root=/data|checkpoint='/run\'s'|"
    assert second.startswith(f"{dependent}|{slurm}/evaluation_array.sbatch|{settings}")
    assert "41 trains in /run's; job 42 evaluates" in done.stdout


def test_each_job_of_the_chain_takes_the_options_before_its_recipe(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "sbatch", '#!/bin/bash\nprintf "%s|" "$@" >> calls\necho >> calls\necho 41\n')
    given = (
        "--time=1:00",
        "--comment=a b",
        "smoke",
        "seed=1",
        "--",
        "--array=1-2",
        "eval_mose",
        "root=/data",
    )
    done = submit(tmp_path, "train_then_evaluate", *given, SLURM_JOB_ID="")
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert (
        first == f"--parsable|--time=1:00|--comment=a b|{ROOT}/slurm/train_then_evaluate.sbatch|smoke|seed=1|"
    )
    assert f"|--array=1-2|{ROOT}/slurm/evaluation_array.sbatch|eval_mose|root=/data|checkpoint=" in second


def test_the_chain_submits_nothing_without_two_recipes(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "sbatch", "#!/bin/bash\ntouch called\n")
    for given, problem in (
        (("smoke",), "a recipe, -- and the recipe"),
        (("smoke", "--", "--array=1-2"), "a recipe, -- and the recipe"),
        (("--time=1:00", "--", "eval_mose"), "a recipe, -- and the recipe"),
        (("-p", "gpu", "smoke", "--", "eval_mose"), "--name=value"),
    ):
        done = submit(tmp_path, "train_then_evaluate", *given, SLURM_JOB_ID="")
        assert done.returncode == 2 and problem in done.stderr, given
    assert not (tmp_path / "called").exists()


def test_the_exit_code_is_the_trainings(tmp_path: Path) -> None:
    code = checkout(tmp_path, "import sys\nsys.exit(7)\n")
    assert submit(tmp_path, "single_node", "smoke", SAM2_HOME=code).returncode == 7


def test_a_run_that_ended_well_without_being_finished_is_no_success(tmp_path: Path) -> None:
    """As srun does when a node died."""
    done = submit(tmp_path, "single_node", "smoke", SAM2_HOME=checkout(tmp_path, "pass\n"))
    assert done.returncode == 1 and "not finished" in done.stderr


@pytest.mark.parametrize("name", sorted(templates()))
def test_outside_of_slurm_it_says_how_it_is_meant(tmp_path: Path, name: str) -> None:
    done = submit(tmp_path, name.removesuffix(".sbatch"), SLURM_JOB_ID="")
    assert done.returncode == 2 and f"slurm/{name} " in done.stderr and "unbound" not in done.stderr


@pytest.mark.slow
def test_two_tasks_train_together_and_a_requeued_job_finds_its_run(tmp_path: Path) -> None:
    settings = (
        "smoke",
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "evaluate.at_start=false",
        "trainer.max_steps=2",
    )
    done = submit(tmp_path, "single_node", *settings, looks=True)
    assert done.returncode == 0, done.stderr
    assert "2 tasks, CPU, gloo: all well" in done.stderr
    run = tmp_path / "runs" / "slurm-77"
    assert (run / "export" / "model.pt").is_file()
    assert (run / "log" / "rank-0.txt").is_file() and (run / "log" / "rank-1.txt").is_file()
    again = submit(tmp_path, "single_node", *settings, SLURM_RESTART_COUNT="1")
    assert again.returncode == 0 and again.stdout.count("is finished") == 2
