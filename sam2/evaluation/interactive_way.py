"""How interactive evaluation is done: mode, rules, and what a corrected frame becomes in the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sam2.evaluation.interactive import MODES, Rules


@dataclass(frozen=True)
class Way:
    """How interactive evaluation is done.

    Attributes:
        mode: "offline" or "online".
        rules: what the person does.
        corrections: what a corrected frame becomes in the memory; "tracked" is for online alone.
        cached_frames: videos of at most this many frames are seen by the trunk once, at 17 MB a frame of 1024 pixels;
            longer ones in every pass.
    """

    mode: str = "offline"
    rules: Rules = Rules()
    corrections: str = "prompted"
    cached_frames: int = 100

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; choose {' or '.join(MODES)}")
        if self.corrections not in ("prompted", "tracked"):
            raise ValueError(f"corrections is {self.corrections!r}; choose prompted or tracked")
        if self.mode == "offline" and self.corrections == "tracked":
            raise ValueError(
                "corrections that stay tracked frames are tracked over by the next pass, so that offline none would "
                "count; leave --corrections at prompted"
            )
        if self.cached_frames < 0:
            raise ValueError(f"cached-frames is {self.cached_frames}; it must be at least 0")

    def settings(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "mode": self.mode,
            "frames_budget": self.rules.frames,
            "clicks": self.rules.clicks,
            "threshold": self.rules.threshold if self.mode == "online" else None,
            "corrections": self.corrections,
        }
