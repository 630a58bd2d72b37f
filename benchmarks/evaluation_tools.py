"""The published tools that score video object segmentation, beside ours: PNG files in, J and F of every object out.

Used by benchmarks/evaluation.py. One folder, outside of this repository and its environment, holds whichever there are:

    python benchmarks/evaluation.py --tools DIR --install-tools        # vos-benchmark, OpenCV, scikit-image, SciPy
    git clone https://github.com/davisvideochallenge/davis2017-evaluation DIR/davis2017-evaluation
    git clone https://github.com/facebookresearch/sam2 DIR/sam2        # sav_evaluator is in its sav_dataset

A tool that is not there is named as not measured. Each is run as it is, by its own functions, in one process, on the
layout that it was made for; ours runs on the same files by the protocol of the same name. Both sides are fresh
processes in turn; all numbers are compared before a time is printed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import Table, fresh_process

CASES = ((480, 854, 3, 60), (1080, 1920, 4, 20))  # height, width, objects, frames
SAME = 1e-10  # percent: the tools add up in another order
TABLE = Table(
    "J and F from PNG files, the published tools against ours",
    ("case", "tool", "tool s", "ours s", "times faster", "each round", "tool peak MB", "ours peak MB"),
)


@dataclass(frozen=True)
class Tool:
    """A published tool.

    Attributes:
        name: of the tool, and of the function that runs it in evaluation_child.py (with `_` for `-`).
        file: what must be in the folder of the tools.
        clone: the clone that it is in; None if it is installed.
        protocol: ours.
        layout: "palette" (SEQUENCE/FRAME.png) or "folders" (SEQUENCE/OBJECT/FRAME.png).
    """

    name: str
    file: str
    clone: str | None
    protocol: str
    layout: str

    def version(self, folder: Path) -> str:
        """Its name with the version that is installed, or with the commit of its clone."""
        if self.clone is None:
            found = next(iter(distributions(name=self.name, path=[str(folder)])))
            return f"{self.name} {found.version}"
        if not (folder / self.clone / ".git").exists():
            return self.name
        git = ["git", "-C", str(folder / self.clone), "rev-parse", "--short", "HEAD"]
        return f"{self.name} {subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()}"


TOOLS = (
    Tool(
        "davis2017-evaluation",
        "davis2017-evaluation/davis2017/evaluation.py",
        "davis2017-evaluation",
        "davis2017",
        "palette",
    ),
    Tool("vos-benchmark", "vos_benchmark/benchmark.py", None, "vos", "palette"),
    Tool("sav_evaluator", "sam2/sav_dataset/utils/sav_benchmark.py", "sam2", "sav", "folders"),
)
# by name and without what they ask for, so that nothing of ours is installed twice
PACKAGES = (
    "vos-benchmark==0.1.0",
    "opencv-python-headless",
    "scikit-image",
    "scipy",
    "lazy-loader",
    "imageio",
    "tifffile",
    "tqdm",
)


def install(folder: Path) -> None:
    """Put what the package index has into `folder`, without touching this environment."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--upgrade",
        "--no-deps",
        "--target",
        str(folder),
    ]
    subprocess.run([*pip, *PACKAGES], check=True)


def found_tools(folder: Path) -> tuple[Tool, ...]:
    """The tools that are in `folder`."""
    return tuple(tool for tool in TOOLS if (folder / tool.file).is_file())


def rows(folder: Path, rounds: int) -> Iterator[str]:
    """One row of `TABLE` for every case and tool that is there; says which are not."""
    found = found_tools(folder)
    for tool in TOOLS:
        if tool not in found:
            print(f"{tool.name} is not measured: {folder / tool.file} is not there", flush=True)
    for case in CASES:
        for tool in found:
            yield _row(folder, tool, case, rounds)


def _row(folder: Path, tool: Tool, case: tuple[int, int, int, int], rounds: int) -> str:
    height, width, objects, frames = case
    runs: dict[str, list[dict[str, Any]]] = {tool.name: [], "ours": []}
    with TemporaryDirectory() as root:
        settings: dict[str, Any] = {"root": root, "tools": str(folder), "threads": 1, "frames": frames}
        settings |= {"size": (height, width, objects), "layout": tool.layout, "protocol": tool.protocol}
        fresh_process("evaluation_child.py", "draw", settings)
        for _ in range(rounds):
            for side, answers in runs.items():
                answers.append(fresh_process("evaluation_child.py", side, settings))
    theirs, ours = runs.values()
    what = f"{height}x{width}, {objects} objects, {frames} frames, {tool.layout}, {rounds} rounds"
    _check_numbers(f"{tool.name}, {what}", theirs[0]["numbers"], ours[0]["numbers"])
    seconds = [min(run["seconds"] for run in answers) for answers in (theirs, ours)]
    ratios = sorted(a["seconds"] / b["seconds"] for a, b in zip(theirs, ours, strict=True))
    cells = [what, tool.version(folder), *(f"{s:.2f}" for s in seconds), f"{seconds[0] / seconds[1]:.1f}"]
    peaks = (f"{max(run['peak_mb'] for run in answers):.0f}" for answers in (theirs, ours))
    return TABLE.row([*cells, f"{ratios[0]:.1f} to {ratios[-1]:.1f}", *peaks])


def _check_numbers(what: str, theirs: dict[str, list[float]], ours: dict[str, list[float]]) -> None:
    """Stop when the two have other objects, or other numbers."""
    if theirs.keys() != ours.keys():
        raise SystemExit(f"{what}: theirs has the objects {sorted(theirs)}, ours {sorted(ours)}")
    for name, numbers in theirs.items():
        if any(abs(a - b) > SAME for a, b in zip(numbers, ours[name], strict=True)):
            raise SystemExit(
                f"{what}: {name} has J and F {numbers}, ours {ours[name]}; no time is worth printing"
            )
