"""Two processes that average their gradients, beside the same two processes that do not; and a model of many GPUs.

Run: python benchmarks/ddp.py [--rounds 5] [--steps 2] [--options] [--step-s S] [--state] [--quick] [--write]

Weak scaling of sam2.1_t at 384 px, a seventh of what the released recipe computes for each frame, where the 156 MB
that travel are small beside the work. Each process has a clip of its own, one thread and one core. Where the two
cores are two threads of one core, as on most rented machines, two processes are slower than one even if they never
speak to each other. So the efficiency is the throughput of two processes that train together, divided by that of
two that train apart, at the same time, on the same cores: what is left is the price of averaging. The plain number,
against one process that has the machine for itself, is printed too. Rounds alternate in one pair of processes; the
median of their ratios counts.

`--options` measures every option of docs/parallel.md against the usual way, in the same manner.

The model of 8, 64 and 512 GPUs is arithmetic (ddp_model.py), and says so: bytes of gradients and the spread between
clips are measured here, the speed of links is stated, and the time of a step is `--step-s`, measured on a GPU of
yours, or an assumption.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from ddp_child import OPTIONS
from ddp_model import FABRIC, predict, state_table, trainable
from harness import HERE, Table

SCALING = Table(
    "Two processes, one thread each: training together against apart",
    (
        "case",
        "together s",
        "apart s",
        "alone s",
        "efficiency (range)",
        "of processor seconds",
        "of twice one process alone",
    ),
)
CHOICES = Table(
    "Options of parallel training, two processes",
    ("case", "option", "usual s", "with it s", "ratio (range)", "kept for backward MB", "note"),
)
LAST_BUCKET = 25e6  # bytes: of DDP's buckets
ASSUMED_STEP_S = 0.3  # on a GPU: nobody has measured it here; a shorter step is the harder case


@dataclass(frozen=True)
class Round:
    """Seconds of each process; `work` is processor seconds apart as a share of those together."""

    together: list[float]
    apart: list[float]
    alone: float
    work: float

    @property
    def efficiency(self) -> float:
        """Throughput together as a share of that apart."""
        return (2 / max(self.together)) / sum(1 / seconds for seconds in self.apart)

    @property
    def of_two(self) -> float:
        """Throughput together as a share of twice that of one process that has the machine for itself."""
        return self.alone / max(self.together)


def ranks(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What two processes say, line by line."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    around = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "PYTHONWARNINGS": "ignore"}
    around |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, str(HERE / "ddp_child.py"), json.dumps(settings)]
    processes = [
        subprocess.Popen(command, env={**around, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        assert processes[0].stdout is not None
        for line in processes[0].stdout:
            yield json.loads(line)
        if any(process.wait() for process in processes):
            raise SystemExit("a process failed; what it said is above")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def collect(found: list[dict[str, Any]]) -> list[Round]:
    """Rounds of what was said."""
    kinds = [[line for line in found if line["kind"] == kind] for kind in ("together", "apart", "alone")]
    return [
        Round(one["seconds"], two["seconds"], alone["seconds"][0], sum(two["cpu"]) / sum(one["cpu"]))
        for one, two, alone in zip(*kinds, strict=True)
    ]


def measure_scaling(settings: dict[str, Any], case: str) -> tuple[str, list[dict[str, Any]]]:
    """The row of weak scaling, and all that was said."""
    found = []
    for line in ranks(settings):
        found.append(line)
        if line["kind"] in ("together", "apart", "alone"):
            print(
                f"{line['kind']:9} {' '.join(f'{s:6.2f}' for s in line['seconds'] if s > 1e-3)} s", flush=True
            )
    rounds, steps = collect(found), settings["steps"]
    efficiencies = [measured.efficiency for measured in rounds]
    cells = [f"{statistics.median(max(r.together) for r in rounds) / steps:.2f}"]
    cells.append(f"{statistics.median(statistics.fmean(r.apart) for r in rounds) / steps:.2f}")
    cells.append(f"{statistics.median(r.alone for r in rounds) / steps:.2f}")
    middle, low, high = statistics.median(efficiencies), min(efficiencies), max(efficiencies)
    cells.append(f"{middle:.1%} ({low:.1%} to {high:.1%})")
    cells.append(f"{statistics.median(r.work for r in rounds):.1%}")
    cells.append(f"{statistics.median(r.of_two for r in rounds):.1%}")
    verdict = "at least 90 %" if middle >= 0.9 else "LESS THAN 90 %"
    print(
        f"\nweak scaling 1 -> 2 processes: {middle:.1%} of two processes apart on the same cores; {verdict}"
    )
    print(f"{cells[-2]} by processor seconds, which other programs on the machine hardly change")
    print(
        f"{cells[-1]} of twice one process that has the machine for itself: the cores' doing, not averaging's"
    )
    return SCALING.row([case, *cells]), found


def show_model(found: list[dict[str, Any]], settings: dict[str, Any], step_s: float | None) -> None:
    """Print what 8, 64 and 512 GPUs would do."""
    by_objects = {
        line["objects"]: statistics.fmean(line["seconds"]) for line in found if line["kind"] == "objects"
    }
    here, spread = (
        by_objects[settings["objects"]],
        statistics.fmean(by_objects.values()) / max(by_objects.values()),
    )
    given = (
        (step_s, "as given")
        if step_s
        else (ASSUMED_STEP_S, "ASSUMED: --step-s gives one measured on your GPU")
    )
    measured = (here, f"measured here, {settings['model']} at {settings['size']} px on one core")
    print(f"\nA MODEL, not a measurement, of {FABRIC.name}:")
    print("two thirds of a step are the backward pass, behind which gradients hide but for the last bucket")
    for (seconds, origin), name in ((measured, settings["model"]), (given, "sam2.1_b+"), (given, "sam2.1_l")):
        numbers = trainable(name)
        print(f"\n{name}: {numbers / 1e6:.1f} M gradients, counted; a step of {seconds:.3g} s, {origin}\n")
        print(
            "| GPUs | gradients | MB | travel ms | efficiency, hidden | nothing hidden |\n" + "|---" * 6 + "|"
        )
        for gpus, (kind, width) in product((8, 64, 512), (("fp32", 4), ("bf16", 2))):
            told = predict(seconds, width * numbers, LAST_BUCKET * width / 4, gpus, FABRIC)
            shares = f"{told.hidden:.1%} | {told.open:.1%}"
            print(f"| {gpus} | {kind} | {width * numbers / 1e6:.0f} | {1e3 * told.travel_s:.2f} | {shares} |")
    times = ", ".join(f"{count}: {s:.2f} s" for count, s in by_objects.items())
    print(
        f"\nNot in it: all ranks wait for the clip with most objects. Steps by objects, measured here: {times};"
    )
    print(
        f"with as many of each, and enough GPUs that one always has most, {spread:.1%} of the above is left."
    )


def measure_option(name: str, settings: dict[str, Any], case: str) -> str:
    """Its row, from a pair of processes of its own: two models with all that they keep are gone before the next two."""
    kept, pairs = {}, []
    for line in ranks({**settings, "option": name}):
        if line["kind"] == "kept":
            kept = line
        else:
            pairs.append((line["usual"], line["other"]))
            print(f"{name:36} usual {pairs[-1][0]:6.2f} s, with it {pairs[-1][1]:6.2f} s", flush=True)
    ratios = [other / usual for usual, other in pairs]
    usual, other = (statistics.median(side) / settings["steps"] for side in zip(*pairs, strict=True))
    memory = f"{kept['other']:.0f} instead of {kept['usual']:.0f}" if "recompute" in name else "as usual"
    ratio = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    note = f"the search takes {kept['search']:.1f} ms" if name.startswith("unused") else ""
    return CHOICES.row([case, name, f"{usual:.2f}", f"{other:.2f}", ratio, memory, note])


def main() -> None:
    """Print efficiency and model, or the options; with --write also append rows to RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="sam2.1_t")
    parser.add_argument("--size", type=int, default=384, help="pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="in a round")
    parser.add_argument("--options", action="store_true", help="measure every option instead")
    parser.add_argument("--only", choices=[*OPTIONS][1:], action="append", help="this option, not all")
    parser.add_argument("--step-s", type=float, help="seconds of a step on a GPU, for the model")
    parser.add_argument("--state", action="store_true", help="only print what training keeps, by model")
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that it works")
    parser.add_argument("--write", action="store_true", help="append rows to benchmarks/RESULTS.md")
    parser.add_argument("--busy", action="store_true", help="say in the rows that the machine was not quiet")
    given = parser.parse_args()
    if given.state:
        print(state_table())
        return
    if given.quick:
        given.model, given.size, given.rounds, given.steps = "test", 64, 2, 1
    settings = {"model": given.model, "size": given.size, "frames": 4, "clicks": 3, "objects": 2}
    settings |= {"rounds": given.rounds, "steps": given.steps, "option": ""}
    case = (
        f"{given.model}, {given.size} px, 4 frames x 2 objects, 3 corrections, fp32, gloo, 2 processes, "
        f"{given.rounds} rounds of {given.steps} steps" + (" (not quiet)" if given.busy else "")
    )

    def show(row: str, table: Table) -> None:
        """Print the row, and with --write keep it."""
        print(f"\n{row}\n", flush=True)
        if given.write and not given.quick:
            table.append(row)

    if given.options or given.only:
        for name in given.only or [*OPTIONS][1:]:
            show(measure_option(name, settings, case), CHOICES)
    else:
        row, found = measure_scaling(settings, case)
        show_model(found, settings, given.step_s)
        show(row, SCALING)


if __name__ == "__main__":
    main()
