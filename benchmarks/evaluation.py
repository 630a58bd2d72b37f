"""How fast J and F are: from PNG files against the published tools, and in memory against the definition.

Run: python benchmarks/evaluation.py [--tools DIR [--install-tools]] [--frames 12] [--rounds 5] [--write]

With --tools the same videos as PNG files are scored by each published tool in DIR and by ours in turn, in fresh
processes, imports not counted: see benchmarks/evaluation_tools.py for where the tools come from.

In memory the baseline is the definition as those tools compute it: one object at a time, both boundaries dilated by a
disk. Dilation is done row by row of the disk with numpy; when OpenCV is importable a second baseline uses
`cv2.dilate`, which is what the tools call (one thread). All answers are compared with `==` before any time is printed.

Masks are moving blobs, made here. Times are CPU seconds, the smallest of the rounds.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import evaluation_tools
import numpy as np
from evaluation_masks import blobs, disturbed
from harness import HERE, Table

from sam2.evaluation.boundary import tolerance_px
from sam2.evaluation.jf import Scores, score_sequence

SIZES = ((480, 854, 3), (1080, 1920, 4), (96, 96, 4))  # height, width, objects
Dilate = Callable[[np.ndarray, int], np.ndarray]
TABLE = Table(
    "J and F in memory, the definition against ours, CPU ms an object and frame",
    ("case", "ours", "cv2.dilate", "times faster", "numpy", "times faster"),
)


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


def cpu_seconds(work: Callable[[], object], rounds: int) -> float:
    """The least CPU time of `rounds` runs."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def compare(height: int, width: int, objects: int, frames: int, rounds: int) -> str:
    """One row: milliseconds an object and frame of ours, and how many times faster it is than each baseline."""
    gt = blobs(frames, height, width, objects, seed=1)
    pred = disturbed(gt)
    ours = score_sequence(gt, pred)
    unit = 1e3 / (frames * len(ours))
    seconds = cpu_seconds(lambda: score_sequence(gt, pred), rounds)
    cells = [
        f"{height}x{width}, {len(ours)} objects, {frames} frames, {rounds} rounds",
        f"{seconds * unit:.2f}",
    ]
    for dilate in (dilate_opencv(), dilate_numpy):
        if dilate is None:
            cells += ["not installed", "-"]
            continue
        theirs = score_by_dilation(gt, pred, dilate)
        if any((ours[i].j != theirs[i].j).any() or (ours[i].f != theirs[i].f).any() for i in theirs):
            raise SystemExit(f"{height}x{width}: the two disagree; no time is worth printing")
        slow = cpu_seconds(lambda d=dilate: score_by_dilation(gt, pred, d), max(1, rounds // 2))  # type: ignore[misc]
        cells += [f"{slow * unit:.2f}", f"{slow / seconds:.1f}"]
    return TABLE.row(cells)


def tools_folder(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Path | None:
    """The folder of the published tools, after installing what the package index has if that was asked for."""
    if given.tools is None:
        return None
    folder: Path = given.tools.resolve()
    if folder.is_relative_to(HERE.parent):
        parser.error(f"{folder} is inside this repository; the published tools must stay outside")
    if given.install_tools:
        evaluation_tools.install(folder)
    if not evaluation_tools.found_tools(folder):
        parser.error(f"{folder} has no published tool; add --install-tools, or clone one into it")
    return folder


def main() -> None:
    """Print rows; with --write also append them to RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=12, help="in memory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="append the rows to benchmarks/RESULTS.md")
    parser.add_argument("--tools", type=Path, metavar="DIR", help="where the published tools are")
    parser.add_argument("--install-tools", action="store_true", help="install vos-benchmark there first")
    given = parser.parse_args()
    tools = tools_folder(parser, given)
    # from files first: what follows makes this process large, and a child inherits its peak memory
    parts: list[tuple[Table, Iterable[str]]] = []
    if tools:
        parts.append((evaluation_tools.TABLE, evaluation_tools.rows(tools, given.rounds)))
    parts.append((TABLE, (compare(*size, given.frames, given.rounds) for size in SIZES)))
    for table, rows in parts:
        for row in rows:
            print(row, flush=True)
            if given.write:
                table.append(row)


if __name__ == "__main__":
    main()
