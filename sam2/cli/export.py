"""`sam2 export`: any weights in, the official layout out."""

from __future__ import annotations

import sys
from pathlib import Path


class OutError(ValueError):
    """The file to write cannot be meant."""


def export_file(source: Path, out: Path, name: str | None, overwrite: bool = False) -> int:
    """Read `source`, fit it to the model it belongs to, write `out`.

    Args:
        source: weights of any layout that `sam2.checkpoint.load` takes.
        out: file to write, in the official layout; missing folders are made.
        name: of the variant, or a file or run directory that `build_sam2` takes for it; None: as the run that `source`
            lies in says, else as the tensors' shapes do.
        overwrite: replace `out` if it is there. The input is never replaced.

    Returns:
        The exit code: 0; 1 for files that cannot be read, built or written; 2 for an `out` that cannot be meant.
    """
    try:
        _check_out(source, out, overwrite)
    except OutError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    import torch

    from sam2 import checkpoint
    from sam2.model.sam2 import SAM2
    from sam2.model_config import config_beside, find_recipe
    from sam2.reference_settings import SettingError
    from sam2.variants import UnknownVariantError

    try:
        name = name or str(config_beside(source) or checkpoint.identify(checkpoint.read(source)) or "")
        if not name:
            raise checkpoint.CheckpointError(f"{source} looks like no known model; name it with --model")
        variant = find_recipe(name).variant
        with torch.device("meta"):
            model = SAM2(variant)
        report = checkpoint.load(model, source)
        checkpoint.export(model, out)
    except (checkpoint.CheckpointError, SettingError, UnknownVariantError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{out}: {variant.name}, {variant.image_size} px, {len(report.matched)} tensors; "
        f'build_sam2("{name}", "{out}")'
    )
    return 0


def _check_out(source: Path, out: Path, overwrite: bool) -> None:
    """Refuse, before any work, what must not or cannot be written.

    Raises:
        OutError: saying what to do.
    """
    if out.is_dir():
        raise OutError(f"{out} is a folder; give a file, such as {out / source.stem}.pt")
    if out.exists() and source.exists() and out.samefile(source):
        raise OutError(f"{out} is the input itself; give another file")
    if out.suffix == ".safetensors":
        raise OutError(f"{out}: the official layout is a torch archive; give a name that ends in .pt")
    if out.exists() and not overwrite:
        raise OutError(f"{out} exists; give another file, or --overwrite to replace it")
