"""Changes of colour, folded into one matrix for a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL


@dataclass(frozen=True)
class Colour:
    """What is done to the colours of a frame.

    Attributes:
        order: which channel comes first, second and third; this happens first.
        steps: ("brightness" | "contrast" | "saturation", factor), one after the other; saturation 0 is grey.
    """

    order: tuple[int, ...] = (0, 1, 2)
    steps: tuple[tuple[str, float], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps) or self.order != (0, 1, 2)

    def linear(self) -> Tensor:
        """Everything as one (3, 6) float64 matrix on (red, green, blue, mean red, mean green, mean blue of the frame).

        It is linear because contrast mixes in the mean grey. Values are not clipped between the steps (the reference
        does that): what one step makes too bright and the next darkens survives.
        """
        grey = torch.tensor(GREY, dtype=torch.float64)
        pixel = torch.eye(3, dtype=torch.float64)[list(self.order)]
        mean = torch.zeros(3, 3, dtype=torch.float64)
        for name, factor in self.steps:
            if name == "brightness":
                pixel, mean = factor * pixel, factor * mean
            elif name == "contrast":
                mean = factor * mean + (1 - factor) * (grey @ (pixel + mean))
                pixel = factor * pixel
            elif name == "saturation":
                pixel = factor * pixel + (1 - factor) * (grey @ pixel)
                mean = factor * mean + (1 - factor) * (grey @ mean)
            else:
                raise ValueError(f"no change of colour is called {name!r}")
        return torch.cat([pixel, mean], 1)


def colour_table(colours: Sequence[Colour]) -> Tensor | None:
    """(T, 3, 6) float32 of T frames, see `Colour.linear`; None if all keep their colours."""
    return torch.stack([colour.linear() for colour in colours]).float() if any(colours) else None
