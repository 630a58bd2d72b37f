"""What is made for a job that SLURM then refuses is removed again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sam2.slurm.errors import BatchError, NoAnswerError
from sam2.slurm.folder import JobFolder


@contextmanager
def undone_if_refused(*folders: Path) -> Iterator[None]:
    """Remove those of `folders` that are made inside when SLURM refuses; what was there before stays.

    When SLURM gives no answer they stay, too: the job may begin. So does a folder from which a job was submitted.
    """
    made = {folder: _missing(folder) for folder in folders if not folder.exists()}
    try:
        yield
    except NoAnswerError:
        raise
    except BatchError:
        for folder, parents in made.items():
            if folder.is_dir() and not JobFolder(folder).submitted.exists():
                shutil.rmtree(folder)
                _remove_empty(parents)
        raise


def _missing(folder: Path) -> list[Path]:
    return [parent for parent in folder.absolute().parents if not parent.exists()]


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, the innermost first, up to one that holds something."""
    for folder in folders:
        if any(folder.iterdir()):
            return
        folder.rmdir()
