"""Find released or own weights by path, by run or by the released models' ids."""

from __future__ import annotations

import os
from pathlib import Path

from sam2.checkpoint import CheckpointError, identify, read
from sam2.model_config import config_beside
from sam2.variants import VARIANTS, UnknownVariantError, resolve

_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
# released models by the ids of their pages: variant and file
RELEASED: dict[str, tuple[str, str]] = {
    f"facebook/sam{version}-hiera-{size.replace('_', '-')}": (
        f"sam{version}_{short}",
        f"sam{version}_hiera_{size}.pt",
    )
    for version in ("2", "2.1")
    for short, size in {"t": "tiny", "s": "small", "b+": "base_plus", "l": "large"}.items()
}


class PretrainedError(RuntimeError):
    """Weights asked for by name cannot be had."""


def locate(model_id: str | os.PathLike[str]) -> tuple[str, Path]:
    """What to build and the weight file: of a path, a run directory, a folder with one weight file, a released id.

    What to build is a variant's name, or for weights of a run the path of its config.yaml. Only an id looks further
    than this machine, through huggingface_hub and its cache.

    Raises:
        PretrainedError: nothing there, several files to choose from, or the id's file cannot be fetched.
        CheckpointError: the file cannot be read, or is of no known variant.
    """
    path = Path(model_id)
    if path.is_dir():
        path = export_of(path) if (path / "config.yaml").is_file() else _only_file(path)
    if path.is_file():
        return _variant(path), path
    name = str(model_id)
    if name in RELEASED:
        variant, file = RELEASED[name]
        return variant, _fetch(name, file)
    if path.suffix in _SUFFIXES:
        raise PretrainedError(f"{path} does not exist")
    raise PretrainedError(
        f"{name!r} is neither a weight file or folder nor a released model; known: {', '.join(RELEASED)}"
    )


def _variant(path: Path) -> str:
    """By the run that the file lies in, by its name where it is a released one's, else by what is in it."""
    if (config := config_beside(path)) is not None:
        return str(config)
    try:
        return resolve(path.stem).name
    except UnknownVariantError:
        name = identify(read(path))
    if name is None:
        raise CheckpointError(
            f"{path} has the trunk of no known model ({', '.join(VARIANTS)}); build it with build_sam2(config, path)"
        )
    return name


def export_of(run: Path) -> Path:
    """The weights that a run ended with.

    Raises:
        PretrainedError: it has not ended.
    """
    path = run / "export" / "model.pt"
    if not path.is_file():
        raise PretrainedError(
            f"{run} is a run without export/model.pt, which is written when it ends; name one of its checkpoints, "
            f"such as {run / 'checkpoints' / 'last.ckpt'}"
        )
    return path


def _only_file(folder: Path) -> Path:
    files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise PretrainedError(f"{folder} should hold one weight file ({', '.join(_SUFFIXES)}), found {found}")
    return files[0]


def _fetch(model_id: str, file: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise PretrainedError(
            f"{model_id} needs huggingface_hub to be fetched (pip install huggingface_hub), or pass the path of {file}"
        ) from error
    try:
        return Path(hf_hub_download(repo_id=model_id, filename=file))
    except (OSError, ValueError) as error:
        raise PretrainedError(
            f"{file} of {model_id} is not in the local cache and cannot be fetched ({type(error).__name__}); "
            "without a connection download it elsewhere and pass its path"
        ) from error
