"""Dividing the clips of a source: each belongs to the part that a hash of its video, patient or name falls into.

So a clip stays in its part when others are added, and clips of one group are never on both sides.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from data.clip import DataError, SourceClip
from data.plural import plural


@dataclass(frozen=True)
class Part:
    """The clips whose hash, from 0 to 1, is at least `low` and less than `high`."""

    name: str
    low: float
    high: float

    def holds(self, clip: SourceClip) -> bool:
        """Whether a clip belongs to it."""
        return self.low <= _place(clip) < self.high


def _place(clip: SourceClip) -> float:
    """From 0 to 1, the same for all clips of a group."""
    digest = hashlib.sha256((clip.group or clip.key).encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def parse_split(text: str) -> tuple[Part, ...]:
    """The parts "train" and "val" of `video-hash:SHARE`, SHARE being that of "train".

    Raises:
        DataError: it is written otherwise.
    """
    found = re.fullmatch(r"video-hash:(0?\.\d+)", text)
    share = float(found[1]) if found else 0.0
    if not 0 < share < 1:
        raise DataError(
            f"--split {text}: expected video-hash:SHARE with a share between 0 and 1, such as video-hash:0.9"
        )
    return Part("train", 0.0, share), Part("val", share, 1.0)


def refuse_empty(parts: Sequence[Part], clips: Sequence[SourceClip], where: str) -> None:
    """See that each part gets a clip, before the first is converted.

    Args:
        parts: those of `parse_split`.
        clips: all of the source; none at all is no matter of the split.
        where: what the source is called.

    Raises:
        DataError: one gets none; names a share that would do, if any does.
    """
    empty = [part.name for part in parts if clips and not any(part.holds(clip) for clip in clips)]
    if not empty:
        return
    places = {_place(clip) for clip in clips}
    shares = [k / 100 for k in range(1, 100) if min(places) < k / 100 <= max(places)]
    nearest = min(shares, key=lambda share: abs(share - parts[0].high), default=None)
    remedy = f"give another share, such as video-hash:{nearest:g}" if nearest else "they stay together"
    raise DataError(
        f'{where}: --split video-hash:{parts[0].high:g} puts none of {plural(len(clips), "clip")} into "{empty[0]}"; '
        f"{remedy}, or convert two folders without --split"
    )
