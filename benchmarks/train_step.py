"""One training step: the released SAM 2 training code and ours, on equal weights, frames and clicks.

Run: python benchmarks/train_step.py --reference DIR [--install-reference] [--rounds 5] [--check] [--write]

DIR holds the released code, outside of this repository and its environment: `--install-reference` puts the package
`sam2` of the package index (which contains `training`) and what it needs beyond our own dependencies there.

A step is forward, loss and backward of SAM 2.1 tiny on 4 frames x 2 objects at 512 px: a click on frame 0, 7
corrections there, 3 tracked frames; float32, train mode, dropout and drop path as in the released recipe. Each side
runs in a fresh process, one after the other, `--rounds` times; ratios are formed within a round and their median
counts. `--check` first shows that the work is equal: the reference must reproduce the recorded loss of tests/golden,
and both sides must agree with dropout off.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
TITLE = "## Training step, released code against ours"
COLUMNS = (
    "date|commit|hardware|versions|case|reference s|ours s|times faster|reference MiB|ours MiB|memory ratio"
)
# beyond our own dependencies, and by name so that nothing of ours is installed twice
REFERENCE_PACKAGES = ("sam2==1.1.0", "tensordict", "iopath", "portalocker", "pyvers", "orjson", "cloudpickle")


def install_reference(folder: Path) -> None:
    """Install the released code into `folder` without touching this environment."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(folder)]
    subprocess.run([*pip, "setuptools", "wheel"], check=True)
    # built with the torch that is here, else pip downloads another one to build a package that compiles nothing
    around = {**os.environ, "SAM2_BUILD_CUDA": "0", "PYTHONPATH": str(folder)}
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", *REFERENCE_PACKAGES], check=True, env=around)


def run(side: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure one side in a fresh process. This one stays small: on Linux a child inherits its peak memory."""
    threads = str(settings["threads"])
    around = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    around.pop("PYTHONPATH", None)
    command = [sys.executable, str(HERE / "train_step_child.py"), side, json.dumps(settings)]
    done = subprocess.run(command, env=around, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def check(settings: dict[str, Any]) -> None:
    """Stop unless both sides do the work that was recorded, and the same work in the case that is measured."""
    fixed = {**settings, "dropout": False, "repeats": 0}
    golden = {**fixed, "size": 512, "first": [0, 2], "corrected": [0, 2]}
    reference = run("reference", golden)
    compare("the reference and its recorded run", reference["terms"], reference["recorded_terms"])
    theirs, ours = run("reference", fixed), run("ours", fixed)
    compare("the reference and ours", theirs["terms"], ours["terms"])
    for name in ("decoder_calls", "parameters_with_gradient"):
        if theirs[name] != ours[name]:
            raise SystemExit(
                f"{name}: {theirs[name]} in the reference, {ours[name]} in ours; the work is not equal"
            )
    norms = [{"norm": side["gradient_norm"]} for side in (theirs, ours)]
    compare("gradient norms", norms[0], norms[1], tolerance=2e-3)


def compare(what: str, one: dict[str, float], other: dict[str, float], tolerance: float = 1e-4) -> None:
    """Stop if two sets of numbers differ by more than `tolerance`, relatively."""
    worst = max(abs(one[name] - other[name]) / abs(other[name]) for name in other)
    print(f"{what}: {worst:.1e} apart ({', '.join(f'{name} {value:.5g}' for name, value in one.items())})")
    if not worst <= tolerance:
        raise SystemExit(f"{what} differ by {worst:.1e}, more than {tolerance}; no time is worth printing")


def table(
    reference: list[dict[str, Any]], ours: list[dict[str, Any]]
) -> tuple[list[str], dict[str, tuple[float, ...]]]:
    """Lines to print, and for each quantity the medians of both sides and of the ratios."""
    lines, medians = ["| | reference | ours | reference / ours (median, range) |", "|---|---|---|---|"], {}
    names = {
        "wall_s": "seconds",
        "cpu_s": "CPU seconds",
        "peak_mb": "peak MiB",
        "setup_mb": "MiB before the first step",
    }
    for key, name in names.items():
        ratios = [a[key] / b[key] for a, b in zip(reference, ours, strict=True)]
        values = [statistics.median(side[key] for side in sides) for sides in (reference, ours)]
        medians[key] = (*values, statistics.median(ratios))
        digits = 0 if key.endswith("mb") else 2
        cells = [f"{value:.{digits}f}" for value in values]
        cells.append(f"{medians[key][2]:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines, medians


def result_row(medians: dict[str, tuple[float, ...]], settings: dict[str, Any], rounds: int) -> str:
    """The row of RESULTS.md."""
    case = (
        f"2.1 tiny, {settings['size']} px, {settings['frames']} frames x 2 objects, {settings['clicks']} corrections, "
        f"fp32, {settings['threads']} threads, {rounds} rounds, recompute={settings['recompute']}"
    )
    (slow, fast, faster), (much, less, _) = medians["wall_s"], medians["peak_mb"]
    cells = [
        str(date.today()),
        commit(),
        hardware(),
        f"torch {version('torch')}, Python {platform.python_version()}",
    ]
    cells += [
        case,
        f"{slow:.2f}",
        f"{fast:.2f}",
        f"{faster:.2f}",
        f"{much:.0f}",
        f"{less:.0f}",
        f"{less / much:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def append_row(path: Path, row: str) -> None:
    """Put `row` under the table of this benchmark, which is made if it is not there."""
    text = path.read_text() if path.exists() else "# Measured\n"
    if TITLE not in text:
        names = COLUMNS.split("|")
        header = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
        text = text.rstrip("\n") + "\n\n" + "\n".join([TITLE, "", *header]) + "\n"
    lines = text.split("\n")
    last = lines.index(TITLE) + 1
    while last + 1 < len(lines) and (not lines[last] or lines[last + 1].startswith("|")):
        last += 1
    lines.insert(last + 1, row)
    path.write_text("\n".join(lines))


def commit() -> str:
    """The commit that was measured, marked when files differ from it."""
    git = ["git", "-C", str(HERE)]
    name = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    changed = subprocess.run(
        [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
    ).stdout
    return name + (" + changes" if changed.strip() else "")


def hardware() -> str:
    """Processor and number of cores."""
    cpuinfo = Path("/proc/cpuinfo")
    found = (
        [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if cpuinfo.exists()
        else []
    )
    name = found[0].split(":", 1)[1].strip() if found else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def main() -> None:
    """Print the table; with --write also append a row to RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--reference", type=Path, required=True, metavar="DIR", help="where the released code is"
    )
    parser.add_argument("--install-reference", action="store_true", help="install it there first")
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes of each side")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps in a process, after one warm-up")
    parser.add_argument("--size", type=int, default=512, help="pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--recompute", choices=("none", "light", "full"), default="none", help="model.recompute"
    )
    parser.add_argument("--check", action="store_true", help="show first that both sides do equal work")
    parser.add_argument("--write", action="store_true", help="append a row to benchmarks/RESULTS.md")
    given = parser.parse_args()
    folder = given.reference.resolve()
    if folder.is_relative_to(HERE.parent):
        parser.error(f"{folder} is inside this repository; the released code must stay outside")
    if given.install_reference:
        install_reference(folder)
    if not (folder / "training" / "loss_fns.py").is_file():
        parser.error(f"{folder} does not hold the released training code; add --install-reference")
    settings = {
        "frames": 4,
        "clicks": 7,
        **{k: getattr(given, k) for k in ("size", "threads", "repeats", "recompute")},
    }
    settings["reference"] = str(folder)
    if given.check:
        check(settings)
    sides: dict[str, list[dict[str, Any]]] = {"reference": [], "ours": []}
    for number in range(given.rounds):
        for side, found in sides.items():
            found.append(run(side, settings))
            print(
                f"round {number + 1}: {side} {found[-1]['wall_s']:.2f} s, {found[-1]['peak_mb']:.0f} MiB",
                flush=True,
            )
    lines, medians = table(**sides)
    row = result_row(medians, settings, given.rounds)
    print("\n".join(["", *lines, "", row]))
    if given.write:
        append_row(RESULTS, row)


if __name__ == "__main__":
    main()
