"""Dividing the clips of a source: each belongs to the part that a hash of its video, patient or name falls into.

So a clip stays in its part when others are added, and clips of one group are never on both sides.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from data.clip import DataError, SourceClip


@dataclass(frozen=True)
class Part:
    """The clips whose hash, from 0 to 1, is at least `low` and less than `high`."""

    name: str
    low: float
    high: float

    def holds(self, clip: SourceClip) -> bool:
        """Whether a clip belongs to it."""
        digest = hashlib.sha256((clip.group or clip.key).encode(errors="surrogateescape")).digest()
        return self.low <= int.from_bytes(digest[:7], "big") / (1 << 56) < self.high


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
