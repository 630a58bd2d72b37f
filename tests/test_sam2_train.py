"""Another module with one of our names is reported in plain words; every case runs in a fresh Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import data
import sam2
import sam2_train

ROOT = Path(__file__).parents[1]


@pytest.fixture
def installed(tmp_path):
    """A folder that looks like site-packages with this project in it; its `sam2` command only says hello."""
    site = tmp_path / "site"
    for package in ("sam2", "data"):
        (site / package).mkdir(parents=True)
        shutil.copy(ROOT / package / "__init__.py", site / package)
    (site / "sam2" / "cli").mkdir()
    (site / "sam2" / "cli" / "__init__.py").write_text("def main():\n    print('hello')\n")
    shutil.copy(ROOT / "sam2_train.py", site)
    return site


def command(site: Path, *earlier: Path) -> subprocess.CompletedProcess[str]:
    """Run the `sam2` command with `earlier` before `site` on the path; -S keeps this project's own install out."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*earlier, site]))}
    code = "import sam2_train; sam2_train.main()"
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=environment,
        cwd=site.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_our_own_packages_pass(installed):
    assert command(installed).stdout == "hello\n"
    sam2_train.check_names()


def test_the_tests_see_our_data_and_not_their_own_folder():
    assert Path(data.__file__) == ROOT / "data" / "__init__.py"
    assert Path(sam2.__file__) == ROOT / "sam2" / "__init__.py"


@pytest.mark.parametrize("name", ["sam2", "data"])
@pytest.mark.parametrize("form", ["package", "module"])
def test_a_module_of_the_same_name_is_named(installed, tmp_path, name, form):
    other = tmp_path / "mine" / (f"{name}.py" if form == "module" else f"{name}/__init__.py")
    other.parent.mkdir(parents=True)
    other.write_text("raise SystemExit('must not be imported')\n")
    done = command(installed, tmp_path / "mine")
    assert done.returncode == 1
    assert done.stderr.startswith(f"sam2: {other} hides the package '{name}' of sam2-train")
    assert "uninstall" in done.stderr
    assert done.stderr.count("\n") == 1  # no traceback


def test_a_plain_folder_called_data_hides_nothing(installed, tmp_path):
    (tmp_path / "mine" / "data").mkdir(parents=True)
    assert command(installed, tmp_path / "mine").stdout == "hello\n"


def test_a_distribution_that_overwrote_our_sam2_is_noticed(installed):
    (installed / "sam2" / "__init__.py").write_text("from hydra import initialize_config_module\n")
    done = command(installed)
    assert done.returncode == 1
    assert "another distribution has overwritten" in done.stderr
    assert "pip uninstall" in done.stderr


def test_a_missing_package_is_noticed(installed):
    shutil.rmtree(installed / "data")
    done = command(installed)
    assert done.returncode == 1
    assert "no package 'data'" in done.stderr


def test_training_checks_the_names_before_it_imports_data(tmp_path):
    (tmp_path / "data.py").write_text("raise SystemExit('must not be imported')\n")
    done = subprocess.run(
        [sys.executable, "-c", "import sam2.training"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"HiddenPackageError: {tmp_path / 'data.py'} hides the package 'data'" in done.stderr
