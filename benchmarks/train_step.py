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
import statistics
from typing import Any

from harness import Table, add_reference_arguments, fresh_process, reference_folder

CHILD = "train_step_child.py"
TABLE = Table(
    "Training step, released code against ours",
    ("case", "reference s", "ours s", "times faster", "reference MiB", "ours MiB", "memory ratio"),
)


def check(settings: dict[str, Any]) -> None:
    """Stop unless both sides do the work that was recorded, and the same work in the case that is measured."""
    fixed = {**settings, "dropout": False, "repeats": 0}
    golden = {**fixed, "size": 512, "first": [0, 2], "corrected": [0, 2]}
    reference = fresh_process(CHILD, "reference", golden)
    compare("the reference and its recorded run", reference["terms"], reference["recorded_terms"])
    theirs, ours = fresh_process(CHILD, "reference", fixed), fresh_process(CHILD, "ours", fixed)
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
    times = [f"{value:.2f}" for value in (slow, fast, faster)]
    return TABLE.row([case, *times, f"{much:.0f}", f"{less:.0f}", f"{less / much:.2f}"])


def main() -> None:
    """Print the table; with --write also append a row to RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_reference_arguments(parser)
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
    folder = reference_folder(parser, given)
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
            found.append(fresh_process(CHILD, side, settings))
            print(
                f"round {number + 1}: {side} {found[-1]['wall_s']:.2f} s, {found[-1]['peak_mb']:.0f} MiB",
                flush=True,
            )
    lines, medians = table(**sides)
    row = result_row(medians, settings, given.rounds)
    print("\n".join(["", *lines, "", row]))
    if given.write:
        TABLE.append(row)


if __name__ == "__main__":
    main()
