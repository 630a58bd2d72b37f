"""`sam2 export`: any weights in, the official layout out."""

from __future__ import annotations

import sys
from pathlib import Path


def export_file(source: Path, out: Path, name: str | None) -> int:
    """Read `source`, fit it to the model it belongs to, write `out`.

    Args:
        source: weights of any layout that `sam2.checkpoint.load` takes.
        out: file to write, in the official layout.
        name: of the variant; None: as the tensors' shapes say.

    Returns:
        The exit code.
    """
    from sam2 import checkpoint
    from sam2.model.sam2 import SAM2
    from sam2.variants import UnknownVariantError, resolve

    try:
        name = name or checkpoint.identify(checkpoint.read(source))
        if name is None:
            raise checkpoint.CheckpointError(f"{source} looks like no known model; name it with --model")
        model = SAM2(resolve(name))
        report = checkpoint.load(model, source)
        checkpoint.export(model, out)
    except (checkpoint.CheckpointError, UnknownVariantError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{out}: {name}, {len(report.matched)} tensors")
    return 0
