"""What memory policies cost: milliseconds a frame and object beside the trunk, and bytes of state an object.

Run: python benchmarks/policies.py [--model 2.1_t] [--size 256] [--objects 1] [--device cpu] [--write]

Every policy of `configs/policy` follows the same objects through the same frames, in constant memory as a stream does.
Frames are embedded beforehand; on each, the policies take turns, and ratios to the reference are formed within a frame,
so that a busy machine slows all of them alike; on a CPU one thread works, and its own time is taken. Weights are random
and made confident (objects visible, high IoUs): what a policy costs is measured, not what it is good for. State is
measured after the last frame.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field, replace
from itertools import cycle

import torch
from harness import Table, tensor_bytes

from sam2.model.memory_bank import Place
from sam2.model.sam2 import SAM2
from sam2.policies import find_policy, policy_names
from sam2.tracker import Track, Tracker
from sam2.types import Features, MaskPrompt
from sam2.variants import resolve

TABLE = Table(
    "Memory policies, cost of a tracked frame beside the trunk",
    ("case", "policy", "ms a frame and object", "times the reference", "KiB of state an object"),
)
_SCENES = 4  # different frames, shown in turn


@dataclass
class Side:
    """One policy on its way."""

    tracker: Tracker
    tracks: list[Track] = field(default_factory=list)
    laps: list[float] = field(default_factory=list)

    def begin(self, features: Features, masks: torch.Tensor) -> None:
        """Answer the first frame with masks (O, S, S)."""
        place, blank = Place(0, self.tracker.rules.max_pointers), self.tracker.begin()
        asked = [MaskPrompt(mask[None, None]) for mask in masks]
        answers = [self.tracker.ask(features, blank, place, prompt, True) for prompt in asked]
        self.tracks = self.tracker.commit(features, [blank] * len(masks), answers, place, [True] * len(masks))

    def step(self, features: Features, frame: int) -> None:
        """Follow to `frame` and take the time, milliseconds an object."""
        place = Place(frame, self.tracker.rules.max_pointers)
        start = self._now()
        found = self.tracker.advance(features, self.tracks, place)
        self.tracks = [self.tracker.forget(track, place) for _, track in found]
        self.laps.append(1e3 * (self._now() - start) / len(self.tracks))

    def _now(self) -> float:
        if not self.tracker.model.no_mem_embed.is_cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def confident_model(name: str, size: int, device: str) -> SAM2:
    """Random weights whose objects are visible and whose masks seem good."""
    torch.manual_seed(0)
    variant = resolve(name).at(size)
    model = SAM2(replace(variant, heads=replace(variant.heads, object_bias=5.0))).eval()
    with torch.no_grad():
        model.sam_mask_decoder.iou_prediction_head.state_dict()["layers.2.bias"] += 3
    return model.to(device)


@torch.inference_mode()
def measure(model: SAM2, objects: int, warm_up: int, frames: int) -> dict[str, Side]:
    """Every policy after `warm_up + frames` tracked frames; `laps` are of the latter."""
    device, size = model.no_mem_embed.device, model.image_size
    images = torch.randn(_SCENES, 3, size, size, generator=torch.Generator().manual_seed(0))
    scenes = [model.observe(image[None].to(device)) for image in images]
    masks = torch.zeros(objects, size, size, device=device)
    for k, mask in enumerate(masks):
        mask[size // 4 : size // 2, k * size // (2 * objects) : k * size // (2 * objects) + size // 4] = 1
    sides = {name: Side(Tracker(model, find_policy(name))) for name in policy_names()}
    for side in sides.values():
        side.begin(scenes[0], masks)
    for frame, features in zip(range(1, warm_up + frames + 1), cycle(scenes)):
        for side in sides.values():
            side.step(features, frame)
    for side in sides.values():
        side.laps = side.laps[warm_up:]
    return sides


def main() -> None:
    """Print a row for every policy; with --write append them to RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="sam2.1_t")
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--warm-up", type=int, default=30, help="frames until all memories are full")
    parser.add_argument("--frames", type=int, default=20, help="timed frames")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--note", default="", help="what to say about the machine, such as: not quiet")
    parser.add_argument("--write", action="store_true", help="append rows to benchmarks/RESULTS.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = confident_model(given.model, given.size, given.device)
    sides = measure(model, given.objects, given.warm_up, given.frames)
    case = f"{given.model}, {given.size} px, {given.objects} objects, fp32, {given.device}, 1 thread"
    case += f" ({given.note})" if given.note else ""
    for name, side in sides.items():
        ratio = statistics.median(a / b for a, b in zip(side.laps, sides["reference"].laps, strict=True))
        kib = tensor_bytes(side.tracks) / given.objects / 1024
        row = TABLE.row([case, name, f"{statistics.median(side.laps):.1f}", f"{ratio:.2f}", f"{kib:.0f}"])
        print(row, flush=True)
        if given.write:
            TABLE.append(row)


if __name__ == "__main__":
    main()
