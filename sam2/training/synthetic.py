"""Made-up videos as training data: rendered, converted to shards once, found again by every run that asks for the same.

They take the way that real ones take: mp4 and COCO masks in the layout of SA-V, `sam2 data convert`, shards.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data.sources.sav import Source
from data.synthetic import PRESETS, generate
from data.write import ConvertOptions, convert
from sam2.counted import counted
from sam2.evaluation.files import write_atomically
from sam2.lock import FOREVER, locked
from sam2.training.environment import usable_cores

_DONE = "made.json"


@dataclass(frozen=True)
class SyntheticData:
    """Videos to make before training; `data.root` and `data.val_root` become theirs.

    Attributes:
        preset: what they look like, see data/scenes/staging.py.
        seed: another seed, other videos.
        train: how many to train on.
        held_out: how many to evaluate on.
        split: of the evaluation; `test` shares nothing with what settings were ever chosen on.
        folder: where they are kept; null: in `<runs>/synthetic`.
    """

    preset: str = "easy"
    seed: int = 0
    train: int = 300
    held_out: int = 24
    split: Literal["val", "test"] = "val"
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"synthetic.preset is {self.preset!r}; choose {', '.join(PRESETS)}")
        if self.train < 1 or self.held_out < 1:
            raise ValueError("synthetic.train and synthetic.held_out must be at least 1")


def decisive_of(wanted: SyntheticData) -> dict[str, Any]:
    """All that decides what is in the videos, as plain values."""
    video = asdict(replace(PRESETS[wanted.preset], seed=wanted.seed))
    return {**asdict(wanted), "folder": None, "video": video}


def roots(wanted: SyntheticData, runs: Path) -> tuple[Path, Path]:
    """Folders of the shards to train on and of those to evaluate on; they change with what is in them."""
    content = json.dumps(decisive_of(wanted), sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:10]
    folder = (wanted.folder or runs / "synthetic") / f"{wanted.preset}-{digest}"
    return folder / "shards" / "train", folder / "shards" / wanted.split


def is_made(wanted: SyntheticData, runs: Path) -> bool:
    """Whether both are complete."""
    return all((shards / _DONE).is_file() for shards in roots(wanted, runs))


def make(wanted: SyntheticData, runs: Path) -> None:
    """Make what is not there yet; what an interrupted call left is made again or completed."""
    settings = replace(PRESETS[wanted.preset], seed=wanted.seed)
    counts = (("train", wanted.train), (wanted.split, wanted.held_out))
    for (split, count), shards in zip(counts, roots(wanted, runs), strict=True):
        folder = shards.parent.parent
        with locked(folder, wait_s=FOREVER):
            if (shards / _DONE).is_file():
                continue
            print(f"making {count} videos: {folder / 'videos' / split}", flush=True)
            videos = folder / "videos" / split
            with counted("drawing", "clips") as progress:
                generate(settings, split, count, videos, usable_cores(), progress, overwrite=True)
            with counted("converting", "clips") as progress:
                report = convert(Source(videos), shards, ConvertOptions(overwrite=True), progress)
            facts = {"clips": report.clips, "fingerprint": report.fingerprint, "skipped": report.skipped}
            write_atomically(shards / _DONE, json.dumps(facts) + "\n")
