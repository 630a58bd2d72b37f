"""Images and videos: the released SAM 2 code and ours, on equal weights and frames.

Run: python benchmarks/video.py --reference DIR [--install-reference] [--case NAME ...] [--rounds 5] [--check] [--write]

DIR holds the released code, outside of this repository and its environment: `--install-reference` puts the package
`sam2` of the package index and what it needs beyond our own dependencies there.

Each side runs in a fresh process, one after the other, `--rounds` times; ratios are formed within a round and their
median counts. Weights are the golden ones of tests/golden, or `--checkpoint` FILE in both. Frames are moving blobs.

    image     set_image + predict with 1 point, 1024 px, float32
    video     1 object, 512 px, float32: milliseconds and bytes of state per frame, with a filled memory
    objects   the same with 8 objects
    bf16      ours under bfloat16 autocast beside the reference in float32, and how far its masks drift from ours
    stream    ours alone: bytes of a stream's state at two frames, which must be equal, for 1 and 8 objects

`--check` first shows that both sides give the same masks. With `--device cuda` the cases are the models t, s, b+ and l
with 1 and 8 objects at 1024 px under bfloat16 autocast: the reference compiled, ours eager, ours compiled.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import Table, add_reference_arguments, fresh_process, reference_folder

CHILD = "video_child.py"
TOLERANCE = 1e-2  # logits in float32, as of the recorded videos in tests/golden
CPU_TABLE = Table(
    "Images and videos, released code against ours",
    ("case", "reference ms", "ours ms", "times faster", "reference state KiB/frame", "ours", "note"),
)
GPU_TABLE = Table(
    "Videos on a GPU, frames a second",
    ("case", "reference compiled", "ours eager", "ours compiled", "compiled, times faster", "peak MiB"),
)
Found = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What is measured: settings of both sides, those of ours alone, and how many times faster ours should be."""

    title: str
    wanted: float
    settings: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)


CASES = {
    "image": Case(
        "set_image + predict, 1 point", 0.95, {"kind": "image", "size": 1024, "warm_up": 1, "frames": 5}
    ),
    "video": Case("video, 1 object", 1.0),
    "objects": Case("video, 8 objects", 1.05, {"objects": 8}),
    "bf16": Case("video, 1 object, ours in bfloat16", 1.5, ours={"half": True}),
}
STREAMS = {
    f"stream, {objects} object{'s' * (objects > 1)}": {
        "kind": "stream",
        "objects": objects,
        "warm_up": 60,
        "frames": 60,
    }
    for objects in (1, 8)
}
# smoke runs: pixels of videos, and frames; a stream's state is full after the reach of the object pointers
QUICK_SIZE, QUICK, QUICK_STREAM = 128, {"warm_up": 1, "frames": 2}, {"warm_up": 24, "frames": 8}


def compare(case: Case, common: dict[str, Any], rounds: int) -> dict[str, list[Found]]:
    """Both sides alternately."""
    settings = {**common, **case.settings}
    found: dict[str, list[Found]] = {"reference": [], "ours": []}
    for number in range(1, rounds + 1):
        for side, own in (("reference", {}), ("ours", case.ours)):
            one = fresh_process(CHILD, side, {**settings, **own})
            found[side].append(one)
            print(f"{case.title}, round {number}: {side} {one['ms']:.0f} ms", flush=True)
    return found


def summary(case: Case, found: dict[str, list[Found]], note: str) -> list[str]:
    """Print the medians; the cells of RESULTS.md."""
    slow, fast = found["reference"], found["ours"]
    ratios = [a["ms"] / b["ms"] for a, b in zip(slow, fast, strict=True)]
    ratio = statistics.median(ratios)
    medians = [statistics.median(one["ms"] for one in side) for side in (slow, fast)]
    verdict = "reached" if ratio >= case.wanted else "MISSED"
    print(
        f"{case.title}: reference {medians[0]:.0f} ms, ours {medians[1]:.0f} ms, {ratio:.2f} times faster "
        f"({min(ratios):.2f} to {max(ratios):.2f}); wanted {case.wanted}, {verdict}"
    )
    growth = [
        f"{side[0]['bytes_per_frame'] / 1024:.1f}" if "bytes_per_frame" in side[0] else "-"
        for side in (slow, fast)
    ]
    if growth[0] != "-":
        print(f"    state grows by {growth[0]} KiB a frame in the reference, {growth[1]} in ours")
    s = fast[0]["settings"]
    described = f"{s['model']}, {s['size']} px, {case.title}, {s['threads']} threads, {len(slow)} rounds"
    return [described, *(f"{value:.0f}" for value in medians), f"{ratio:.2f}", *growth, note]


def shown(side: str, settings: dict[str, Any], folder: Path) -> Any:
    """All logits that a side gives, (frames, objects, H, W)."""
    import numpy as np

    file = folder / "masks.npy"
    fresh_process(CHILD, side, {**settings, "masks": str(file)})
    return np.load(file)


def check(case: Case, common: dict[str, Any]) -> str:
    """Stop unless both sides give the same masks in float32."""
    import numpy as np

    settings = {**common, **case.settings}
    with TemporaryDirectory() as folder:
        theirs, ours = (shown(side, settings, Path(folder)) for side in ("reference", "ours"))
    worst = float(np.abs(theirs - ours).max())
    print(f"{case.title}: logits of {len(ours)} frames are at most {worst:.1e} apart", flush=True)
    if not worst < TOLERANCE:
        raise SystemExit(f"{case.title}: more than {TOLERANCE}; no time is worth printing")
    return f"fp32 logits at most {worst:.0e} apart"


def drift(case: Case, common: dict[str, Any]) -> str:
    """How far our masks in bfloat16 are from ours in float32: J&F and IoU over the frames that are tracked."""
    from sam2.evaluation.jf import score_sequence

    settings = {**common, **case.settings}
    with TemporaryDirectory() as folder:
        full = shown("ours", settings, Path(folder)) > 0
        half = shown("ours", {**settings, **case.ours}, Path(folder)) > 0
    scores = score_sequence(full[:, 0].astype("uint8"), half[:, 0].astype("uint8"), ids=[1])[1]
    mean, least = 50 * (scores.j.mean() + scores.f.mean()), 100 * scores.j.min()
    text = f"J&F of bf16 masks against fp32 masks {mean:.2f}, least J (IoU) of a frame {least:.1f}"
    print(f"{case.title}: {text}", flush=True)
    return text


def stream(title: str, settings: dict[str, Any]) -> list[str]:
    """Stop unless a stream's state has as many bytes at the last frame as at frame `warm_up`; cells of RESULTS.md."""
    found = fresh_process(CHILD, "ours", settings)
    print(
        f"{title}: {found['state_bytes']} bytes at frame {settings['warm_up'] + settings['frames']}, "
        f"{found['bytes_per_frame']:.0f} a frame more since frame {settings['warm_up']}; {found['ms']:.0f} ms a frame",
        flush=True,
    )
    if found["bytes_per_frame"]:
        raise SystemExit(f"{title}: the state must not grow")
    note = f"{found['state_bytes'] / 2**20:.2f} MiB of state in all"
    described = f"{settings['model']}, {settings['size']} px, {title}, {settings['threads']} threads"
    return [described, "-", f"{found['ms']:.0f}", "-", "-", "0.0", note]


def gpu(common: dict[str, Any], rounds: int) -> Iterator[str]:
    """Frames a second of a model with 1 and 8 objects; rows of RESULTS.md."""
    runs = {
        "reference compiled": ("reference", {"compiled": True}),
        "ours eager": ("ours", {"compiled": False}),
        "ours compiled": ("ours", {"compiled": True}),
    }
    for objects in (1, 8):
        # the first pass compiles, the second one records graphs
        settings = {**common, "objects": objects, "half": True, "passes": 3}
        described = (
            f"{settings['model']}, {settings['size']} px, {objects} objects, bf16 autocast, {rounds} rounds"
        )
        found: dict[str, list[Found]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, (side, own) in runs.items():
                one = fresh_process(CHILD, side, {**settings, **own})
                found[name].append(one)
                print(f"{described}: {name} {1e3 / one['mean_ms']:.1f} FPS", flush=True)
        fps = [statistics.median(1e3 / one["mean_ms"] for one in side) for side in found.values()]
        peaks = " / ".join(f"{side[0]['peak_mb']:.0f}" for side in found.values())
        cells = [described, *(f"{value:.1f}" for value in fps), f"{fps[2] / fps[0]:.2f}", peaks]
        yield GPU_TABLE.row(cells, found["ours eager"][0]["hardware"])


def cpu(names: list[str], common: dict[str, Any], rounds: int, given: argparse.Namespace) -> Iterator[str]:
    """The chosen cases; rows of RESULTS.md."""
    for name in names:
        if name == "stream":
            for title, own in STREAMS.items():
                settings = {**common, **own, **(QUICK_STREAM if given.quick else {})}
                yield CPU_TABLE.row(stream(title, settings))
            continue
        case = CASES[name]
        case = replace(case, settings={**case.settings, **QUICK}) if given.quick else case
        notes = [check(case, common)] if given.check else []
        notes += [drift(case, common)] if case.ours else []
        yield CPU_TABLE.row(summary(case, compare(case, common, rounds), "; ".join(notes)))


def arguments() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """What the user asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_reference_arguments(parser)
    names = [*CASES, "stream"]
    parser.add_argument(
        "--case", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes of each side")
    parser.add_argument("--frames", type=int, default=12, help="measured frames of a video")
    parser.add_argument("--warm-up", type=int, default=8, help="frames before those")
    parser.add_argument("--size", type=int, help="pixels of videos: 512, on a GPU 1024")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--model", nargs="+", help="sam2.1_t, on a GPU sam2.1_t, sam2.1_s, sam2.1_b+ and sam2.1_l"
    )
    parser.add_argument("--checkpoint", default="", help="weight file of that model in official layout")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--check", action="store_true", help="show first that both sides give equal masks")
    parser.add_argument("--quick", action="store_true", help="tiny: see whether it runs")
    parser.add_argument("--write", action="store_true", help="append rows to benchmarks/RESULTS.md")
    return parser, parser.parse_args()


def main() -> None:
    """Print medians; with --write also append rows to RESULTS.md."""
    parser, given = arguments()
    on_gpu = given.device.startswith("cuda")
    models = given.model or [f"sam2.1_{size}" for size in (("t", "s", "b+", "l") if on_gpu else ("t",))]
    if given.checkpoint and len(models) > 1:
        parser.error("--checkpoint is of one model; say which with --model")
    common = {
        "reference": str(reference_folder(parser, given)),
        "checkpoint": given.checkpoint,
        "size": given.size or (1024 if on_gpu else QUICK_SIZE if given.quick else 512),
        "warm_up": given.warm_up,
        "frames": given.frames,
        "threads": given.threads,
        "device": given.device,
    }
    rounds = 1 if given.quick else given.rounds
    for model in models:
        settings = {**common, "model": model}
        for row in gpu(settings, rounds) if on_gpu else cpu(given.case, settings, rounds, given):
            print(row, flush=True)
            if given.write:
                (GPU_TABLE if on_gpu else CPU_TABLE).append(row)


if __name__ == "__main__":
    main()
