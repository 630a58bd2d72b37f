"""Where the files that come with the project are: `configs` and `recipes`."""

from __future__ import annotations

from pathlib import Path


def shipped(folder: str) -> Path:
    """The project's own `configs` or `recipes`: in the checkout, or inside an installed package."""
    package = Path(__file__).resolve().parent
    installed = package / folder
    return installed if installed.is_dir() else package.parent / folder
