"""Which model and weights a command runs with: as it was told, or the one released file that lies at hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sam2.model_config import find_recipe
from sam2.pretrained import RELEASED, PretrainedError, locate

VARIABLE = "SAM2_CHECKPOINT"
RANDOM = "random"
FOLDERS = (Path("."), Path("checkpoints"))

_PAGES = sorted(RELEASED, reverse=True)  # 2.1 first
_ADVICE = """\
Give --checkpoint one of
  the id of a released model, which huggingface_hub fetches and keeps: {ids}
  a weight file: a released one, such as sam2.1_hiera_tiny.pt from the same pages, or a run's export/model.pt
  a run directory, whose export is taken
or, to try things out without, --checkpoint random --model sam2.1_t"""


@dataclass(frozen=True)
class Weights:
    """What to build: a model's name or configuration file, and its weights (None: random ones)."""

    model: str
    path: Path | None

    def __str__(self) -> str:
        return f"{self.model} with random weights" if self.path is None else f"{self.model} from {self.path}"


def find_weights(
    checkpoint: str | None, model: str | None, environment: Mapping[str, str] = os.environ
) -> Weights:
    """The weights that were named, else those at `$SAM2_CHECKPOINT`, else the only released file in `FOLDERS`.

    Args:
        checkpoint: weight file, run directory, folder with one file, id of a released model, or "random".
        model: its name or configuration file, where the weights do not tell; also narrows the search.
        environment: holds the variable.

    Raises:
        PretrainedError: no weights, or several to choose from.
        CheckpointError, UnknownVariantError, SettingError: unreadable weights, or no such model.
    """
    variant = None if model is None else find_recipe(model).variant.name
    if checkpoint is None and environment.get(VARIABLE):
        try:
            return find_weights(environment[VARIABLE], model, {})
        except PretrainedError as error:
            raise PretrainedError(f"${VARIABLE}: {error}") from error
    if checkpoint is None:
        checkpoint = str(_only_one(variant))
    if checkpoint == RANDOM:
        if model is None:
            raise PretrainedError("--checkpoint random needs --model, such as --model sam2.1_t")
        return Weights(model, None)
    if model is not None and Path(checkpoint).is_file():
        return Weights(model, Path(checkpoint))
    recognised, path = locate(checkpoint)
    return Weights(model or recognised, path)


def _only_one(variant: str | None) -> Path:
    """The released file in the folders that are searched, of a variant if that is known."""
    names = [RELEASED[page][1] for page in _PAGES if variant in (None, RELEASED[page][0])]
    found = [path for folder in FOLDERS for name in names if (path := folder / name).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(map(str, found))
        raise PretrainedError(f"several checkpoints lie here ({listed}); choose one with --checkpoint FILE")
    places = " and ".join(f"{folder.resolve()}" for folder in FOLDERS)
    looked = f"none of {', '.join(names)} is in {places}" if names else f"{variant} has no released weights"
    advice = _ADVICE.format(ids=", ".join(_PAGES))
    raise PretrainedError(f"no checkpoint: ${VARIABLE} is not set, and {looked}.\n{advice}")
