"""Random sessions with a video predictor: prompts, passes, corrections, second thoughts. From a seed alone.

A script is plain JSON: weights, a video, settings, and steps as in the recorded sessions of tests/golden, such as
`{"op": "points", "frame": 3, "obj": 1, "points": [[20, 30]], "labels": [1]}`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Op = dict[str, Any]
Script = dict[str, Any]

VIDEOS = ((90, 160), (68, 121), (128, 100))  # height, width; or that of the network
OVERRIDES = (
    "++model.max_cond_frames_in_attn=2",
    "++model.max_cond_frames_in_attn=3",
    "++model.memory_temporal_stride_for_eval=2",
    "++model.memory_temporal_stride_for_eval=3",
    "++model.non_overlap_masks=true",
    "++model.add_all_frames_to_correct_as_cond=true",
    "++model.num_maskmem=4",
    "++model.max_obj_ptrs_in_encoder=4",
    "++model.only_obj_ptrs_in_the_past_for_eval=false",
    # "false" is not among them: the reference's postprocessing wins over it, ours does not
    "++model.binarize_mask_from_pts_for_mem_enc=true",
)


def random_script(seed: int, size_px: int) -> Script:
    """The session number `seed`."""
    random = np.random.default_rng(seed)
    videos = (*VIDEOS, (size_px, size_px))
    height, width = videos[random.integers(len(videos))]
    frames = int(random.integers(8, 13))
    count = int(random.choice([0, 0, 1, 1, 2, 3]))
    overrides = [str(x) for x in random.choice(OVERRIDES, count, replace=False)]
    names = [one.split("=")[0] for one in overrides]
    author = Author(
        random,
        frames,
        (height, width),
        [int(i) for i in random.permutation([1, 2, 7])[: random.integers(1, 4)]],
        corrections_are_prompted="++model.add_all_frames_to_correct_as_cond" in names,
    )
    return {
        "name": f"seed {seed}",
        "model": str(random.choice(["sam2.1_t", "sam2.1_t", "sam2_t"])),
        "variant": str(random.choice(["present", "present", "present", "mixed", "mixed", "absent"])),
        "salt": str(random.choice(["", "a", "b", "c"])),
        "size": size_px,
        "video": [int(random.integers(100)), frames, height, width],
        "overrides": [one for k, one in enumerate(overrides) if names[k] not in names[:k]],
        "postprocessing": bool(random.random() < 0.8),
        "ops": author.write(int(random.integers(6, 13))),
    }


@dataclass
class Author:
    """Writes steps that mean something: it keeps roughly the account of frames that a predictor keeps."""

    random: np.random.Generator
    frames: int
    size: tuple[int, int]
    ids: list[int]
    corrections_are_prompted: bool
    prompted: dict[int, set[int]] = field(default_factory=dict)
    tracked: dict[int, set[int]] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)

    def write(self, count: int) -> list[Op]:
        """About `count` steps, the last of which follows all objects."""
        while len(self.ops) < count:
            kinds = {"prompt": 0.55, "follow": 0.27, "clear": 0.1, "remove": 0.05, "reset": 0.03}
            kind = str(self.random.choice(list(kinds), p=list(kinds.values())))
            if kind == "prompt" or not self.prompted:
                self.ops.append(self.prompt())
            elif kind == "follow":
                self.follow()
            elif kind == "clear":
                self.clear()
            elif kind == "remove":
                self.remove()
            else:
                self.ops.append({"op": "reset"})
                self.prompted.clear()
                self.tracked.clear()
        if not self.prompted:
            self.ops.append(self.prompt())
        self.follow()
        return self.ops

    def prompt(self, obj: int | None = None, frame: int | None = None) -> Op:
        """Point at an object, new or known."""
        obj = int(self.random.choice(self.ids)) if obj is None else obj
        prompted = self.prompted.setdefault(obj, set())
        tracked = self.tracked.setdefault(obj, set())
        frame = self._frame(prompted, tracked) if frame is None else frame
        if frame not in tracked or self.corrections_are_prompted:
            prompted.add(frame)
        kind = self.random.choice(["points", "points", "points", "more", "box", "box and points", "mask"])
        op: Op = {"frame": frame, "obj": obj}
        if kind == "mask":
            which = [int(self.random.integers(self.frames)), int(self.random.integers(2))]
            # an object that is nowhere to be seen
            return {"op": "mask", **op, "mask_of": None if self.random.random() < 0.1 else which}
        if kind == "more":
            return {"op": "points", **op, **self._points(), "clear_old": False}
        if kind == "points":
            return {"op": "points", **op, **self._points()}
        return {"op": "box", **op, "box": self._box(), **(self._points() if kind == "box and points" else {})}

    def follow(self) -> None:
        """Track, after a prompt for every object that has none."""
        for obj in [obj for obj, prompted in self.prompted.items() if not prompted]:
            free = sorted(set(range(self.frames)) - self.tracked[obj])
            if free and self.random.random() < 0.95:
                self.ops.append(self.prompt(obj, int(self.random.choice(free))))
        op: Op = {"op": "propagate", "reverse": bool(self.random.random() < 0.35)}
        first = min((frame for prompted in self.prompted.values() for frame in prompted), default=0)
        if self.random.random() < 0.5:
            op["start"] = first = int(self.random.integers(self.frames))
        count = self.frames
        if self.random.random() < 0.5:
            op["max"] = count = int(self.random.integers(1, self.frames))
        visited = (
            range(first, max(first - count, 0) - 1, -1) if op["reverse"] else range(first, first + count + 1)
        )
        for tracked in self.tracked.values():
            tracked |= {frame for frame in visited if frame < self.frames}
        if self.random.random() < 0.1:
            known = int(self.random.choice(list(self.prompted)))
            op["inside"] = [int(self.random.integers(3)), self.prompt(known)]
        self.ops.append(op)

    def clear(self) -> None:
        """Take back the prompts of a frame."""
        obj = int(self.random.choice(list(self.prompted)))
        frame = self._frame(self.prompted[obj], self.tracked[obj])
        if frame in self.prompted[obj]:
            self.prompted[obj].discard(frame)
            self.tracked[obj].discard(frame)
        self.ops.append({"op": "clear", "frame": frame, "obj": obj})

    def remove(self) -> None:
        """Remove an object, at times one that does not exist."""
        obj = int(self.random.choice([*self.prompted, 99]))
        self.prompted.pop(obj, None)
        self.tracked.pop(obj, None)
        self.ops.append({"op": "remove", "obj": obj})

    def _frame(self, prompted: set[int], tracked: set[int]) -> int:
        """A frame, often one where something has happened."""
        near = self.random.random()
        chosen = prompted if near < 0.35 else tracked if near < 0.65 else set()
        return int(self.random.choice(sorted(chosen or range(self.frames))))

    def _points(self) -> dict[str, Any]:
        height, width = self.size
        count = int(self.random.integers(1, 4))
        at = self.random.uniform(0, 1, (count, 2)) * [width - 1, height - 1]
        labels = [int(one) for one in self.random.random(count) < 0.7]
        return {"points": at.round(1).tolist(), "labels": labels}

    def _box(self) -> list[float]:
        height, width = self.size
        x, y = self.random.uniform(0, 0.5, 2) * [width, height]
        w, h = self.random.uniform(0.1, 0.5, 2) * [width, height]
        return [round(float(one), 1) for one in (x, y, x + w, y + h)]
