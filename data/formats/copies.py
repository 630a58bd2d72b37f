"""Copies of one image under several names, which must not be divided between training and evaluation."""

from __future__ import annotations

import re

_ROBOFLOW = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{16,}")


def original_of(stem: str) -> str:
    """What a copy was made from, "" if the name does not say that it is one.

    Roboflow writes every augmented copy of `street.jpg` as `street_jpg.rf.HASH.jpg`.

    Args:
        stem: path of the image in its data set without ending.
    """
    found = _ROBOFLOW.fullmatch(stem.rpartition("/")[2])
    return found[1] if found else ""
