"""Random sessions in the released video predictor and in ours: whatever a caller can see must be equal.

Run: python benchmarks/video_parity.py --reference DIR [--install-reference] [--seeds 0 20] [--script FILE]

Prompts, passes in both directions, corrections, removals and settings are drawn from a seed (video_scripts.py) and
played by both sides, each in a process of its own: masks of every answer, ids, frames, which frames are prompted,
remembered and tracked after every step, and at the end all that is remembered. Where both sides refuse a step the
script ends. The reference is helped over its stop on frames that have memories but no pointer in reach (counted as
"mended"). Where masks differ, it is shown how far the reference differs from itself when its frames are changed by
a millionth: scores near zero and near ties fall to either side, which is nobody's fault.

The golden weights are used: no download, no meaning. Exit status 1 if something differs beyond that.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from harness import add_reference_arguments, fresh_process, reference_folder
from video_scripts import Op, Script, random_script

CHILD = "video_parity_child.py"
LOGIT_RANGE = 32.0  # beyond it a mask is what it is
MASKS = 1e-2  # logits, as of the recorded videos in tests/golden
KEPT = {"pred_masks": MASKS, "obj_ptr": 1e-3, "object_score_logits": 1e-3, "maskmem_features": 0.1}
NOISE = 1e-6
BATCH = 4  # scripts of a process

Arrays = dict[str, np.ndarray]
Log = list[dict[str, Any]]


@dataclass
class Verdict:
    """How two sides compare: the greatest difference of masks up to the first that is too great, and what that is."""

    worst: float = 0.0
    answers: int = 0
    mended: int = 0
    step: int | None = None
    difference: str = ""
    end: str = ""
    kept: dict[str, float] = field(default_factory=dict)

    def differs(self, step: int, what: str) -> Verdict:
        """This, ended by a difference."""
        self.step, self.difference = step, what
        return self


def judge(ops: list[Op], theirs: tuple[Log, Arrays], ours: tuple[Log, Arrays]) -> Verdict:
    """Compare step by step."""
    verdict = Verdict()
    for step, (a, b) in enumerate(zip(theirs[0], ours[0], strict=False)):
        verdict.mended += a["mended"]
        if "error" in b and "error" not in a:
            return verdict.differs(step, f"only ours refuses: {b['error']}")
        if "error" in a:
            verdict.end = (
                f"step {step}: {'both refuse' if 'error' in b else 'the reference stops'}: {a['error']}"
            )
        for (frame, ids, key), (our_frame, our_ids, our_key) in zip(a["shown"], b["shown"], strict=False):
            if (frame, ids) != (our_frame, our_ids):
                return verdict.differs(
                    step, f"frame {frame} with ids {ids}; ours frame {our_frame} with {our_ids}"
                )
            one, other = theirs[1][key], ours[1][our_key]
            if one.shape != other.shape:
                return verdict.differs(step, f"frame {frame}: masks {one.shape}, ours {other.shape}")
            verdict.answers += 1
            apart = [distance(x, y) for x, y in zip(one, other, strict=True)]
            verdict.worst = max([verdict.worst, *apart])
            if not verdict.worst < MASKS:
                each = ", ".join(f"{i}: {x:.1e}" for i, x in zip(ids, apart, strict=True))
                return verdict.differs(step, f"frame {frame} ({key}): logits apart by object {each}")
        if "error" in a:
            return verdict
        if len(a["shown"]) != len(b["shown"]):
            return verdict.differs(step, f"{len(a['shown'])} answers, ours {len(b['shown'])}")
        if a["layout"] != b["layout"]:
            return verdict.differs(step, f"state is {a['layout']}\n        ours is {b['layout']}")
    return compare_kept(verdict, len(ops) - 1, theirs[1], ours[1])


def compare_kept(verdict: Verdict, last: int, theirs: Arrays, ours: Arrays) -> Verdict:
    """What is remembered at the end of a script that nobody refused."""
    for key in [key for key in theirs if key.startswith("kept/")]:
        _, name, where = key.split("/", 2)
        apart = distance(theirs[key], ours[key]) if key in ours else np.inf
        verdict.kept[name] = max(verdict.kept.get(name, 0.0), apart)
        if not apart < KEPT[name]:
            return verdict.differs(last, f"at the end, {name} of {where}: {apart:.1e} apart")
    return verdict


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """The greatest difference, large logits aside."""
    return float(
        np.abs(np.clip(one, -LOGIT_RANGE, LOGIT_RANGE) - np.clip(other, -LOGIT_RANGE, LOGIT_RANGE)).max()
    )


def play(
    side: str, scripts: list[Script], common: dict[str, Any], noise: float = 0.0
) -> Iterator[tuple[Log, Arrays]]:
    """What a side shows, script by script."""
    with TemporaryDirectory() as folder:
        settings = {**common, "scripts": scripts, "noise": noise, "folder": folder}
        logs: Any = fresh_process(CHILD, side, settings)
        for number, log in enumerate(logs):
            with np.load(Path(folder) / f"{number}.npz") as file:
                yield log, {key: file[key] for key in file.files}


def report(
    script: Script, theirs: tuple[Log, Arrays], ours: tuple[Log, Arrays], common: dict[str, Any]
) -> bool:
    """Print how a script went; whether it is fine."""
    verdict = judge(script["ops"], theirs, ours)
    print(
        f"{script['name']}: {script['model']} {script['variant']}{script['salt']} {script['video']} "
        f"{' '.join(script['overrides'])}{'' if script['postprocessing'] else ' apply_postprocessing=False'}: "
        f"{len(script['ops'])} steps, {verdict.answers} answers, logits {verdict.worst:.1e} apart, "
        f"{verdict.mended} mended"
    )
    if verdict.kept:
        print("    kept: " + ", ".join(f"{name} {apart:.1e}" for name, apart in verdict.kept.items()))
    if verdict.end:
        print(f"    ends early; {verdict.end}")
    if verdict.step is None:
        return True
    print(
        f"    DIFFERS at step {verdict.step}, {json.dumps(script['ops'][verdict.step])}\n        {verdict.difference}"
    )
    [moved] = play("reference", [script], common, NOISE)
    itself = judge(script["ops"], theirs, moved)
    print(f"    the reference under noise: {itself.worst:.1e} apart, step {itself.step} {itself.difference}")
    is_noise = itself.step is not None and itself.step <= verdict.step
    if is_noise:
        print("    no fault: the reference differs from itself as early")
    else:
        print(f"    {json.dumps({**script, 'ops': script['ops'][: verdict.step + 1]})}")
    return is_noise


def main() -> int:
    """Play all scripts and print what differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_reference_arguments(parser)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 20), metavar=("FIRST", "END"))
    parser.add_argument("--script", type=Path, help="a JSON file: one script, or a list of them")
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    common = {"reference": str(reference_folder(parser, given)), "threads": given.threads}
    if given.script:
        read = json.loads(given.script.read_text())
        scripts = read if isinstance(read, list) else [read]
    else:
        scripts = [random_script(seed, given.size) for seed in range(*given.seeds)]
    fine = True
    for start in range(0, len(scripts), BATCH):
        some = scripts[start : start + BATCH]
        pairs = zip(play("reference", some, common), play("ours", some, common), strict=True)
        for script, (theirs, ours) in zip(some, pairs, strict=True):
            fine &= report(script, theirs, ours, common)
            sys.stdout.flush()
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
