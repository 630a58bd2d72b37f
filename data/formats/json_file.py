"""JSON files of others: bounded in size, and named in every complaint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data.clip import DataError

MAX_JSON_BYTES = 4 << 30


def read_json(path: Path, most_bytes: int = MAX_JSON_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: missing, too large, or not JSON.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; restore it")
    size = path.stat().st_size
    if size > most_bytes:
        raise DataError(f"{path}: {size} bytes, at most {most_bytes} are accepted; divide it")
    return parse_json(path.read_bytes(), str(path))


def parse_json(raw: bytes, where: str) -> Any:
    """What the bytes of a JSON file are.

    Raises:
        DataError: not JSON.
    """
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}); download or export it again") from error


def read_object(path: Path, most_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """What a JSON file holds, which must be an object; errors as in `read_json`."""
    found = read_json(path, most_bytes)
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds a {type(found).__name__}, expected an object")
    return found
