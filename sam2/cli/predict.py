"""`sam2 predict`: point at objects in a video, a folder of images or an image, and get their masks as files."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sam2.cli.predict_options import PredictError, parse


def main(argv: Sequence[str]) -> int:
    """Run the words after `sam2 predict`.

    Returns:
        The exit code: 0; 1 if files cannot be written; 2 for what cannot be meant; 130 after Ctrl-C.
    """
    try:
        options = parse(argv)
        # here, so that help and misspelled words are answered before torch is loaded
        from sam2.cli.prediction import predict

        predict(options)
    except (PredictError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, PredictError) else 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0
