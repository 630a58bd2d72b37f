"""What Pillow raises for a file that is no image, or a damaged one."""

import struct
import zlib

from PIL import Image

BROKEN_IMAGE: tuple[type[BaseException], ...] = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,  # where warnings are errors
)
