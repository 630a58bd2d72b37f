"""One side of the end-to-end benchmark, in a process of its own: PNG folders in, J and F of every object out.

Run by benchmarks/evaluation_tools.py: `evaluation_child.py draw|ours|TOOL SETTINGS`; the last line is a JSON object.
The published tools come from the folder that they were put in; their own functions do all the work.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Numbers = dict[str, list[float]]  # [J, F] in percent by "SEQUENCE/OBJECT"
Run = Callable[[], Numbers]

VIDEO = "video"


def folders(settings: dict[str, Any]) -> tuple[Path, Path]:
    """Ground truth, where DAVIS has it under the root, and predictions."""
    root = Path(settings["root"])
    return root / "Annotations/480p", root / "predictions"


def ours(settings: dict[str, Any]) -> Run:
    """This project's engine."""
    from sam2.evaluation.protocols import PROTOCOLS
    from sam2.evaluation.score import evaluate

    gt, pred = folders(settings)
    protocol = PROTOCOLS[settings["protocol"]]()
    return lambda: {f"{o.sequence}/{o.object_id}": [o.j, o.f] for o in evaluate(protocol, gt, pred).objects}


def davis2017_evaluation(settings: dict[str, Any]) -> Run:
    """The class that davis2017-evaluation's command line calls; it names objects VIDEO_ID."""
    open_tools(settings, "davis2017-evaluation")
    from davis2017.evaluation import DAVISEvaluation  # type: ignore[import-not-found]

    def run() -> Numbers:
        tool = DAVISEvaluation(davis_root=settings["root"], task="semi-supervised", gt_set="val")
        found = tool.evaluate(str(folders(settings)[1]))
        j, f = (found[measure]["M_per_object"] for measure in ("J", "F"))
        return {"/".join(name.rsplit("_", 1)): [100 * float(j[name]), 100 * float(f[name])] for name in j}

    return run


def vos_benchmark(settings: dict[str, Any]) -> Run:
    """The function that vos-benchmark's command line calls."""
    open_tools(settings)
    from vos_benchmark.benchmark import benchmark  # type: ignore[import-not-found]

    return lambda: by_benchmark(benchmark, settings)


def sav_evaluator(settings: dict[str, Any]) -> Run:
    """The function that SA-V's sav_evaluator.py calls."""
    open_tools(settings, "sam2/sav_dataset")
    from utils.sav_benchmark import benchmark  # type: ignore[import-not-found]

    return lambda: by_benchmark(benchmark, settings)


def by_benchmark(benchmark: Callable[..., Any], settings: dict[str, Any]) -> Numbers:
    """What the two tools of one family answer, with one process."""
    gt, pred = folders(settings)
    *_, objects = benchmark([str(gt)], [str(pred)], num_processes=1, verbose=False)
    for process in multiprocessing.active_children():  # their time counts once they have ended
        process.join()
    return {f"{name}/{i}": [float(j[i]), float(f[i])] for name, (j, f) in objects[0].items() for i in j}


def open_tools(settings: dict[str, Any], clone: str = "") -> None:
    """Make the tools importable; OpenCV, which all of them use, with one thread."""
    sys.path[:0] = [settings["tools"], str(Path(settings["tools"]) / clone)]
    import cv2

    cv2.setNumThreads(1)


def draw(settings: dict[str, Any]) -> None:
    """Write a video as DAVIS has it, or with a folder an object."""
    from evaluation_masks import blobs, disturbed, write_pngs

    height, width, objects = settings["size"]
    maps = blobs(settings["frames"], height, width, objects, seed=1)
    for folder, ids in zip(folders(settings), (maps, disturbed(maps)), strict=True):
        if settings["layout"] == "palette":
            write_pngs(folder / VIDEO, ids)
        else:
            for i in range(1, objects + 1):
                write_pngs(folder / VIDEO / f"{i - 1:03d}", (ids == i).astype(ids.dtype))
    root = Path(settings["root"])
    for path in (root / f"JPEGImages/480p/{VIDEO}/{t:05d}.jpg" for t in range(settings["frames"])):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # DAVIS's tool counts them
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text(f"{VIDEO}\n")


SIDES: dict[str, Callable[[dict[str, Any]], Run]] = {
    "ours": ours,
    "davis2017-evaluation": davis2017_evaluation,
    "vos-benchmark": vos_benchmark,
    "sav_evaluator": sav_evaluator,
}


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
    run = SIDES[side](settings)
    before = cpu_seconds()
    with contextlib.redirect_stdout(io.StringIO()):
        numbers = run()
    seconds = cpu_seconds() - before
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    answer: dict[str, Any] = {"seconds": seconds, "peak_mb": peak / 1024, "numbers": numbers}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
