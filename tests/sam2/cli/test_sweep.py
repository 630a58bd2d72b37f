"""`sam2 sweep` as a person types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sam2.cli.sweep import app
from tests.sam2.training.sweeps.left_behind import leave_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for dim, score in ((32, 60.0), (64, 70.0)):
        for seed in (1, 2):
            settings = {"seed": seed, "model": {"mem_dim": dim}}
            metrics = "".join(f"{step},{9 - step - seed / 4},{score + step}\n" for step in range(1, 5))
            leave_run(
                tmp_path / f"{dim}-{seed}",
                settings,
                [score + seed],
                metrics=f"step,train/loss,val/J&F\n{metrics}",
            )
    return tmp_path


def said(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


def test_a_table_is_printed_or_written(runs: Path) -> None:
    printed = said("table", runs, "--baseline", "model.mem_dim=64")
    assert "baseline" in printed and "-10.0" in printed
    written = said("table", runs, "--out", runs / "table.md")
    assert written.strip() == f"table      {runs / 'table.md'}"
    assert "| 64 | 71.5 " in (runs / "table.md").read_text()
    assert "exists; choose another name or add --overwrite" in said(
        "table", runs, "--out", runs / "table.md", code=2
    )
    said("table", runs, "--out", runs / "table.md", "--overwrite")


def test_curves_are_drawn_into_a_file(runs: Path) -> None:
    assert said("plot", runs, "--out", runs / "c.svg").strip() == f"curves     {runs / 'c.svg'}"
    assert "model.mem_dim=32  (2 seeds)" in (runs / "c.svg").read_text()
    assert "exists" in said("plot", runs, "--out", runs / "c.svg", code=2)
    assert "not as .pdf" in said("plot", runs, "--out", runs / "c.pdf", code=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metric", "J&G"], "error: no finished run has a J&G; did you mean 'J&F'?"),
        (["--baseline", "model.mem_dim"], "error: 'model.mem_dim' is no setting; write key=value"),
        (
            ["--baseline", "seed=1"],
            "error: the runs do not differ in 'seed'; they differ in: model.mem_dim",
        ),
        (["--out", "x.pdf"], "error: x.pdf: a table is written as .md, .csv, .html, not as .pdf"),
    ],
)
def test_mistakes_are_one_line(runs: Path, words: list[str], message: str) -> None:
    output = said("table", runs, *words, code=1)
    assert output.startswith(message) and len(output.strip().splitlines()) == 1


def test_a_table_needs_no_torch(runs: Path) -> None:
    code = (
        "import sys; from sam2.cli.sweep import app\n"
        f"try: app(['table', {str(runs)!r}])\n"
        "finally: assert not {'torch', 'lightning', 'hydra'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0 and "J&F, 4 of 4 runs" in done.stdout, done.stderr
