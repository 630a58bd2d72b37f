"""How fast J and F are: in memory against the definition, and from PNG files against a published tool.

Run: python benchmarks/evaluation.py [--frames 12] [--repeats 5] [--write] [--tools DIR [--install-tools]]

The baseline is the definition as the published tools compute it: one object at a time, both boundaries dilated by a
disk. Dilation is done row by row of the disk with numpy; when OpenCV is importable a second baseline uses
`cv2.dilate`, which is what those tools call (one thread). Masks are moving blobs, made here; all answers are compared
with `==` before any time is printed. Times are CPU seconds of this process, the smallest of the repeats.

With --tools the same videos as PNG files are scored alternately by `sam2.evaluation.score` and by vos-benchmark, one
process each, fresh every time, imports not counted. vos-benchmark is the one published tool that the package index
has; SA-V's evaluator is an adaptation of it. davis2017-evaluation and lvos-evaluation are not there. It lives in a
folder of its own, with OpenCV and scikit-image, outside of this repository and its environment.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from evaluation_masks import blobs, disturbed
from harness import HERE, fresh_process

from sam2.evaluation.boundary import tolerance_px
from sam2.evaluation.jf import Scores, score_sequence

SIZES = ((480, 854, 3), (1080, 1920, 4), (96, 96, 4))  # height, width, objects
Dilate = Callable[[np.ndarray, int], np.ndarray]


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels whose 2x2 window is not constant, the image repeated at its right and lower edge."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, both = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (mask != right) | (mask != below) | (mask != both)


def dilate_numpy(points: np.ndarray, radius: int) -> np.ndarray:
    """Every pixel within `radius` of a point: runs by running sums, one row of the disk at a time."""
    height, width = points.shape
    sums = np.pad(np.cumsum(points, axis=1, dtype=np.int32), ((0, 0), (radius + 1, radius)), mode="edge")
    sums[:, : radius + 1] = 0
    found = np.zeros_like(points)
    for dy in range(-radius, radius + 1):
        half = math.isqrt(radius**2 - dy**2)
        start = radius + 1
        run = (
            sums[:, start + half : start + half + width]
            > sums[:, start - half - 1 : start - half - 1 + width]
        )
        found[max(0, -dy) : height - max(0, dy)] |= run[max(0, dy) : height - max(0, -dy)]
    return found


def dilate_opencv() -> Dilate | None:
    """`cv2.dilate` with a disk on one thread, when OpenCV is installed (it is not a dependency)."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)

    def dilate(points: np.ndarray, radius: int) -> np.ndarray:
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        disk = (y**2 + x**2 <= radius**2).astype(np.uint8)
        return cv2.dilate(points.astype(np.uint8), disk).astype(bool)

    return dilate


def f_by_dilation(gt: np.ndarray, pred: np.ndarray, dilate: Dilate) -> float:
    """F of one mask, from its definition."""
    radius = tolerance_px(*gt.shape)
    g, p = boundary(gt), boundary(pred)
    near_p, near_g = dilate(p, radius), dilate(g, radius)
    if not g.any() or not p.any():
        return float(g.any() == p.any())
    precision = np.count_nonzero(p & near_g) / np.count_nonzero(p)
    recall = np.count_nonzero(g & near_p) / np.count_nonzero(g)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def score_by_dilation(gt: np.ndarray, pred: np.ndarray, dilate: Dilate) -> dict[int, Scores]:
    """J and F of every object, one mask at a time."""
    scores = {}
    for i in np.unique(gt[gt > 0]).tolist():
        g, p = gt == i, pred == i
        overlap, union = (g & p).sum((1, 2)), (g | p).sum((1, 2))
        j = np.where(union > 0, overlap / np.maximum(union, 1), 1.0)
        f = np.array([f_by_dilation(a, b, dilate) for a, b in zip(g, p, strict=True)])
        scores[i] = Scores(j, f)
    return scores


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    """The least CPU time of `repeats` runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def compare(height: int, width: int, objects: int, frames: int, repeats: int) -> str:
    """One row: milliseconds an object and frame of ours, and how many times faster it is than each baseline."""
    gt = blobs(frames, height, width, objects, seed=1)
    pred = disturbed(gt)
    ours = score_sequence(gt, pred)
    unit = 1e3 / (frames * len(ours))
    seconds = cpu_seconds(lambda: score_sequence(gt, pred), repeats)
    cells = [f"{height}x{width}, {len(ours)} objects", f"{seconds * unit:.2f}"]
    for dilate in (dilate_opencv(), dilate_numpy):
        if dilate is None:
            cells += ["not installed", "-"]
            continue
        theirs = score_by_dilation(gt, pred, dilate)
        if any((ours[i].j != theirs[i].j).any() or (ours[i].f != theirs[i].f).any() for i in theirs):
            raise SystemExit(f"{height}x{width}: the two disagree; no time is worth printing")
        slow = cpu_seconds(lambda d=dilate: score_by_dilation(gt, pred, d), max(1, repeats // 2))  # type: ignore[misc]
        cells += [f"{slow * unit:.2f}", f"{slow / seconds:.1f}x"]
    return "| " + " | ".join(cells) + " |"


# beyond our own dependencies, and by name so that nothing of ours is installed twice
TOOLS = (
    "vos-benchmark==0.1.0",
    "opencv-python-headless",
    "scikit-image",
    "scipy",
    "lazy-loader",
    "imageio",
    "tifffile",
)


def end_to_end(size: tuple[int, int, int], frames: int, repeats: int, tools: Path) -> str:
    """One row: PNG files in, J and F out, both sides alternately."""
    height, width, objects = size
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "vos_benchmark": []}
    with TemporaryDirectory() as folder:
        settings: dict[str, Any] = {name: str(Path(folder) / name) for name in ("gt", "pred")}
        settings |= {"tools": str(tools), "threads": 1, "frames": frames, "size": size}
        fresh_process("evaluation_child.py", "draw", settings)
        for _ in range(repeats):
            for side, found in runs.items():
                found.append(fresh_process("evaluation_child.py", side, settings))
    mine, theirs = (found[0]["numbers"] for found in runs.values())
    if mine.keys() != theirs.keys() or any(
        abs(a - b) > 1e-10 for name in mine for a, b in zip(mine[name], theirs[name], strict=True)
    ):
        raise SystemExit(f"{height}x{width}: the two disagree; no time is worth printing")
    seconds = [min(run["seconds"] for run in found) for found in runs.values()]
    peaks = [max(run["peak_mb"] for run in found) for found in runs.values()]
    rate = (frames - 2) * len(mine) / seconds[0]
    cells = [f"{height}x{width}, {len(mine)} objects, {frames} frames", f"{seconds[0]:.2f}", f"{rate:.0f}"]
    cells += [f"{peaks[0]:.0f}", f"{seconds[1]:.2f}", f"{peaks[1]:.0f}", f"{seconds[1] / seconds[0]:.1f}x"]
    return "| " + " | ".join(cells) + " |"


def tools_folder(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Path | None:
    """The folder of the published tool, after installing it if that was asked for; None without one."""
    if given.tools is None:
        return None
    folder: Path = given.tools.resolve()
    if folder.is_relative_to(HERE.parent):
        parser.error(f"{folder} is inside this repository; the published tool must stay outside")
    if given.install_tools:
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--upgrade",
            "--target",
            str(folder),
            *TOOLS,
        ]
        subprocess.run([*pip, *TOOLS], check=True)
    if not (folder / "vos_benchmark").is_dir():
        parser.error(f"{folder} has no vos_benchmark; add --install-tools")
    return folder


def main() -> None:
    """Print the table; with --write also append it to RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="append the table to benchmarks/RESULTS.md")
    parser.add_argument(
        "--tools", type=Path, metavar="DIR", help="where vos-benchmark is; compares from PNG files"
    )
    parser.add_argument("--install-tools", action="store_true", help="install it there first")
    given = parser.parse_args()
    tools = tools_folder(parser, given)
    lines: list[str] = []
    if tools:  # first: what follows makes this process large, and a child inherits its peak memory
        lines += [
            f"## J and F from PNG files ({date.today()}, one process, CPU seconds, vos-benchmark 0.1.0)",
            "",
            "| masks | ours s | objects and frames a second | peak MB | vos-benchmark s | peak MB | ratio |",
            "|---|---|---|---|---|---|---|",
            *(end_to_end(size, given.frames, given.repeats, tools) for size in SIZES),
            "",
        ]
    lines += [
        f"## J and F in memory ({date.today()}, numpy {np.__version__}, one thread, CPU ms per object and frame)",
        "",
        "| masks | ours | definition, cv2.dilate | ratio | definition, numpy | ratio |",
        "|---|---|---|---|---|---|",
        *(compare(*size, given.frames, given.repeats) for size in SIZES),
    ]
    print("\n".join(lines))
    if given.write:
        with (HERE / "RESULTS.md").open("a") as results:
            results.write("\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
