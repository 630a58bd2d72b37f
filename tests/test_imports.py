"""Who may import whom: the rooms of the house and the doors between them, read from the source."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"lightning", "pytorch_lightning", "hydra", "webdataset", "wandb"}
MAY_TRAIN = ("train", "sam2.training", "sam2.cli")
FORBIDDEN_NAMES = {"utils", "util", "misc", "helpers", "helper", "common"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    found = [*ROOT.glob("*.py"), *(ROOT / "sam2").rglob("*.py"), *(ROOT / "data").rglob("*.py")]
    return {module_name(path): path for path in found}


def import_nodes(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All import statements, those inside functions too, but not those that only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from import_nodes(ast.Module(node.orelse, []))
        else:
            yield from import_nodes(node)


@cache
def imported(module: str) -> frozenset[str]:
    """Dotted names that a module imports: ours as modules, others as they are written."""
    path = sources()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = set()
    for node in import_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            continue
        base = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, base] if base else above)
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            names.add(inner if inner in sources() else base)
    return frozenset(names)


def ours(module: str) -> set[str]:
    """The project's modules that a module imports."""
    return {name for name in imported(module) if name in sources()}


def reach(module: str) -> dict[str, str]:
    """Everything that importing `module` can reach inside the project, each with the module that leads there."""
    found = {module: ""}
    todo = [module]
    while todo:
        here = todo.pop()
        for name in ours(here) - found.keys():
            found[name] = here
            todo.append(name)
    return found


def inside(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def light_modules() -> list[str]:
    """Those that a user imports to run a model: all of `sam2` but training and the command line."""
    return [m for m in sorted(sources()) if inside(m, "sam2") and not inside(m, "sam2.training", "sam2.cli")]


def test_the_walk_sees_the_project_and_every_form_of_import():
    assert {"sam2", "data", "sam2.model.sam2", "data.clip", "sam2_train"} <= sources().keys()
    assert "sam2.evaluation.boundary" in imported("sam2.evaluation.jf")
    code = "if TYPE_CHECKING:\n    import a\nelse:\n    import b\ndef f():\n    from c import d\n"
    assert [ast.unparse(node) for node in import_nodes(ast.parse(code))] == ["import b", "from c import d"]


def test_data_never_imports_sam2():
    found = [
        (m, n) for m in sources() if inside(m, "data") for n in imported(m) if inside(n, "sam2", "sam2_train")
    ]
    assert not found


@pytest.mark.parametrize("module", light_modules())
def test_using_a_model_needs_no_training_stack(module):
    for name, through in reach(module).items():
        outside = {
            n for n in imported(name) if n.split(".")[0] in HEAVY or inside(n, "data", "sam2.training")
        }
        assert not outside, f"{module} reaches {sorted(outside)} in {name} (through {through or 'itself'})"


def test_only_the_main_job_and_the_command_line_import_training():
    users = [
        m
        for m in sources()
        if not inside(m, *MAY_TRAIN) and any(inside(n, "sam2.training") for n in imported(m))
    ]
    assert not users


def test_modules_import_each_other_in_no_circle():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            pytest.fail(" -> ".join([*path[path.index(module) :], module]))
        if module not in done:
            for name in sorted(ours(module)):
                visit(name, (*path, module))
            done.add(module)

    for module in sorted(sources()):
        visit(module, ())


def test_no_module_is_a_drawer_for_leftovers():
    assert not [m for m in sources() if m.rpartition(".")[2] in FORBIDDEN_NAMES]


def test_everything_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [lines for name, lines in project["optional-dependencies"].items() if name != "test"]
    lines = sum(extras, project["dependencies"])
    declared = {normal(re.split(r"[<>=\[; ]", line)[0]) for line in lines}
    providers = packages_distributions()
    known = sys.stdlib_module_names | {"sam2", "data", "sam2_train"}
    missing = {
        f"{module} imports {name}"
        for module in sources()
        for name in {n.split(".")[0] for n in imported(module)} - known
        if not declared & {normal(distribution) for distribution in providers.get(name, [name])}
    }
    assert not missing, "pyproject.toml does not name their distributions"


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_a_model_loads_nothing_of_the_training_stack_but_what_timm_brings(tmp_path):
    """That is wandb, a tenth of the time of `import sam2.build_sam` (0.3 of 3.1 s), which cannot be spared here.

    Every module of timm, `timm.models.hieradet_sam2` alone too, runs `timm/__init__`, which imports all models; those
    import `timm.data`, its readers `timm.utils.misc`, and that package `timm.utils.summary`, which tries wandb.
    """
    code = f"""
import sys
import timm.models.hieradet_sam2
names = {sorted(HEAVY | {"tensorboard", "omegaconf", "data"})}
brought = {{name for name in names if name in sys.modules}}
from sam2.build_sam import build_sam2, build_sam2_video_predictor
from sam2.sam2_image_predictor import SAM2ImagePredictor
SAM2ImagePredictor(build_sam2("test", device="cpu"))
build_sam2_video_predictor("test", device="cpu")
print(*(name for name in names if name in sys.modules and name not in brought), "beside", *brought)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout in ("beside wandb\n", "beside\n"), done.stdout + done.stderr


def test_a_model_is_built_where_the_training_stack_cannot_be_imported(tmp_path):
    """So Hydra is not initialised either: a host application's own stays as it was."""
    code = f"""
import sys
import sam2
assert "torch" not in sys.modules, "importing sam2 alone must be instant"
for name in {sorted(HEAVY | {"data"})}:
    sys.modules[name] = None  # importing it raises ImportError; timm tries wandb by itself and goes on
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor
print(type(SAM2ImagePredictor(build_sam2("test", device="cpu"))).__name__)
"""
    python = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(python, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout == "SAM2ImagePredictor\n", done.stderr
