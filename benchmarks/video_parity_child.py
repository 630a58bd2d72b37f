"""One side of benchmarks/video_parity.py: plays scripts and writes down all that can be seen from outside.

Run by its parent: python video_parity_child.py SIDE SETTINGS_JSON. The last line printed is a JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from video_scripts import Op, Script
from video_sides import Build, Clip, Side, Weights, clip

KEPT = ("pred_masks", "obj_ptr", "object_score_logits", "maskmem_features")
Shown = tuple[int, list[int], Any]


def mend(predictor: Any) -> list[int]:
    """Let the reference go on where it stops in float32: a frame with memories (bfloat16) but no pointer in reach.

    Memories are cast as they are whenever there is a pointer. Gives a list that grows with every such frame.
    """
    mended: list[int] = []

    def cast(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if named["memory"].dtype != torch.float32:
            mended.append(1)
            named = {**named, "memory": named["memory"].float()}
        return given, named

    predictor.memory_attention.register_forward_pre_hook(cast, with_kwargs=True)
    return mended


class Player:
    """One session. `arrays` gets all masks, by step and frame."""

    def __init__(self, side: Side, script: Script, noise: float) -> None:
        weights = Weights(script["model"], script["variant"], script["salt"])
        build = Build(
            weights,
            script["size"],
            overrides=script["overrides"],
            postprocessing=script["postprocessing"],
        )
        seed, frames, height, width = script["video"]
        film = clip(frames, height, width, script["size"], seed)
        if noise:
            drawn = torch.randn(film.network_input.shape, generator=torch.Generator().manual_seed(0))
            film = Clip(film.frames, film.network_input + noise * drawn, film.masks)
        self.predictor = side.video_predictor(build)
        self.mended = mend(self.predictor) if side.is_reference else []
        self.state = side.state(self.predictor, film)
        self.film, self.script = film, script
        self.arrays: dict[str, np.ndarray] = {}

    def play(self) -> list[dict[str, Any]]:
        """Do all steps up to the first that is refused; what is known after each."""
        log = []
        for number, op in enumerate(self.script["ops"]):
            entry: dict[str, Any] = {"shown": [], "mended": len(self.mended)}
            log.append(entry)
            try:
                self._run(op, f"{number}", entry["shown"])
            except Exception as error:  # noqa: BLE001  # whatever a side refuses with is what is compared
                entry["error"] = f"{type(error).__name__}: {error}"
                break
            entry["mended"] = len(self.mended) - entry["mended"]
            entry["layout"] = self._layout()
        return log

    def keep_tensors(self) -> None:
        """Put what is remembered of every object into `arrays`, too."""
        for k, parts in self.state["output_dict_per_obj"].items():
            for frames in parts.values():
                for frame, kept in frames.items():
                    for name in KEPT:
                        if kept[name] is not None:
                            self.arrays[f"kept/{name}/object {k}, frame {frame}"] = (
                                kept[name].float().cpu().numpy()
                            )

    def _run(self, op: Op, key: str, shown: list[Any]) -> None:
        if op["op"] != "propagate":
            for found in self._do(op):
                self._note(found, key, shown)
            return
        inside = op.get("inside")
        passes = self.predictor.propagate_in_video(
            self.state, op.get("start"), op.get("max"), op.get("reverse", False)
        )
        for k, found in enumerate(passes):
            self._note(found, key, shown)
            if inside and inside[0] == k:
                for nested in self._do(inside[1]):
                    self._note(nested, f"{key}/inside", shown)

    def _do(self, op: Op) -> list[Shown]:
        predictor, state, kind = self.predictor, self.state, op["op"]
        if kind in ("points", "box"):
            given = {name: op[name] for name in ("points", "labels", "box") if name in op}
            clear = op.get("clear_old", True)
            return [
                predictor.add_new_points_or_box(
                    state, op["frame"], op["obj"], clear_old_points=clear, **given
                )
            ]
        if kind == "mask":
            which = op["mask_of"]
            mask = np.zeros(self.film.size, bool) if which is None else self.film.masks[tuple(which)]
            return [predictor.add_new_mask(state, op["frame"], op["obj"], mask)]
        if kind == "clear":
            return [predictor.clear_all_prompts_in_frame(state, op["frame"], op["obj"])]
        if kind == "remove":
            ids, updated = predictor.remove_object(state, op["obj"])
            # the reference goes through a set
            return [(frame, ids, masks) for frame, masks in sorted(updated, key=lambda pair: pair[0])]
        if kind == "reset":
            predictor.reset_state(state)
            return []
        raise SystemExit(f"there is no step {kind!r}")

    def _note(self, found: Shown, key: str, shown: list[Any]) -> None:
        frame, ids, masks = found
        where = f"{key}/{len(shown)}/frame {frame}"
        shown.append([frame, list(ids), where])
        self.arrays[where] = masks.float().cpu().numpy()

    def _layout(self) -> dict[str, Any]:
        """Which frames are prompted, remembered and tracked, object by object."""
        layout = {"ids": list(self.state["obj_ids"])}
        tracked = self.state["frames_tracked_per_obj"]
        for k, parts in self.state["output_dict_per_obj"].items():
            passed = sorted((frame, known["reverse"]) for frame, known in tracked[k].items())
            layout[f"object {k}"] = [*(sorted(frames) for frames in parts.values()), passed]
        return layout


def main() -> None:
    """Play all scripts that the parent asked for."""
    asked = json.loads(sys.argv[2])
    torch.set_num_threads(asked["threads"])
    side, logs = Side(sys.argv[1], asked["reference"]), []
    for number, script in enumerate(asked["scripts"]):
        player = Player(side, script, asked["noise"])
        logs.append(player.play())
        player.keep_tensors()
        np.savez(Path(asked["folder"]) / f"{number}.npz", **player.arrays)  # type: ignore[arg-type]
    print(json.dumps(logs))


if __name__ == "__main__":
    main()
