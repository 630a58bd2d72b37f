"""How a job learns that an evaluation makes progress: a line for each video or image that is done."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "SAM2_DONE"  # path of the file, in the environment of a job's tasks


def note(name: str, environment: Mapping[str, str] = os.environ) -> None:
    """Say that a video or image is done, if this process belongs to a job that wants to know."""
    path = environment.get(VARIABLE)
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{name}\n")
