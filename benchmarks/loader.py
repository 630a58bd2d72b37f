"""The released loader against ours: CPU seconds for a training clip, bytes on disk, and what compression costs.

Run: python benchmarks/loader.py --reference DIR [--install-reference] [--rounds 3] [--clips 6] [--write]

DIR holds the released code, outside of this repository and its environment (see benchmarks/train_step.py). Videos are
made up at 1920x1080 (`sam2 data synth`), 4 or 5 objects, H.264 at 24 frames a second, every fourth frame annotated. The
released loader reads those frames as JPEG of quality 95 with palette PNGs and applies the transforms of its fine-tuning
recipe; ours reads shards made from the same videos, with the same changes drawn from the same ranges. A clip is 8
frames with up to 3 objects for a model of 1024 px. Each side runs on one thread in a fresh process, all sides in turn,
`--rounds` times; ratios are formed within a round and their median counts. "device": frames are decoded and masks made,
warp and colour are left to the device that trains (`data.warp_on`); what that costs there is not measured here.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import Table, add_reference_arguments, fresh_process, reference_folder

CHILD = "loader_child.py"
CASES = (
    ("proxy", "worker", 3, 4),
    ("proxy1024", "worker", 3, 4),
    ("proxy", "device", 0, 0),
    ("proxy1024", "device", 8, 12),
    ("jpeg1024", "device", 20, 30),
)  # shards, who warps, and the ratio that must and should be reached; 0: none
TABLE = Table(
    "Training clips, released loader against ours",
    ("case", "reference ms", "ours ms", "times faster", "reference MB", "ours MB"),
)


def compare(settings: dict[str, Any], rounds: int) -> list[tuple[str, ...]]:
    """One row a case, from sides that took turns."""
    reference: list[dict[str, Any]] = []
    ours: dict[tuple[str, str], list[dict[str, Any]]] = {case[:2]: [] for case in CASES}
    for number in range(rounds):
        reference.append(fresh_process(CHILD, "reference", settings))
        for (shards, on), runs in ours.items():
            runs.append(fresh_process(CHILD, "ours", settings | {"shards": shards, "on": on}))
        print(
            f"round {number + 1} of {rounds}: the released loader took {reference[-1]['seconds']:.2f} s a clip",
            flush=True,
        )
    rows: list[tuple[str, ...]] = []
    for shards, on, must, aim in CASES:
        runs = ours[shards, on]
        ratios = [theirs["seconds"] / own["seconds"] for theirs, own in zip(reference, runs, strict=True)]
        sought = f", must {must}, aim {aim}" if must else ""
        rows.append(
            (
                f"{shards} shards, warp on the {on}, {rounds} rounds of {settings['clips']} clips{sought}",
                f"{1e3 * statistics.median(run['seconds'] for run in reference):.0f}",
                f"{1e3 * statistics.median(run['seconds'] for run in runs):.0f}",
                f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})",
                f"{max(run['peak_mb'] for run in reference):.0f}",
                f"{max(run['peak_mb'] for run in runs):.0f}",
            )
        )
    return rows


def main() -> None:
    """Print the table; with --write also append it to RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_reference_arguments(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=6, help="clips a side makes in a round")
    parser.add_argument("--videos", type=int, default=2)
    parser.add_argument("--annotated", type=int, default=16, help="annotated frames of a video")
    parser.add_argument("--folder", type=Path, help="keep the videos here and use what is there already")
    parser.add_argument("--write", action="store_true", help="append rows to benchmarks/RESULTS.md")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        settings = {
            "threads": 1,
            "folder": str(folder),
            "reference": str(reference_folder(parser, given)),
            "height": 1080,
            "width": 1920,
            "size": 1024,
            "videos": given.videos,
            "annotated": given.annotated,
            "clips": given.clips,
        }
        if not (folder / "sav").exists():
            print("drawing videos ...", flush=True)
        made = fresh_process(CHILD, "draw", settings)
        rows = compare(settings, given.rounds)
    disk = made["jpeg_bytes"] / made["bytes"]["proxy"]
    note = f"proxy shards {disk:.2f} times smaller than JPEG q95 (must 4), at {made['psnr']:.1f} dB (must 45)"
    for row in rows:
        print(" | ".join(row))
    print(note)
    if given.write:
        for row in rows:
            TABLE.append(TABLE.row((f"{row[0]}; {note}" if row is rows[0] else row[0], *row[1:])))


if __name__ == "__main__":
    main()
