"""Label Studio's own run lengths of brush strokes: a stream of bits that unpacks to the four channels of a picture.

32 bits: number of values; 5: bits of a value - 1; 4 times 4: bits of a length. Then blocks until there are enough
values: 1 bit: 1 for a run of one value, 0 for single values; 2: which of the four lengths; a length - 1; the value or
values. The format is that of rle-pack (thi.ng/umbrella), which Label Studio uses. It has nothing to do with COCO's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.clip import DataError

_BYTE = 8  # bits of a value, the only ones that Label Studio writes


def brush_alpha(found: Any, height: int, width: int, where: str) -> NDArray[np.uint8]:
    """How much of each pixel is covered, the fourth channel: (H, W) from 0 to 255.

    Args:
        found: the list of bytes in the JSON.
        height: of the picture.
        width: of the picture.
        where: file, task and region, for the message.

    Raises:
        DataError: not such a list, cut off, or of another size.
    """
    if not isinstance(found, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in found):
        raise DataError(f"{where}: rle must be a list of bytes, got {str(found)[:60]}; export as JSON")
    bits = _Bits(bytes(found), where)
    values, word = bits.take(32), bits.take(5) + 1
    lengths = [bits.take(4) + 1 for _ in range(4)]
    if values != height * width * 4 or word != _BYTE:
        raise DataError(
            f"{where}: rle holds {values} values of {word} bits, expected 4 x {height} x {width} of 8; "
            "annotate it again"
        )
    flat, at = np.empty(values, np.uint8), 0
    while at < values:
        is_run = bits.take(1)
        end = at + 1 + bits.take(lengths[bits.take(2)])
        if end > values:
            raise DataError(f"{where}: rle has more than {values} values; annotate it again")
        if is_run:
            flat[at:end] = bits.take(_BYTE)
        else:
            block = bits.take(_BYTE * (end - at)).to_bytes(end - at, "big")
            flat[at:end] = np.frombuffer(block, np.uint8)
        at = end
    return flat.reshape(height, width, 4)[..., 3]


class _Bits:
    """Whole numbers from a stream of bits, the highest bit first."""

    def __init__(self, raw: bytes, where: str) -> None:
        self.raw = raw
        self.where = where
        self.at = 0

    def take(self, count: int) -> int:
        """The next `count` bits."""
        end = self.at + count
        if end > 8 * len(self.raw):
            raise DataError(f"{self.where}: rle is cut off; export it again")
        whole = int.from_bytes(self.raw[self.at // 8 : (end + 7) // 8], "big")
        self.at = end
        return whole >> (-end % 8) & ((1 << count) - 1)
