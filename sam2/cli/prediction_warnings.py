"""What is likely not meant, though it can be done: said before the work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from sam2.cli.predict_options import PredictOptions
from sam2.cli.weights import Weights
from sam2.model_config import config_beside

_MAX_BYTES = 1 << 16


def warnings_for(options: PredictOptions, weights: Weights) -> Iterator[str]:
    """One line for each thing that deserves a second look."""
    pick = max if options.direction == "backward" else min
    for object_id in options.object_ids:
        first = pick(
            (p for p in options.prompts if p.object_id == object_id), key=lambda prompt: prompt.frame
        )
        if first.points and not any(first.labels) and first.box is None:
            yield (
                f"{first}: begins with a click beside it alone, which does not say where it is; add a --point on it "
                "or a --box"
            )
    if weights.path is not None and any(prompt.mask is None for prompt in options.prompts):
        config = config_beside(weights.path)
        if config is not None and _saw_masks_only(config):
            yield (
                "the model was trained from masks only (prompts: masks), so clicks and boxes mean little to it; "
                "use --mask"
            )


def _saw_masks_only(config: Path) -> bool:
    """Whether the run of this config.yaml began no clip with clicks or a box; False where it does not say."""
    if config.stat().st_size > _MAX_BYTES:
        return False
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return False  # a model was built by it or by another file: not the place to complain
    prompts, data = (content.get(name) if isinstance(content, dict) else None for name in ("prompts", "data"))
    if not isinstance(prompts, dict) or prompts.get("point_start") != 0:
        return False
    # clips of one frame begin with clicks or a box whatever the group says
    return not (isinstance(data, dict) and data.get("frames") == 1)
