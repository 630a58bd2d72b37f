"""What a run reads and this machine does not see: a warning, as a login node need not have the disks of the nodes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from data.storage.place import is_url
from sam2.training.config import RunConfig


def warn_of_unseen(*configs: RunConfig, weights: bool = True) -> None:
    """Say on standard error what is named in the settings and is not there.

    Args:
        configs: settings of runs; what several of them read is told once.
        weights: whether weights have to be there already; not if another job is to make them.
    """
    named = dict.fromkeys(each for config in configs for each in _named(config, weights).items())
    for key, path in named:
        if not path.exists():
            print(
                f"warning: {key} {path} is not visible from here; every node has to see it", file=sys.stderr
            )


def _named(config: RunConfig, weights: bool) -> Mapping[str, Path]:
    """Local files and folders that a run reads, by their settings."""
    data, named = config.data, dict[str, str | Path | None]()
    if config.synthetic is None:  # else they are made
        named = {f"data.datasets[{k}].root": part.root for k, part in enumerate(data.datasets)}
        named |= {"data.root": data.root, "data.val_root": data.val_root}
    if weights:
        named |= {"model.checkpoint": config.model.checkpoint, "model.trunk": config.model.trunk}
    return {key: Path(place) for key, place in named.items() if place is not None and not is_url(place)}
