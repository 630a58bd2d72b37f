"""One side of the end-to-end benchmark, in a process of its own: PNG folders in, J and F of every object out.

Run by benchmarks/evaluation.py: `evaluation_child.py draw|ours|vos_benchmark SETTINGS`; the last line is a JSON object.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Numbers = dict[str, list[float]]  # [J, F] in percent by "SEQUENCE/OBJECT"


def ours(gt: Path, pred: Path) -> Callable[[], Numbers]:
    """This project's engine by the same protocol."""
    from sam2.evaluation.protocols import PROTOCOLS
    from sam2.evaluation.score import evaluate

    protocol = PROTOCOLS["vos"]()
    return lambda: {f"{o.sequence}/{o.object_id}": [o.j, o.f] for o in evaluate(protocol, gt, pred).objects}


def vos_benchmark(gt: Path, pred: Path, folder: str) -> Callable[[], Numbers]:
    """The published tool, from the folder that it was installed in, with one process."""
    sys.path.insert(0, folder)
    import cv2
    from vos_benchmark.benchmark import benchmark  # type: ignore[import-not-found]

    cv2.setNumThreads(1)

    def run() -> Numbers:
        with contextlib.redirect_stdout(io.StringIO()):
            *_, objects = benchmark([str(gt)], [str(pred)], num_processes=1, verbose=False)
        return {f"{name}/{i}": [float(j[i]), float(f[i])] for name, (j, f) in objects[0].items() for i in j}

    return run


def draw(settings: dict[str, Any]) -> None:
    """Write the videos."""
    from evaluation_masks import blobs, disturbed, write_pngs

    height, width, objects = settings["size"]
    gt = blobs(settings["frames"], height, width, objects, seed=1)
    write_pngs(Path(settings["gt"]) / "video", gt)
    write_pngs(Path(settings["pred"]) / "video", disturbed(gt))


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Import first, then measure."""
    side, settings = sys.argv[1], json.loads(sys.argv[2])
    if side == "draw":
        draw(settings)
        print("{}")
        return
    gt, pred = Path(settings["gt"]), Path(settings["pred"])
    run = ours(gt, pred) if side == "ours" else vos_benchmark(gt, pred, settings["tools"])
    before = cpu_seconds()
    numbers = run()
    seconds = cpu_seconds() - before
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    answer: dict[str, Any] = {"seconds": seconds, "peak_mb": peak / 1024, "numbers": numbers}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
