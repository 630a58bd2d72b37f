"""Changes of colour, folded into one matrix for a frame."""

from __future__ import annotations

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

    def matrix(self, mean: Tensor) -> Tensor:
        """Everything as one (3, 4) float64 matrix on (r, g, b, 1), for a frame whose mean colour is `mean` (3,).

        Values are not clipped between the steps (the reference does that): what one step makes too bright and the
        next darkens survives.
        """
        grey = torch.tensor(GREY, dtype=torch.float64)
        total = torch.eye(3, 4, dtype=torch.float64)[list(self.order)]
        colour = torch.cat([mean.double(), torch.ones(1, dtype=torch.float64)])
        for name, factor in self.steps:
            if name == "brightness":
                total *= factor
            elif name == "contrast":
                mean_grey = grey @ (total @ colour)
                total *= factor
                total[:, 3] += (1 - factor) * mean_grey
            elif name == "saturation":
                total = factor * total + (1 - factor) * (grey @ total)
            else:
                raise ValueError(f"no change of colour is called {name!r}")
        return total
